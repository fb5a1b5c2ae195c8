// wkv7 of training. Rows of S are independent of each other but for sums, so that the backward runs a few of them through
// a whole chunk, forward and back, while they are in the nearest cache; a vector holds columns. Sums over rows of S are one
// chain in their order, sums over columns are in lanes.

/** One token forward, ROWS rows of S; the vectors over columns are read once for all of them. b = kk * a. */
template <size_t ROWS>
INLINE void forwardRows7(float* y, float* state, const float* r, const float* w, const float* k, const float* v,
                         const float* kk, const float* b, size_t N) {
  V sums[ROWS];
  UNROLL for (size_t i = 0; i < ROWS; i++) sums[i] = splat(0);
  forVectors(N, [&](size_t j, size_t n) {
    const V kkj = loadUpTo(kk + j, n);
    UNROLL for (size_t i = 0; i < ROWS; i++) sums[i] = fma(loadUpTo(state + i * N + j, n), kkj, sums[i]);
  });
  float removed[ROWS];
  sumEach<ROWS>(removed, sums);
  UNROLL for (size_t i = 0; i < ROWS; i++) sums[i] = splat(0);
  forVectors(N, [&](size_t j, size_t n) {
    const V wj = loadUpTo(w + j, n);
    const V kj = loadUpTo(k + j, n);
    const V rj = loadUpTo(r + j, n);
    const V bj = loadUpTo(b + j, n);
    UNROLL for (size_t i = 0; i < ROWS; i++) {
      float* s = state + i * N + j;
      const V next = fma(loadUpTo(s, n), wj, fnma(splat(removed[i]), bj, mul(splat(v[i]), kj)));
      storeUpTo(s, next, n);
      sums[i] = fma(next, rj, sums[i]);
    }
  });
  sumEach<ROWS>(y, sums);
}

/** b = kk * a of one head. */
INLINE void rates7(float* b, const float* kk, const float* a, size_t N) {
  forVectors(N, [=](size_t j, size_t n) { storeUpTo(b + j, mul(loadUpTo(kk + j, n), loadUpTo(a + j, n)), n); });
}

/** A head size that the compiler knows. */
struct HeadOf32 {
  constexpr operator size_t() const { return 32; }
};

/**
 * Calls f(N). Heads of 32 get code of their own, with loops over a row of S of a known length, which makes the backward a
 * quarter faster. For heads of 64 it made it slower.
 */
template <typename F>
INLINE void withHeadSize(size_t N, F f) {
  if (N == 32) return f(HeadOf32{});
  f(N);
}

static void wkv7(float* y, float* stateOut, float* checkpoints, const float* r, const float* w, const float* k,
                 const float* v, const float* kk, const float* a, const float* state, const int32_t* runs,
                 size_t nRuns, size_t width, size_t nHeads, float* room) {
  const size_t N = width / nHeads;
  float* b = scratchAt<WkvScratch>(room)->rates;
  if (stateOut != state) __builtin_memcpy(stateOut, state, nRuns * nHeads * N * N * sizeof(float));
  forChunkedRuns(runs, nRuns, [=](size_t first, size_t end, size_t run, size_t firstChunk) {
    for (size_t head = 0; head < nHeads; head++) {
      float* s = stateOut + (run * nHeads + head) * N * N;
      forChunks(first, end, firstChunk, checkpoints, head, nHeads, N, [=](Chunk chunk, float* checkpoint) {
        __builtin_memcpy(checkpoint, s, N * N * sizeof(float));
        for (size_t t = 0; t < chunk.nRows; t++) {
          const size_t at = (chunk.firstRow + t) * width + head * N;
          rates7(b, kk + at, a + at, N);
          withHeadSize(N, [=](auto size) {
            size_t i = 0;
            for (; i + 8 <= size; i += 8) {
              forwardRows7<8>(y + at + i, s + i * size, r + at, w + at, k + at, v + at + i, kk + at, b, size);
            }
            for (size_t left = size % 8; left > 0; left--, i++) {
              forwardRows7<1>(y + at + i, s + i * size, r + at, w + at, k + at, v + at + i, kk + at, b, size);
            }
          });
        }
      });
    }
  });
}

