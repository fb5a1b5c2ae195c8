// The recurrences of RWKV-4, of RWKV-5 and 6, and of RWKV-7, per run, in f32. A part is a range of heads (of channels
// for wkv4); within it all tokens of a run pass over one head, whose state stays in the nearest cache.
// Formulas and sources: ops/ops.ts of rwkv.

static void wkv4(const Command& command, const Thread& thread) {
  const Tensor ys = command.operand(0);
  const Tensor ks = command.operand(4);
  const Tensor vs = command.operand(5);
  const float* decays = command.row(command.operand(6), 0);
  const float* firsts = command.row(command.operand(7), 0);
  const Range columns = rangeOf(ys.width, command.granule(), thread);
  for (size_t r = 0; r < command.nRuns(); r++) {
    const Run run = command.run(r);
    float* aaState = command.state(run, command.operand(1));
    float* bbState = command.state(run, command.operand(2));
    float* ppState = command.state(run, command.operand(3));
    forVectors(columns.length(), [&](size_t i, size_t n) {
      const size_t at = columns.first + i;
      const V decay = loadUpTo(decays + at, n);
      const V first = loadUpTo(firsts + at, n);
      V aa = loadUpTo(aaState + at, n);
      V bb = loadUpTo(bbState + at, n);
      V pp = loadUpTo(ppState + at, n);
      for (size_t row = run.firstRow; row < run.endRow; row++) {
        const V k = loadUpTo(command.row(ks, row) + at, n);
        const V v = loadUpTo(command.row(vs, row) + at, n);

        const V now = add(first, k);
        V m = max(pp, now);
        V old = exp(sub(pp, m));
        V fresh = exp(sub(now, m));
        const V total = fma(old, aa, mul(fresh, v));
        storeUpTo(command.row(ys, row) + at, div(total, fma(old, bb, fresh)), n);

        const V decayed = add(pp, decay);
        m = max(decayed, k);
        old = exp(sub(decayed, m));
        fresh = exp(sub(k, m));
        aa = fma(old, aa, mul(fresh, v));
        bb = fma(old, bb, fresh);
        pp = m;
      }
      storeUpTo(aaState + at, aa, n);
      storeUpTo(bbState + at, bb, n);
      storeUpTo(ppState + at, pp, n);
    });
  }
}

/** Calls f(row, offset of the head, its state, N) for all tokens of a run, head by head. */
template <typename F>
INLINE void forHeadStates(const Command& command, const Thread& thread, F f) {
  const size_t nHeads = command.heads();
  const size_t N = command.operand(0).width / nHeads;
  const Range columns = rangeOf(N * nHeads, command.granule(), thread);
  const Range heads{columns.first / N, columns.end / N};
  const Tensor states = command.operand(1);
  for (size_t r = 0; r < command.nRuns(); r++) {
    const Run run = command.run(r);
    for (size_t head = heads.first; head < heads.end; head++) {
      float* state = command.state(run, states) + head * N * N;
      for (size_t row = run.firstRow; row < run.endRow; row++) f(row, head * N, state, N);
    }
  }
}

/** Columns j of S in vectors, each summed over i in increasing order. */
static void wkv6(const Command& command, const Thread& thread) {
  const Tensor ys = command.operand(0);
  const Tensor rs = command.operand(2);
  const Tensor ks = command.operand(3);
  const Tensor vs = command.operand(4);
  const Tensor decays = command.operand(5);
  const float* firsts = command.row(command.operand(6), 0);
  forHeadStates(command, thread, [&](size_t row, size_t at, float* state, size_t N) {
    const float* r = command.row(rs, row) + at;
    const float* k = command.row(ks, row) + at;
    const float* v = command.row(vs, row) + at;
    const float* decay = command.row(decays, row) + at;
    const float* first = firsts + at;
    float* y = command.row(ys, row) + at;
    forVectors(N, [&](size_t j, size_t n) {
      const V vj = loadUpTo(v + j, n);
      V yj = splat(0);
      float* s = state + j;
      for (size_t i = 0; i < N; i++, s += N) {
        const V sij = loadUpTo(s, n);
        const V kv = mul(splat(k[i]), vj);
        yj = fma(splat(r[i]), fma(splat(first[i]), kv, sij), yj);
        storeUpTo(s, fma(splat(decay[i]), sij, kv), n);
      }
      storeUpTo(y + j, yj, n);
    });
  });
}

/** One token, ROWS rows of S from row i on: the vectors over j are read once for all of them. */
template <size_t ROWS>
INLINE void stepRows7(float* y, float* state, const float* r, const float* w, const float* k, const float* v,
                      const float* kk, const float* kka, size_t N) {
  V sums[ROWS];
  for (size_t i = 0; i < ROWS; i++) sums[i] = splat(0);
  forVectors(N, [&](size_t j, size_t n) {
    const V kkj = loadUpTo(kk + j, n);
    UNROLL for (size_t i = 0; i < ROWS; i++) {
      const float* s = state + i * N + j;
      __builtin_prefetch(s + ROWS * N, 1);  // of the next rows: with many sessions states come from memory
      sums[i] = fma(loadUpTo(s, n), kkj, sums[i]);
    }
  });
  V removed[ROWS];
  V value[ROWS];
  for (size_t i = 0; i < ROWS; i++) {
    // What the undecayed state holds under the removal key.
    removed[i] = splat(sum(sums[i]));
    value[i] = splat(v[i]);
    sums[i] = splat(0);
  }
  forVectors(N, [&](size_t j, size_t n) {
    const V wj = loadUpTo(w + j, n);
    const V kj = loadUpTo(k + j, n);
    const V rj = loadUpTo(r + j, n);
    const V kkaj = loadUpTo(kka + j, n);
    UNROLL for (size_t i = 0; i < ROWS; i++) {
      float* s = state + i * N + j;
      const V next = fma(loadUpTo(s, n), wj, fnma(removed[i], kkaj, mul(value[i], kj)));
      storeUpTo(s, next, n);
      sums[i] = fma(next, rj, sums[i]);
    }
  });
  for (size_t i = 0; i < ROWS; i++) y[i] = sum(sums[i]);
}

static void wkv7(const Command& command, const Thread& thread) {
  const Tensor ys = command.operand(0);
  const Tensor rs = command.operand(2);
  const Tensor ws = command.operand(3);
  const Tensor ks = command.operand(4);
  const Tensor vs = command.operand(5);
  const Tensor kks = command.operand(6);
  const Tensor as = command.operand(7);
  auto* kka = reinterpret_cast<float*>(thread.own);
  forHeadStates(command, thread, [&](size_t row, size_t at, float* state, size_t N) {
    const float* r = command.row(rs, row) + at;
    const float* w = command.row(ws, row) + at;
    const float* k = command.row(ks, row) + at;
    const float* v = command.row(vs, row) + at;
    const float* kk = command.row(kks, row) + at;
    const float* a = command.row(as, row) + at;
    float* y = command.row(ys, row) + at;
    forVectors(N, [&](size_t j, size_t n) { storeUpTo(kka + j, mul(loadUpTo(kk + j, n), loadUpTo(a + j, n)), n); });
    size_t i = 0;
    for (; i + 8 <= N; i += 8) stepRows7<8>(y + i, state + i * N, r, w, k, v + i, kk, kka, N);
    for (; i < N; i++) stepRows7<1>(y + i, state + i * N, r, w, k, v + i, kk, kka, N);
  });
}
