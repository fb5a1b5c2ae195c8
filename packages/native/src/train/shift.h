// Token shifts per run, forward and backward: all mixes of a row in one pass, so that x is read once.

/** Calls f(first row, end row, run) for each run. */
template <typename F>
INLINE void forRuns(const int32_t* runs, size_t nRuns, F f) {
  for (size_t run = 0; run < nRuns; run++) {
    f(static_cast<size_t>(runs[run]), static_cast<size_t>(runs[run + 1]), run);
  }
}

/** The row before `row` of a run that begins at `first`. */
INLINE const float* rowBefore(const float* x, const float* shift, size_t row, size_t first, size_t run, size_t width) {
  return row > first ? x + (row - 1) * width : shift + run * width;
}

INLINE void keepLastRow(float* shiftOut, const float* x, const float* shift, size_t first, size_t end, size_t run,
                        size_t width) {
  __builtin_memmove(shiftOut + run * width, rowBefore(x, shift, end, first, run, width), width * sizeof(float));
}

static void tokenShift(float* const* outs, float* shiftOut, const float* x, const float* shift, float* const* mix,
                       size_t nOuts, const int32_t* runs, size_t nRuns, size_t width) {
  forRuns(runs, nRuns, [=](size_t first, size_t end, size_t run) {
    for (size_t row = first; row < end; row++) {
      const float* now = x + row * width;
      const float* before = rowBefore(x, shift, row, first, run, width);
      forVectors(width, [=](size_t i, size_t n) {
        const V xi = loadUpTo(now + i, n);
        const V delta = sub(loadUpTo(before + i, n), xi);
        for (size_t o = 0; o < nOuts; o++) {
          storeUpTo(outs[o] + row * width + i, fma(delta, loadUpTo(mix[o] + i, n), xi), n);
        }
      });
    }
    keepLastRow(shiftOut, x, shift, first, end, run, width);
  });
}

static void tokenShiftBackward(float* dx, float* dShift, float* const* dMix, float* const* dOuts, const float* x,
                               const float* shift, float* const* mix, size_t nOuts, const int32_t* runs, size_t nRuns,
                               size_t width, uint32_t added) {
  forRuns(runs, nRuns, [=](size_t first, size_t end, size_t run) {
    if (first == end) return;
    float* dState = dShift == nullptr ? nullptr : dShift + run * width;
    for (size_t row = first; row < end; row++) {
      const float* now = x + row * width;
      const float* before = rowBefore(x, shift, row, first, run, width);
      const bool isLast = row + 1 == end;
      forVectors(width, [=](size_t i, size_t n) {
        const size_t at = row * width + i;
        const V delta = sub(loadUpTo(before + i, n), loadUpTo(now + i, n));
        V own = splat(0);
        V next = isLast && dState != nullptr ? loadUpTo(dState + i, n) : splat(0);
        for (size_t o = 0; o < nOuts; o++) {
          const V d = loadUpTo(dOuts[o] + at, n);
          const V share = loadUpTo(mix[o] + i, n);
          own = add(own, fnma(d, share, d));
          if (!isLast) next = fma(loadUpTo(dOuts[o] + at + width, n), share, next);
          addProduct(dMix[o], i, n, d, delta);
        }
        setOrAdd(dx + at, add(own, next), n, isAdded(added, 0));
      });
    }
    if (dState == nullptr) return;
    forVectors(width, [=](size_t i, size_t n) {
      V d = splat(0);
      for (size_t o = 0; o < nOuts; o++) d = fma(loadUpTo(dOuts[o] + first * width + i, n), loadUpTo(mix[o] + i, n), d);
      storeUpTo(dState + i, d, n);
    });
  });
}

static void shiftDelta(float* out, float* shiftOut, const float* x, const float* shift, const int32_t* runs,
                       size_t nRuns, size_t width) {
  forRuns(runs, nRuns, [=](size_t first, size_t end, size_t run) {
    for (size_t row = first; row < end; row++) {
      const float* before = rowBefore(x, shift, row, first, run, width);
      forVectors(width, [=](size_t i, size_t n) {
        storeUpTo(out + row * width + i, sub(loadUpTo(before + i, n), loadUpTo(x + row * width + i, n)), n);
      });
    }
    keepLastRow(shiftOut, x, shift, first, end, run, width);
  });
}

static void shiftDeltaBackward(float* dx, float* dShift, const float* dOut, const int32_t* runs, size_t nRuns,
                               size_t width, uint32_t added) {
  forRuns(runs, nRuns, [=](size_t first, size_t end, size_t run) {
    if (first == end) return;
    float* dState = dShift == nullptr ? nullptr : dShift + run * width;
    for (size_t row = first; row < end; row++) {
      const float* next = row + 1 < end ? dOut + (row + 1) * width : dState;
      forVectors(width, [=](size_t i, size_t n) {
        const size_t at = row * width + i;
        const V after = next == nullptr ? splat(0) : loadUpTo(next + i, n);
        setOrAdd(dx + at, sub(after, loadUpTo(dOut + at, n)), n, isAdded(added, 0));
      });
    }
    if (dState != nullptr) __builtin_memcpy(dState, dOut + first * width, width * sizeof(float));
  });
}
