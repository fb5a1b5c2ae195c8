// norm, l2NormHeads and addBonus: whatever sums over a row or a head, forward and backward. Sums are f32, in the order of
// `sumOver`; a norm takes the mean off before it squares, so that a large mean costs no digits of the variance.

static void norm(float* out, float* stats, const float* x, const float* weight, const float* bias, size_t nRows,
                 size_t width, size_t nGroups, float eps) {
  const size_t N = width / nGroups;
  const float count = static_cast<float>(N);
  for (size_t row = 0; row < nRows; row++) {
    for (size_t group = 0; group < nGroups; group++, stats += 2) {
      const size_t first = group * N;
      const float* from = x + row * width + first;
      float* to = out + row * width + first;
      const float mean = sumOver(N, [=](size_t i, size_t n) { return loadUpTo(from + i, n); }) / count;
      const V means = splat(mean);
      // Lanes behind the last element must not count as differences from the mean.
      const float squares = sumOver(N, [=](size_t i, size_t n) {
        const V difference = sub(loadUpTo(from + i, n), n == W ? means : firstOf(means, n));
        return mul(difference, difference);
      });
      const float inverse = 1 / __builtin_sqrtf(squares / count + eps);
      stats[0] = mean;
      stats[1] = inverse;
      const V scale = splat(inverse);
      forVectors(N, [=](size_t i, size_t n) {
        const V u = mul(sub(loadUpTo(from + i, n), means), scale);
        storeUpTo(to + i, fma(u, loadUpTo(weight + first + i, n), loadUpTo(bias + first + i, n)), n);
      });
    }
  }
}

static void normBackward(float* dx, float* dWeight, float* dBias, const float* dOut, const float* x,
                         const float* stats, const float* weight, size_t nRows, size_t width, size_t nGroups,
                         uint32_t added) {
  const size_t N = width / nGroups;
  const float count = static_cast<float>(N);
  for (size_t row = 0; row < nRows; row++) {
    for (size_t group = 0; group < nGroups; group++, stats += 2) {
      const size_t first = group * N;
      const size_t at = row * width + first;
      const V mean = splat(stats[0]);
      const V inverse = splat(stats[1]);
      const auto unit = [=](size_t i, size_t n) { return mul(sub(loadUpTo(x + at + i, n), mean), inverse); };
      const auto gradient = [=](size_t i, size_t n) {
        return mul(loadUpTo(dOut + at + i, n), loadUpTo(weight + first + i, n));
      };
      const float sumG = sumOver(N, gradient);
      const float sumGu = sumOver(N, [=](size_t i, size_t n) { return mul(gradient(i, n), unit(i, n)); });
      const V meanG = splat(sumG / count);
      const V meanGu = splat(sumGu / count);
      forVectors(N, [=](size_t i, size_t n) {
        const V u = unit(i, n);
        const V d = loadUpTo(dOut + at + i, n);
        addProduct(dWeight, first + i, n, d, u);
        if (dBias != nullptr) setOrAdd(dBias + first + i, d, n, true);
        const V rest = fnma(u, meanGu, sub(mul(d, loadUpTo(weight + first + i, n)), meanG));
        setOrAdd(dx + at + i, mul(inverse, rest), n, isAdded(added, 0));
      });
    }
  }
}

static void l2NormHeads(float* out, float* inverses, const float* x, const float* scale, size_t nRows, size_t width,
                        size_t nHeads, float eps) {
  const size_t N = width / nHeads;
  for (size_t row = 0; row < nRows; row++) {
    for (size_t head = 0; head < nHeads; head++) {
      const float* from = x + row * width + head * N;
      const float* scales = scale + head * N;
      float* to = out + row * width + head * N;
      const auto unscaled = [=](size_t i, size_t n) { return mul(loadUpTo(from + i, n), loadUpTo(scales + i, n)); };
      const float length = __builtin_sqrtf(sumOver(N, [=](size_t i, size_t n) {
        const V u = unscaled(i, n);
        return mul(u, u);
      }));
      const float inverse = 1 / (length > eps ? length : eps);
      inverses[row * nHeads + head] = inverse;
      const V factor = splat(inverse);
      forVectors(N, [=](size_t i, size_t n) { storeUpTo(to + i, mul(unscaled(i, n), factor), n); });
    }
  }
}