/** One token forward again, ROWS rows of S from `state` to `next`: leaves sa and adds to dr = S^T dy. */
template <size_t ROWS>
INLINE void againRows7(float* next, float* sa, float* dr, const float* state, const float* w, const float* k,
                       const float* v, const float* kk, const float* b, const float* dy, size_t N) {
  V sums[ROWS];
  UNROLL for (size_t i = 0; i < ROWS; i++) sums[i] = splat(0);
  forVectors(N, [&](size_t j, size_t n) {
    const V kkj = loadUpTo(kk + j, n);
    UNROLL for (size_t i = 0; i < ROWS; i++) sums[i] = fnma(loadUpTo(state + i * N + j, n), kkj, sums[i]);
  });
  sumEach<ROWS>(sa, sums);
  forVectors(N, [&](size_t j, size_t n) {
    const V wj = loadUpTo(w + j, n);
    const V kj = loadUpTo(k + j, n);
    const V bj = loadUpTo(b + j, n);
    V drj = loadUpTo(dr + j, n);
    UNROLL for (size_t i = 0; i < ROWS; i++) {
      const V s = fma(loadUpTo(state + i * N + j, n), wj, fma(splat(sa[i]), bj, mul(splat(v[i]), kj)));
      storeUpTo(next + i * N + j, s, n);
      drj = fma(s, splat(dy[i]), drj);
    }
    storeUpTo(dr + j, drj, n);
  });
}

/** Rows of one token that a step back reads, and the sums over rows of S that it adds to. */
struct Back7 {
  const float *r, *w, *k, *kk, *b;
  float *dk, *db, *dw, *dRemoval;
};

/** One token back, ROWS rows of S: `state` before it, `gradient` of S after it on entry, before it on return. */
template <size_t ROWS>
INLINE void backRows7(const Back7& row, float* dv, float* gradient, const float* state, const float* sa,
                      const float* v, const float* dy, size_t N, bool addToV) {
  // dv, then dsa, so that both are summed at once.
  V sums[2 * ROWS];
  UNROLL for (size_t i = 0; i < 2 * ROWS; i++) sums[i] = splat(0);
  forVectors(N, [&](size_t j, size_t n) {
    const V rj = loadUpTo(row.r + j, n);
    const V kj = loadUpTo(row.k + j, n);
    const V bj = loadUpTo(row.b + j, n);
    V dkj = loadUpTo(row.dk + j, n);
    V dbj = loadUpTo(row.db + j, n);
    UNROLL for (size_t i = 0; i < ROWS; i++) {
      const V g = fma(splat(dy[i]), rj, loadUpTo(gradient + i * N + j, n));
      storeUpTo(gradient + i * N + j, g, n);
      sums[i] = fma(g, kj, sums[i]);
      sums[ROWS + i] = fma(g, bj, sums[ROWS + i]);
      dkj = fma(g, splat(v[i]), dkj);
      dbj = fma(g, splat(sa[i]), dbj);
    }
    storeUpTo(row.dk + j, dkj, n);
    storeUpTo(row.db + j, dbj, n);
  });
  float totals[2 * ROWS];
  sumEach<2 * ROWS>(totals, sums);
  UNROLL for (size_t i = 0; i < ROWS; i++) dv[i] = addToV ? dv[i] + totals[i] : totals[i];
  const float* dsa = totals + ROWS;
  forVectors(N, [&](size_t j, size_t n) {
    const V wj = loadUpTo(row.w + j, n);
    const V kkj = loadUpTo(row.kk + j, n);
    V dwj = loadUpTo(row.dw + j, n);
    V dRemovalj = loadUpTo(row.dRemoval + j, n);
    UNROLL for (size_t i = 0; i < ROWS; i++) {
      const V before = loadUpTo(state + i * N + j, n);
      const V g = loadUpTo(gradient + i * N + j, n);
      const V dsai = splat(dsa[i]);
      dwj = fma(g, before, dwj);
      dRemovalj = fma(before, dsai, dRemovalj);
      storeUpTo(gradient + i * N + j, fnma(dsai, kkj, mul(g, wj)), n);
    }
    storeUpTo(row.dw + j, dwj, n);
    storeUpTo(row.dRemoval + j, dRemovalj, n);
  });
}

/** The gradients of rows that wkv7Backward leaves, and whether they are added to. */
struct Gradients7 {
  float *dr, *dw, *dk, *dv, *dkk, *da;
  uint32_t added;
};

/** The rows that it reads. */
struct Inputs7 {
  const float *dy, *r, *w, *k, *v, *kk, *a;
  size_t width;
};

