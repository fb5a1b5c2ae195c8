// Activations rounded to 8 bits: each block of 32 of a row has the scale s = max|x| / 127 and the whole numbers
// q = x * (127 / max|x|), rounded to nearest even. A block with NaN or infinity has the scale NaN; one that is all zero,
// or too small for 127 / max|x| to be finite, has zeros.
//
// Blocks lie in groups of the rows that one tile takes, so that a tile finds all of them at fixed distances: for each
// group, for each block, for each row of the group.

struct QuantBlock {
  int8_t values[BLOCK];
  float scale;
  /** scale * sum of the values. */
  float scaledSum;
  /** The sum of the values, negated, and that of the first 16. */
  int32_t minusSum;
  int32_t minusFirst;
};

/** The rows that share a tile. */
struct RowGroup {
  size_t first;
  size_t nRows;
};

INLINE RowGroup groupAt(size_t row, size_t nRows) {
  const size_t whole = nRows - nRows % INT8_ROWS;
  if (row < whole) return {row - row % INT8_ROWS, INT8_ROWS};
  const size_t fours = whole + (nRows - whole) / 4 * 4;
  if (row < fours) return {row - (row - whole) % 4, 4};
  return {row, 1};
}

/** Bytes of a row in blocks. */
INLINE size_t quantsBytes(size_t nIn) { return nIn / BLOCK * sizeof(QuantBlock); }

/** A block that cannot be scaled. */
static void roundUnscaled(QuantBlock& out, const float* x, float greatest) {
  // 0 for numbers, NaN for NaN and infinity.
  float invalid = 0;
  for (size_t i = 0; i < BLOCK; i++) invalid += x[i] - x[i];
  __builtin_memset(out.values, 0, sizeof out.values);
  out.scale = greatest / 127 + invalid;
  out.scaledSum = invalid;
  out.minusSum = 0;
  out.minusFirst = 0;
}

INLINE void roundBlock(QuantBlock& out, const float* x) {
  constexpr size_t N = BLOCK / W;
  V xs[N];
  V most = splat(0);
  UNROLL for (size_t i = 0; i < N; i++) {
    xs[i] = load(x + W * i);
    most = max(abs(xs[i]), most);  // a NaN is passed over
  }
  const float greatest = greatestOf(most);
  const float inverse = 127 / greatest;
  V halves[2] = {splat(0), splat(0)};
  UNROLL for (size_t i = 0; i < N; i++) {
    const V rounded = nearest(mul(xs[i], splat(inverse)));
    storeInt8(out.values + W * i, rounded);
    V& half = halves[2 * i / N];
    half = add(half, rounded);
  }
  const float first = sum(halves[0]);
  const float total = first + sum(halves[1]);
  // Infinite if the block is zero or too small; the sum is NaN if any activation was NaN or infinite.
  if (inverse > __FLT_MAX__ || total != total) return roundUnscaled(out, x, greatest);
  out.scale = greatest / 127;
  out.scaledSum = out.scale * total;
  out.minusSum = -static_cast<int32_t>(total);
  out.minusFirst = -static_cast<int32_t>(first);
}

/** Rounds blocks [first, end) of the blocks of all rows, row by row. */
static void roundBlocks(QuantBlock* blocks, const float* x, size_t xStride, size_t nRows, size_t nBlocks, Range range) {
  size_t row = range.first / nBlocks;
  size_t b = range.first % nBlocks;
  for (size_t at = range.first; at < range.end; row++, b = 0) {
    const RowGroup group = groupAt(row, nRows);
    QuantBlock* out = blocks + group.first * nBlocks + (row - group.first);
    for (; b < nBlocks && at < range.end; b++, at++) roundBlock(out[b * group.nRows], x + row * xStride + b * BLOCK);
  }
}

/** Up to as many rows each thread rounds for itself, which takes less time than waiting for the others. */
constexpr size_t OWN_ROWS = 8;

INLINE size_t ownQuantsBytes(size_t nRows, size_t nIn) { return nRows <= OWN_ROWS ? nRows * quantsBytes(nIn) : 0; }
/** Threads may still multiply by the rows of the product before: rows that are shared have two places in turn. */
INLINE size_t sharedQuantsBytes(size_t nRows, size_t nIn) { return nRows <= OWN_ROWS ? 0 : 2 * nRows * quantsBytes(nIn); }

/** All rows, rounded by this thread or by all together. */
static const QuantBlock* roundRows(const float* x, size_t xStride, size_t nRows, size_t nIn, const Thread& thread) {
  const size_t nBlocks = nIn / BLOCK;
  const size_t nAll = nRows * nBlocks;
  if (nRows <= OWN_ROWS) {
    auto* blocks = reinterpret_cast<QuantBlock*>(thread.own);
    roundBlocks(blocks, x, xStride, nRows, nBlocks, {0, nAll});
    return blocks;
  }
  // Whoever reads the place of this turn began before the meeting that ended the turn before, so all have finished.
  auto* blocks = reinterpret_cast<QuantBlock*>(thread.shared) + thread.team->meetings() % 2 * nAll;
  roundBlocks(blocks, x, xStride, nRows, nBlocks, rangeOf(nAll, 1, thread));
  thread.team->meet();
  return blocks;
}
