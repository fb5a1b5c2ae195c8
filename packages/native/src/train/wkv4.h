// wkv4 of training: a vector of channels at a time through a whole run. Its backward keeps aa, bb and pp of every row in
// `room`, [3, rows of the longest run, W].

struct Wkv4Step {
  /** Weights of the old sums and of the present token. */
  V old, fresh;
};

INLINE Wkv4Step step4(V older, V newer, V greatest) {
  return {exp(sub(older, greatest)), exp(sub(newer, greatest))};
}

static void wkv4(float* y, float* aaOut, float* bbOut, float* ppOut, const float* k, const float* v,
                 const float* decays, const float* firsts, const float* aaIn, const float* bbIn, const float* ppIn,
                 const int32_t* runs, size_t nRuns, size_t width) {
  forRuns(runs, nRuns, [=](size_t firstRow, size_t end, size_t run) {
    forVectors(width, [=](size_t i, size_t n) {
      const size_t stateAt = run * width + i;
      const V decay = loadUpTo(decays + i, n);
      const V first = loadUpTo(firsts + i, n);
      V aa = loadUpTo(aaIn + stateAt, n);
      V bb = loadUpTo(bbIn + stateAt, n);
      V pp = loadUpTo(ppIn + stateAt, n);
      for (size_t row = firstRow; row < end; row++) {
        const size_t at = row * width + i;
        const V ki = loadUpTo(k + at, n);
        const V vi = loadUpTo(v + at, n);
        const V now = add(first, ki);
        const Wkv4Step out = step4(pp, now, max(pp, now));
        storeUpTo(y + at, div(fma(out.old, aa, mul(out.fresh, vi)), fma(out.old, bb, out.fresh)), n);
        const V decayed = add(pp, decay);
        pp = max(decayed, ki);
        const Wkv4Step next = step4(decayed, ki, pp);
        aa = fma(next.old, aa, mul(next.fresh, vi));
        bb = fma(next.old, bb, next.fresh);
      }
      storeUpTo(aaOut + stateAt, aa, n);
      storeUpTo(bbOut + stateAt, bb, n);
      storeUpTo(ppOut + stateAt, pp, n);
    });
  });
}

static void wkv4Backward(float* dk, float* dv, float* dDecay, float* dFirst, float* dAa, float* dBb, const float* dy,
                         const float* k, const float* v, const float* decays, const float* firsts, const float* aaIn,
                         const float* bbIn, const float* ppIn, const int32_t* runs, size_t nRuns, size_t width,
                         uint32_t added, float* room) {
  forRuns(runs, nRuns, [=](size_t firstRow, size_t end, size_t run) {
    const size_t nRows = end - firstRow;
    float* aas = room;
    float* bbs = aas + nRows * W;
    float* pps = bbs + nRows * W;
    forVectors(width, [=](size_t i, size_t n) {
      const size_t stateAt = run * width + i;
      const V decay = loadUpTo(decays + i, n);
      const V first = loadUpTo(firsts + i, n);
      V aa = loadUpTo(aaIn + stateAt, n);
      V bb = loadUpTo(bbIn + stateAt, n);
      V pp = loadUpTo(ppIn + stateAt, n);
      for (size_t t = 0; t < nRows; t++) {
        store(aas + t * W, aa);
        store(bbs + t * W, bb);
        store(pps + t * W, pp);
        const size_t at = (firstRow + t) * width + i;
        const V ki = loadUpTo(k + at, n);
        const V decayed = add(pp, decay);
        pp = max(decayed, ki);
        const Wkv4Step next = step4(decayed, ki, pp);
        aa = fma(next.old, aa, mul(next.fresh, loadUpTo(v + at, n)));
        bb = fma(next.old, bb, next.fresh);
      }
      V dAaI = dAa == nullptr ? splat(0) : loadUpTo(dAa + stateAt, n);
      V dBbI = dBb == nullptr ? splat(0) : loadUpTo(dBb + stateAt, n);
      V dDecayI = splat(0);
      V dFirstI = splat(0);
      for (size_t t = nRows; t-- > 0;) {
        const size_t at = (firstRow + t) * width + i;
        aa = load(aas + t * W);
        bb = load(bbs + t * W);
        pp = load(pps + t * W);
        const V ki = loadUpTo(k + at, n);
        const V vi = loadUpTo(v + at, n);

        const V now = add(first, ki);
        const Wkv4Step out = step4(pp, now, max(pp, now));
        const V q = div(splat(1), fma(out.old, bb, out.fresh));
        const V y = mul(fma(out.old, aa, mul(out.fresh, vi)), q);
        const V dyq = mul(loadUpTo(dy + at, n), q);
        const V dNow = mul(mul(dyq, out.fresh), sub(vi, y));
        dFirstI = add(dFirstI, dNow);

        const V decayed = add(pp, decay);
        const Wkv4Step next = step4(decayed, ki, max(decayed, ki));
        const V dFresh = fma(dAaI, vi, dBbI);
        setOrAdd(dk + at, fma(next.fresh, dFresh, dNow), n, isAdded(added, 0));
        setOrAdd(dv + at, fma(dAaI, next.fresh, mul(dyq, out.fresh)), n, isAdded(added, 1));
        dDecayI = fma(next.old, fma(dAaI, aa, mul(dBbI, bb)), dDecayI);
        const V fromOut = mul(dyq, out.old);
        dAaI = fma(next.old, dAaI, fromOut);
        dBbI = fnma(fromOut, y, mul(next.old, dBbI));
      }
      if (dAa != nullptr) storeUpTo(dAa + stateAt, dAaI, n);
      if (dBb != nullptr) storeUpTo(dBb + stateAt, dBbI, n);
      if (dDecay != nullptr) setOrAdd(dDecay + i, dDecayI, n, true);
      if (dFirst != nullptr) setOrAdd(dFirst + i, dFirstI, n, true);
    });
  });
}
