// Products of quantised blocks with activations rounded to 8 bits, as ggml does it: each block of 32 activations has the
// scale max|x| / 127. Sums within a block are whole numbers and exact; their order: matmul.h.
//
// Activations lie in groups of the rows that one tile takes, block by block, so that a tile finds all of them at fixed
// distances: for each group, for each block, for each row of the group: | 32 x i8 | f32 scale | i32 start |.

struct QuantBlock {
  int8_t values[BLOCK];
  float scale;
  /** The sum of the values times -ZERO: what a sum of products with the stored bytes begins with. */
  int32_t start;
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

INLINE size_t quantsBytes(size_t nIn) { return nIn / BLOCK * sizeof(QuantBlock); }

template <int ZERO>
static void quantizeBlock(QuantBlock& out, const float* x) {
  float greatest = 0;
  float invalid = 0;
  for (size_t i = 0; i < BLOCK; i++) {
    const float size = __builtin_fabsf(x[i]);
    greatest = size > greatest ? size : greatest;
    // 0 for numbers, NaN for NaN and infinity.
    invalid += x[i] - x[i];
  }
  const bool isZero = greatest == 0 || invalid != 0;
  const float inverse = isZero ? 0 : 127 / greatest;
  int32_t total = 0;
  for (size_t i = 0; i < BLOCK; i++) {
    const int32_t value = isZero ? 0 : static_cast<int32_t>(__builtin_rintf(x[i] * inverse));
    out.values[i] = static_cast<int8_t>(value);
    total += value;
  }
  out.scale = greatest / 127 + invalid;
  out.start = -ZERO * total;
}

/** Rounds all activations of a product, each thread its share; returns when all are done. */
template <int ZERO>
static void quantize(const Product& product, const Thread& thread) {
  const size_t nBlocks = product.nIn / BLOCK;
  // Another thread may still multiply by the activations of the product before.
  thread.team->sync(thread.part);
  auto* blocks = reinterpret_cast<QuantBlock*>(thread.shared);
  const Range range = rangeOf(product.nRows * nBlocks, 1, thread);
  for (size_t at = range.first; at < range.end; at++) {
    const size_t row = at / nBlocks;
    const size_t b = at % nBlocks;
    const RowGroup group = groupAt(row, product.nRows);
    QuantBlock* out = blocks + group.first * nBlocks + b * group.nRows + (row - group.first);
    quantizeBlock<ZERO>(*out, product.xRow(row) + b * BLOCK);
  }
  thread.team->sync(thread.part);
}

/** One panel times a group of ROWS rows. */
template <int ZERO, size_t ROWS>
static void tileInt8(const Product& product, const QuantBlock* x, size_t output, size_t row) {
  constexpr size_t WORDS = ZERO == 128 ? 8 : 4;
  const auto* panel = reinterpret_cast<const uint8_t*>(product.panelAt(output));
  P acc[ROWS];
  for (P& value : acc) value = panelZero();
  for (size_t b = product.nIn / BLOCK; b > 0; b--, x += ROWS) {
    if constexpr (ROWS == 1) prefetch(panel, 4096, PANEL * (2 + 4 * WORDS));
    const P scale = panelLoad(reinterpret_cast<const F16*>(panel));
    panel += 2 * PANEL;
    Bytes weights[8];
    UNROLL for (size_t word = 0; word < WORDS; word++, panel += 4 * PANEL) {
      const Bytes bytes = bytesLoad(panel);
      if constexpr (ZERO == 128) {
        weights[word] = bytes;
      } else {
        weights[word] = lowNibbles(bytes);
        weights[word + 4] = highNibbles(bytes);
      }
    }
    UNROLL for (size_t r = 0; r < ROWS; r++) {
      I16 total = startProducts<ZERO>(x[r].start);
      UNROLL for (size_t word = 0; word < 8; word++) total = addProducts<ZERO>(total, weights[word], x[r].values + 4 * word);
      acc[r] = panelFma(panelMul(scale, panelSplat(x[r].scale)), toF32(total), acc[r]);
    }
  }
  UNROLL for (size_t r = 0; r < ROWS; r++) storePanel(product, row + r, output, acc[r]);
}

template <int ZERO>
static void multiplyInt8(const Product& product, const Thread& thread) {
  quantize<ZERO>(product, thread);
  const size_t nBlocks = product.nIn / BLOCK;
  const auto* blocks = reinterpret_cast<const QuantBlock*>(thread.shared);
  for (size_t o = product.outputs.first; o < product.outputs.end; o += PANEL) {
    for (size_t row = 0; row < product.nRows;) {
      const RowGroup group = groupAt(row, product.nRows);
      const QuantBlock* x = blocks + row * nBlocks;
      if (group.nRows == INT8_ROWS) {
        tileInt8<ZERO, INT8_ROWS>(product, x, o, row);
      } else if (group.nRows == 4) {
        tileInt8<ZERO, 4>(product, x, o, row);
      } else {
        tileInt8<ZERO, 1>(product, x, o, row);
      }
      row += group.nRows;
    }
    const size_t next = o + PANEL;
    finish(product, o, next < product.outputs.end ? next : product.outputs.end);
  }
}