static void l2NormHeadsBackward(float* dx, float* dScale, const float* dOut, const float* out, const float* inverses,
                                const float* x, const float* scale, size_t nRows, size_t width, size_t nHeads,
                                float eps, uint32_t added) {
  const size_t N = width / nHeads;
  for (size_t row = 0; row < nRows; row++) {
    for (size_t head = 0; head < nHeads; head++) {
      const size_t first = head * N;
      const size_t at = row * width + first;
      const float inverse = inverses[row * nHeads + head];
      const auto product = [=](size_t i, size_t n) {
        return mul(loadUpTo(dOut + at + i, n), loadUpTo(out + at + i, n));
      };
      // A vector shorter than eps was divided by a constant.
      const V along = splat(inverse < 1 / eps ? sumOver(N, product) : 0);
      const V factor = splat(inverse);
      forVectors(N, [=](size_t i, size_t n) {
        const V du = mul(factor, fnma(loadUpTo(out + at + i, n), along, loadUpTo(dOut + at + i, n)));
        addProduct(dScale, first + i, n, du, loadUpTo(x + at + i, n));
        setOrAdd(dx + at + i, mul(du, loadUpTo(scale + first + i, n)), n, isAdded(added, 0));
      });
    }
  }
}

static void addBonus(float* out, const float* y, const float* r, const float* k, const float* v, const float* rK,
                     size_t nRows, size_t width, size_t nHeads) {
  const size_t N = width / nHeads;
  for (size_t row = 0; row < nRows; row++) {
    for (size_t head = 0; head < nHeads; head++) {
      const size_t first = head * N;
      const size_t at = row * width + first;
      const V bonus = splat(sumOver(N, [=](size_t i, size_t n) {
        return mul(mul(loadUpTo(r + at + i, n), loadUpTo(k + at + i, n)), loadUpTo(rK + first + i, n));
      }));
      forVectors(N, [=](size_t i, size_t n) {
        storeUpTo(out + at + i, fma(bonus, loadUpTo(v + at + i, n), loadUpTo(y + at + i, n)), n);
      });
    }
  }
}

static void addBonusBackward(float* dr, float* dk, float* dv, float* dRK, const float* dOut, const float* r,
                             const float* k, const float* v, const float* rK, size_t nRows, size_t width,
                             size_t nHeads, uint32_t added) {
  const size_t N = width / nHeads;
  for (size_t row = 0; row < nRows; row++) {
    for (size_t head = 0; head < nHeads; head++) {
      const size_t first = head * N;
      const size_t at = row * width + first;
      const V bonus = splat(sumOver(N, [=](size_t i, size_t n) {
        return mul(mul(loadUpTo(r + at + i, n), loadUpTo(k + at + i, n)), loadUpTo(rK + first + i, n));
      }));
      const V dBonus = splat(sumOver(
          N, [=](size_t i, size_t n) { return mul(loadUpTo(dOut + at + i, n), loadUpTo(v + at + i, n)); }));
      forVectors(N, [=](size_t i, size_t n) {
        const V rI = loadUpTo(r + at + i, n);
        const V kI = loadUpTo(k + at + i, n);
        const V weight = mul(dBonus, loadUpTo(rK + first + i, n));
        addProduct(dRK, first + i, n, mul(dBonus, rI), kI);
        setOrAdd(dr + at + i, mul(weight, kI), n, isAdded(added, 0));
        setOrAdd(dk + at + i, mul(weight, rI), n, isAdded(added, 1));
        setOrAdd(dv + at + i, mul(bonus, loadUpTo(dOut + at + i, n)), n, isAdded(added, 2));
      });
    }
  }
}
