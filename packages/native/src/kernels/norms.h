// layerNorm, groupNorm, l2NormHeads and addBonus: whatever sums over a row or a head. Sums of norms are f64, so that a
// large mean costs no digits. A part is a range of heads; of layerNorm a range of columns, for which each part sums over the
// whole row anew, which costs less than waiting for one another.
// Contracts: ops/ops.ts of rwkv.

constexpr size_t LANES = 8;

/** The sum of f(x[i]) in f64: lane l takes the i with i mod 8 = l, then the lanes in order. */
template <typename F>
INLINE double sumOf(const float* x, size_t n, F f) {
  double lanes[LANES] = {};
  size_t i = 0;
  for (; i + LANES <= n; i += LANES) {
    for (size_t l = 0; l < LANES; l++) lanes[l] += f(static_cast<double>(x[i + l]));
  }
  for (size_t l = 0; i < n; i++, l++) lanes[l] += f(static_cast<double>(x[i]));
  double total = 0;
  for (const double lane : lanes) total += lane;
  return total;
}

/** out = (x - mean) / sqrt(variance + eps) * weight + bias, sums over n elements, those of `written` stored; out may be x. */
static void normalize(float* out, const float* x, const float* weight, const float* bias, size_t n, Range written,
                      float eps) {
  const double count = static_cast<double>(n);
  const double mean = sumOf(x, n, [](double value) { return value; }) / count;
  const double squares = sumOf(x, n, [mean](double value) { return (value - mean) * (value - mean); });
  const double scale = 1 / __builtin_sqrt(squares / count + static_cast<double>(eps));
  for (size_t i = written.first; i < written.end; i++) {
    const float unit = static_cast<float>((static_cast<double>(x[i]) - mean) * scale);
    out[i] = __builtin_fmaf(unit, weight[i], bias[i]);
  }
}

static void layerNorm(const Command& command, const Thread& thread) {
  const Tensor out = command.operand(0);
  const Tensor x = command.operand(1);
  const float* weight = command.row(command.operand(2), 0);
  const float* bias = command.row(command.operand(3), 0);
  const size_t nRows = command.nRows();
  // In place, a part would overwrite what another has yet to sum over: then it is a range of rows.
  const bool isInPlace = out.address == x.address;
  const Range rows = isInPlace ? rangeOf(nRows, 1, thread) : Range{0, nRows};
  const Range columns = isInPlace ? Range{0, x.width} : rangeOf(x.width, command.granule(), thread);
  if (columns.length() == 0) return;
  for (size_t row = rows.first; row < rows.end; row++) {
    normalize(command.row(out, row), command.row(x, row), weight, bias, x.width, columns, command.scalar());
  }
}

/** Calls f(row, offset, N) for this thread's heads of all rows. */
template <typename F>
INLINE void forHeads(const Command& command, const Thread& thread, F f) {
  const size_t nHeads = command.heads();
  const size_t N = command.operand(0).width / nHeads;
  const Range columns = rangeOf(N * nHeads, command.granule(), thread);
  const Range heads{columns.first / N, columns.end / N};
  const size_t nRows = command.nRows();
  for (size_t row = 0; row < nRows; row++) {
    for (size_t head = heads.first; head < heads.end; head++) f(row, head * N, N);
  }
}

static void groupNorm(const Command& command, const Thread& thread) {
  const Tensor out = command.operand(0);
  const Tensor x = command.operand(1);
  const float* weight = command.row(command.operand(2), 0);
  const float* bias = command.row(command.operand(3), 0);
  forHeads(command, thread, [&](size_t row, size_t at, size_t N) {
    normalize(command.row(out, row) + at, command.row(x, row) + at, weight + at, bias + at, N, {0, N}, command.scalar());
  });
}

/** out = u / max(|u|, eps), u = x * scale; out may be x. */
static void l2NormHeads(const Command& command, const Thread& thread) {
  const Tensor out = command.operand(0);
  const Tensor x = command.operand(1);
  const float* scales = command.row(command.operand(2), 0);
  const float eps = command.scalar();
  forHeads(command, thread, [&](size_t row, size_t at, size_t N) {
    float* to = command.row(out, row) + at;
    const float* from = command.row(x, row) + at;
    const float* scale = scales + at;
    V squares = splat(0);
    forVectors(N, [&](size_t i, size_t n) {
      const V u = mul(loadUpTo(from + i, n), loadUpTo(scale + i, n));
      squares = fma(u, u, squares);
    });
    const float norm = __builtin_sqrtf(sum(squares));
    const V length = splat(norm > eps ? norm : eps);
    forVectors(N, [&](size_t i, size_t n) {
      storeUpTo(to + i, div(mul(loadUpTo(from + i, n), loadUpTo(scale + i, n)), length), n);
    });
  });
}

/** y += (sum of r * k * rK) * v. */
static void addBonus(const Command& command, const Thread& thread) {
  const Tensor y = command.operand(0);
  const Tensor rs = command.operand(1);
  const Tensor ks = command.operand(2);
  const Tensor vs = command.operand(3);
  const float* weights = command.row(command.operand(4), 0);
  forHeads(command, thread, [&](size_t row, size_t at, size_t N) {
    const float* r = command.row(rs, row) + at;
    const float* k = command.row(ks, row) + at;
    const float* v = command.row(vs, row) + at;
    float* to = command.row(y, row) + at;
    V sums = splat(0);
    forVectors(N, [&](size_t i, size_t n) {
      sums = fma(mul(loadUpTo(r + i, n), loadUpTo(k + i, n)), loadUpTo(weights + at + i, n), sums);
    });
    const V bonus = splat(sum(sums));
    forVectors(N, [&](size_t i, size_t n) {
      storeUpTo(to + i, fma(bonus, loadUpTo(v + i, n), loadUpTo(to + i, n)), n);
    });
  });
}
