// wkv6 of training, for RWKV-5 and 6: S[i][j] with i the key's index; a vector holds columns j. As in wkv7.h the backward
// runs a few rows of S through a whole chunk, which nothing but sums connects with the others.

static void wkv6(float* y, float* stateOut, float* checkpoints, const float* r, const float* k, const float* v,
                 const float* decay, const float* firsts, const float* state, const int32_t* runs, size_t nRuns,
                 size_t width, size_t nHeads, bool isDecayPerRow) {
  const size_t N = width / nHeads;
  if (stateOut != state) __builtin_memcpy(stateOut, state, nRuns * nHeads * N * N * sizeof(float));
  forChunkedRuns(runs, nRuns, [=](size_t first, size_t end, size_t run, size_t firstChunk) {
    for (size_t head = 0; head < nHeads; head++) {
      float* s = stateOut + (run * nHeads + head) * N * N;
      const float* bonus = firsts + head * N;
      forChunks(first, end, firstChunk, checkpoints, head, nHeads, N, [=](Chunk chunk, float* checkpoint) {
        __builtin_memcpy(checkpoint, s, N * N * sizeof(float));
        for (size_t t = 0; t < chunk.nRows; t++) {
          const size_t at = (chunk.firstRow + t) * width + head * N;
          const float* decays = decay + (isDecayPerRow ? at : head * N);
          forVectors(N, [=](size_t j, size_t n) {
            const V vj = loadUpTo(v + at + j, n);
            V yj = splat(0);
            float* column = s + j;
            for (size_t i = 0; i < N; i++, column += N) {
              const V sij = loadUpTo(column, n);
              const V kv = mul(splat(k[at + i]), vj);
              yj = fma(splat(r[at + i]), fma(splat(bonus[i]), kv, sij), yj);
              storeUpTo(column, fma(splat(decays[i]), sij, kv), n);
            }
            storeUpTo(y + at + j, yj, n);
          });
        }
      });
    }
  });
}

/** What wkv6Backward reads of rows, and where it leaves gradients. */
struct Wkv6 {
  const float *dy, *r, *k, *v, *decay;
  float *dr, *dk, *dDecay;
  size_t width;
  size_t decayWidth;
  uint32_t added;
};

/** ROWS rows of S from row i on through a chunk and back; adds to `dv`, [rows of the chunk, N]. */
template <size_t ROWS>
static void chunkRows6(const Wkv6& wkv, WkvScratch& scratch, float* dv, const float* checkpoint, Chunk chunk, size_t at,
                       size_t N, size_t i) {
  float* history = scratch.history;
  __builtin_memcpy(history, checkpoint + i * N, ROWS * N * sizeof(float));
  for (size_t t = 0; t < chunk.nRows; t++) {
    const size_t row = (chunk.firstRow + t) * wkv.width + at;
    const float* decay = wkv.decay + (chunk.firstRow + t) * wkv.decayWidth + at + i;
    float* state = history + t * ROWS * N;
    forVectors(N, [&](size_t j, size_t n) {
      const V vj = loadUpTo(wkv.v + row + j, n);
      UNROLL for (size_t l = 0; l < ROWS; l++) {
        const V s = loadUpTo(state + l * N + j, n);
        const V next = fma(splat(decay[l]), s, mul(splat(wkv.k[row + i + l]), vj));
        storeUpTo(state + (ROWS + l) * N + j, next, n);
      }
    });
  }
  float* gradient = scratch.gradient + i * N;
  for (size_t t = chunk.nRows; t-- > 0;) {
    const size_t row = (chunk.firstRow + t) * wkv.width + at;
    const size_t decayAt = (chunk.firstRow + t) * wkv.decayWidth + at + i;
    const float* state = history + t * ROWS * N;
    // dr, dk and dDecay, before what `first` adds.
    V sums[3 * ROWS];
    UNROLL for (size_t l = 0; l < 3 * ROWS; l++) sums[l] = splat(0);
    forVectors(N, [&](size_t j, size_t n) {
      const V vj = loadUpTo(wkv.v + row + j, n);
      const V dyj = loadUpTo(wkv.dy + row + j, n);
      V dvj = loadUpTo(dv + t * N + j, n);
      UNROLL for (size_t l = 0; l < ROWS; l++) {
        const V s = loadUpTo(state + l * N + j, n);
        const V g = loadUpTo(gradient + l * N + j, n);
        sums[l] = fma(s, dyj, sums[l]);
        sums[ROWS + l] = fma(g, vj, sums[ROWS + l]);
        sums[2 * ROWS + l] = fma(g, s, sums[2 * ROWS + l]);
        dvj = fma(g, splat(wkv.k[row + i + l]), dvj);
        storeUpTo(gradient + l * N + j, fma(splat(wkv.decay[decayAt + l]), g, mul(splat(wkv.r[row + i + l]), dyj)), n);
      }
      storeUpTo(dv + t * N + j, dvj, n);
    });
    float totals[3 * ROWS];
    sumEach<3 * ROWS>(totals, sums);
    const auto put = [&](float* to, const float* from, bool addToIt) {
      for (size_t l = 0; l < ROWS; l++) to[l] = addToIt ? to[l] + from[l] : from[l];
    };
    put(wkv.dr + row + i, totals, isAdded(wkv.added, 0));
    put(wkv.dk + row + i, totals + ROWS, isAdded(wkv.added, 1));
    if (wkv.dDecay != nullptr) {
      put(wkv.dDecay + decayAt, totals + 2 * ROWS, wkv.decayWidth == 0 || isAdded(wkv.added, 3));
    }
  }
}

