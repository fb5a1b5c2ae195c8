// Operations on single elements, forward and backward. The maths is in kernels.ts of rwkv-train, as of all of train/.

INLINE size_t least(size_t a, size_t b) { return a < b ? a : b; }

/** T in the caller's room, from the next cache line on. */
template <typename T>
INLINE T* scratchAt(float* room) {
  return reinterpret_cast<T*>((reinterpret_cast<uintptr_t>(room) + 63) & ~uintptr_t{63});
}

/** Whether the i-th gradient of rows is added to, not set. */
INLINE bool isAdded(uint32_t added, uint32_t i) { return (added >> i & 1) != 0; }

INLINE void setOrAdd(float* to, V v, size_t n, bool addToIt) {
  storeUpTo(to, addToIt ? add(loadUpTo(to, n), v) : v, n);
}

/** The first n lanes, zeros behind them. */
INLINE V firstOf(V v, size_t n) {
  float lanes[W];
  store(lanes, v);
  return loadFirst(lanes, n);
}

/** The gradient of a weight: to += a * b, unless it is not wanted. */
INLINE void addProduct(float* to, size_t i, size_t n, V a, V b) {
  if (to != nullptr) storeUpTo(to + i, fma(a, b, loadUpTo(to + i, n)), n);
}

/** f(0) + ... + f(n - 1), a vector at a time: four sums of every fourth vector while there are four, then lanes. */
template <typename F>
INLINE float sumOver(size_t n, F f) {
  V sums[4] = {splat(0), splat(0), splat(0), splat(0)};
  size_t i = 0;
  for (; i + 4 * W <= n; i += 4 * W) {
    UNROLL for (size_t l = 0; l < 4; l++) sums[l] = add(sums[l], f(i + l * W, W));
  }
  forVectors(n - i, [&](size_t rest, size_t m) { sums[0] = add(sums[0], f(i + rest, m)); });
  return sum(add(add(sums[0], sums[1]), add(sums[2], sums[3])));
}

static void addScaled(float* out, const float* x, const float* y, float scale, size_t nElements) {
  const V factor = splat(scale);
  forVectors(nElements, [=](size_t i, size_t n) {
    storeUpTo(out + i, fma(loadUpTo(y + i, n), factor, loadUpTo(x + i, n)), n);
  });
}

static void mulRows(float* out, const float* x, const float* y, size_t nElements) {
  forVectors(nElements,
             [=](size_t i, size_t n) { storeUpTo(out + i, mul(loadUpTo(x + i, n), loadUpTo(y + i, n)), n); });
}

static void mulBackward(float* dx, float* dy, const float* dOut, const float* x, const float* y, size_t nElements,
                        uint32_t added) {
  forVectors(nElements, [=](size_t i, size_t n) {
    // All is read before dx, which may be dOut, is written.
    const V d = loadUpTo(dOut + i, n);
    const V dxi = mul(d, loadUpTo(y + i, n));
    const V dyi = mul(d, loadUpTo(x + i, n));
    setOrAdd(dx + i, dxi, n, isAdded(added, 0));
    setOrAdd(dy + i, dyi, n, isAdded(added, 1));
  });
}

static void lerp(float* out, const float* x, const float* target, const float* weight, size_t nElements) {
  forVectors(nElements, [=](size_t i, size_t n) {
    const V xi = loadUpTo(x + i, n);
    storeUpTo(out + i, fma(sub(loadUpTo(target + i, n), xi), loadUpTo(weight + i, n), xi), n);
  });
}

static void lerpBackward(float* dx, float* dTarget, float* dWeight, const float* dOut, const float* x,
                         const float* target, const float* weight, size_t nElements, uint32_t added) {
  forVectors(nElements, [=](size_t i, size_t n) {
    const V d = loadUpTo(dOut + i, n);
    const V toTarget = mul(d, loadUpTo(weight + i, n));
    const V difference = sub(loadUpTo(target + i, n), loadUpTo(x + i, n));
    setOrAdd(dx + i, sub(d, toTarget), n, isAdded(added, 0));
    setOrAdd(dTarget + i, toTarget, n, isAdded(added, 1));
    setOrAdd(dWeight + i, mul(d, difference), n, isAdded(added, 2));
  });
}

static void addMul(float* out, const float* x, const float* a, const float* b, size_t nElements, size_t bElements) {
  for (size_t row = 0; row < nElements; row += bElements) {
    forVectors(bElements, [=](size_t i, size_t n) {
      const size_t at = row + i;
      storeUpTo(out + at, fma(loadUpTo(a + at, n), loadUpTo(b + i, n), loadUpTo(x + at, n)), n);
    });
  }
}

static void addMulBackward(float* da, float* db, const float* dOut, const float* a, const float* b, size_t nElements,
                           size_t bElements, uint32_t added) {
  const bool addToB = bElements < nElements || isAdded(added, 1);
  for (size_t row = 0; row < nElements; row += bElements) {
    forVectors(bElements, [=](size_t i, size_t n) {
      const size_t at = row + i;
      const V d = loadUpTo(dOut + at, n);
      setOrAdd(da + at, mul(d, loadUpTo(b + i, n)), n, isAdded(added, 0));
      if (db != nullptr) setOrAdd(db + i, mul(d, loadUpTo(a + at, n)), n, addToB);
    });
  }
}

static void scaleKey(float* out, const float* k, const float* a, const float* kA, size_t nRows, size_t width) {
  for (size_t row = 0; row < nRows * width; row += width) {
    forVectors(width, [=](size_t i, size_t n) {
      const V factor = fma(sub(loadUpTo(a + row + i, n), splat(1)), loadUpTo(kA + i, n), splat(1));
      storeUpTo(out + row + i, mul(loadUpTo(k + row + i, n), factor), n);
    });
  }
}

static void scaleKeyBackward(float* dk, float* da, float* dKA, const float* dOut, const float* k, const float* a,
                             const float* kA, size_t nRows, size_t width, uint32_t added) {
  for (size_t row = 0; row < nRows * width; row += width) {
    forVectors(width, [=](size_t i, size_t n) {
      const size_t at = row + i;
      const V d = loadUpTo(dOut + at, n);
      const V less = sub(loadUpTo(a + at, n), splat(1));
      const V kAi = loadUpTo(kA + i, n);
      const V dFactor = mul(d, loadUpTo(k + at, n));
      setOrAdd(dk + at, mul(d, fma(less, kAi, splat(1))), n, isAdded(added, 0));
      setOrAdd(da + at, mul(dFactor, kAi), n, isAdded(added, 1));
      addProduct(dKA, i, n, dFactor, less);
    });
  }
}