/** ROWS rows of S from row i on through a chunk, from its checkpoint to its end and back. */
template <size_t ROWS, typename SIZE>
static void chunkRows7(const Inputs7& in, const Gradients7& out, WkvScratch& scratch, const float* checkpoint,
                       Chunk chunk, size_t at, SIZE N, size_t i) {
  constexpr size_t STEP = ROWS < 4 ? ROWS : 4;
  auto& [dr, dw, dk, db, dRemoval] = scratch.sums;
  float* history = scratch.history;
  __builtin_memcpy(history, checkpoint + i * N, ROWS * N * sizeof(float));
  for (size_t t = 0; t < chunk.nRows; t++) {
    const size_t row = (chunk.firstRow + t) * in.width + at;
    float* state = history + t * ROWS * N;
    againRows7<ROWS>(state + ROWS * N, scratch.removed + t * ROWS, dr + t * N, state, in.w + row, in.k + row,
                     in.v + row + i, in.kk + row, scratch.rates + t * N, in.dy + row + i, N);
  }
  for (size_t t = chunk.nRows; t-- > 0;) {
    const size_t row = (chunk.firstRow + t) * in.width + at;
    const Back7 back{in.r + row,  in.w + row, in.k + row, in.kk + row,     scratch.rates + t * N,
                     dk + t * N,  db + t * N, dw + t * N, dRemoval + t * N};
    for (size_t s = 0; s < ROWS; s += STEP) {
      backRows7<STEP>(back, out.dv + row + i + s, scratch.gradient + (i + s) * N, history + (t * ROWS + s) * N,
                      scratch.removed + t * ROWS + s, in.v + row + i + s, in.dy + row + i + s, N,
                      isAdded(out.added, 3));
    }
  }
}

static void wkv7Backward(float* dr, float* dw, float* dk, float* dv, float* dkk, float* da, float* dState,
                         const float* dy, const float* r, const float* w, const float* k, const float* v,
                         const float* kk, const float* a, const float* checkpoints, const int32_t* runs, size_t nRuns,
                         size_t width, size_t nHeads, uint32_t added, float* room) {
  const size_t N = width / nHeads;
  WkvScratch& scratch = *scratchAt<WkvScratch>(room);
  const Inputs7 in{dy, r, w, k, v, kk, a, width};
  const Gradients7 out{dr, dw, dk, dv, dkk, da, added};
  forChunkedRuns(runs, nRuns, [&](size_t first, size_t end, size_t run, size_t firstChunk) {
    for (size_t head = 0; head < nHeads; head++) {
      const size_t at = head * N;
      float* dHead = dState == nullptr ? nullptr : dState + (run * nHeads + head) * N * N;
      startGradient(scratch.gradient, dHead, N * N);
      forChunksBack(first, end, firstChunk, checkpoints, head, nHeads, N, [&](Chunk chunk, const float* checkpoint) {
        for (size_t t = 0; t < chunk.nRows; t++) {
          const size_t row = (chunk.firstRow + t) * width + at;
          rates7(scratch.rates + t * N, kk + row, a + row, N);
        }
        for (float* sums : scratch.sums) __builtin_memset(sums, 0, chunk.nRows * N * sizeof(float));
        withHeadSize(N, [&](auto size) {
          size_t i = 0;
          for (; i + WKV_ROWS <= size; i += WKV_ROWS) {
            chunkRows7<WKV_ROWS>(in, out, scratch, checkpoint, chunk, at, size, i);
          }
          for (size_t left = size % WKV_ROWS; left > 0; left--, i++) {
            chunkRows7<1>(in, out, scratch, checkpoint, chunk, at, size, i);
          }
        });

        auto& [sumDr, sumDw, sumDk, sumDb, sumRemoval] = scratch.sums;
        putRows(dr, sumDr, chunk, at, width, N, isAdded(added, 0));
        putRows(dw, sumDw, chunk, at, width, N, isAdded(added, 1));
        putRows(dk, sumDk, chunk, at, width, N, isAdded(added, 2));
        for (size_t t = 0; t < chunk.nRows; t++) {
          const size_t row = (chunk.firstRow + t) * width + at;
          forVectors(N, [&](size_t j, size_t n) {
            const V db = loadUpTo(sumDb + t * N + j, n);
            const V removal = loadUpTo(sumRemoval + t * N + j, n);
            const V dkkj = sub(mul(db, loadUpTo(a + row + j, n)), removal);
            setOrAdd(dkk + row + j, dkkj, n, isAdded(added, 4));
            setOrAdd(da + row + j, mul(db, loadUpTo(kk + row + j, n)), n, isAdded(added, 5));
          });
        }
      });
      if (dHead != nullptr) __builtin_memcpy(dHead, scratch.gradient, N * N * sizeof(float));
    }
  });
}