/** What `first`, the weight of the present token, adds for one row of one head. */
INLINE void firstBack6(float* dr, float* dk, float* dv, float* dFirst, const float* dy, const float* r, const float* k,
                       const float* v, const float* first, size_t N) {
  const V bonus = splat(sumOver(N, [=](size_t i, size_t n) {
    return mul(mul(loadUpTo(r + i, n), loadUpTo(k + i, n)), loadUpTo(first + i, n));
  }));
  const V along = splat(sumOver(N, [=](size_t i, size_t n) { return mul(loadUpTo(dy + i, n), loadUpTo(v + i, n)); }));
  forVectors(N, [=](size_t i, size_t n) {
    const V ri = loadUpTo(r + i, n);
    const V ki = loadUpTo(k + i, n);
    const V weight = mul(along, loadUpTo(first + i, n));
    setOrAdd(dr + i, mul(weight, ki), n, true);
    setOrAdd(dk + i, mul(weight, ri), n, true);
    setOrAdd(dv + i, mul(bonus, loadUpTo(dy + i, n)), n, true);
    addProduct(dFirst, i, n, mul(along, ri), ki);
  });
}

static void wkv6Backward(float* dr, float* dk, float* dv, float* dDecay, float* dFirst, float* dState, const float* dy,
                         const float* r, const float* k, const float* v, const float* decay, const float* firsts,
                         const float* checkpoints, const int32_t* runs, size_t nRuns, size_t width, size_t nHeads,
                         bool isDecayPerRow, uint32_t added, float* room) {
  const size_t N = width / nHeads;
  WkvScratch& scratch = *scratchAt<WkvScratch>(room);
  const Wkv6 wkv{dy, r, k, v, decay, dr, dk, dDecay, width, isDecayPerRow ? width : 0, added};
  forChunkedRuns(runs, nRuns, [&](size_t first, size_t end, size_t run, size_t firstChunk) {
    for (size_t head = 0; head < nHeads; head++) {
      const size_t at = head * N;
      float* dHead = dState == nullptr ? nullptr : dState + (run * nHeads + head) * N * N;
      startGradient(scratch.gradient, dHead, N * N);
      forChunksBack(first, end, firstChunk, checkpoints, head, nHeads, N, [&](Chunk chunk, const float* checkpoint) {
        float* sumDv = scratch.sums[0];
        __builtin_memset(sumDv, 0, chunk.nRows * N * sizeof(float));
        size_t i = 0;
        for (; i + 4 <= N; i += 4) chunkRows6<4>(wkv, scratch, sumDv, checkpoint, chunk, at, N, i);
        for (; i < N; i++) chunkRows6<1>(wkv, scratch, sumDv, checkpoint, chunk, at, N, i);
        putRows(dv, sumDv, chunk, at, width, N, isAdded(added, 2));
        for (size_t t = 0; t < chunk.nRows; t++) {
          const size_t row = (chunk.firstRow + t) * width + at;
          firstBack6(dr + row, dk + row, dv + row, dFirst == nullptr ? nullptr : dFirst + at, dy + row, r + row,
                     k + row, v + row, firsts + at, N);
        }
      });
      if (dHead != nullptr) __builtin_memcpy(dHead, scratch.gradient, N * N * sizeof(float));
    }
  });
}
