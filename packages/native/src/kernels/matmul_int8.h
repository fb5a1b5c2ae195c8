// Products of quantised blocks with activations rounded to 8 bits, as ggml does it: each block of 32 activations has the
// scale max|x| / 127. Sums within a block are whole numbers and exact; their order: matmul.h.

/** One row of activations: nIn quants, then for each block its scale, then the sum of its quants. */
struct Quants {
  const int8_t* values;
  const float* scales;
  const int32_t* sums;
};

INLINE size_t quantsBytes(size_t nIn) { return (nIn + nIn / BLOCK * 8 + 63) / 64 * 64; }

INLINE Quants quantsAt(const char* scratch, size_t row, size_t nIn) {
  const char* values = scratch + row * quantsBytes(nIn);
  const auto* scales = reinterpret_cast<const float*>(values + nIn);
  return {reinterpret_cast<const int8_t*>(values), scales, reinterpret_cast<const int32_t*>(scales + nIn / BLOCK)};
}

static void quantizeBlock(const float* x, int8_t* values, float* scale, int32_t* sumOfValues) {
  float greatest = 0;
  for (size_t i = 0; i < BLOCK; i++) {
    const float size = __builtin_fabsf(x[i]);
    greatest = size > greatest ? size : greatest;
  }
  // NaN and infinity go into the scale, so that no sum with them is finite.
  for (size_t i = 0; i < BLOCK; i++) greatest = x[i] - x[i] == 0 ? greatest : x[i];
  const float inverse = greatest > 0 && greatest < __builtin_inff() ? 127 / greatest : 0;
  int32_t total = 0;
  for (size_t i = 0; i < BLOCK; i++) {
    const int32_t value = inverse == 0 ? 0 : static_cast<int32_t>(__builtin_rintf(x[i] * inverse));
    values[i] = static_cast<int8_t>(value);
    total += value;
  }
  *scale = greatest / 127;
  *sumOfValues = total;
}

/** Rounds all activations of a product, each thread its share; returns when all are done. */
static void quantize(const Product& product, const Thread& thread) {
  const size_t nBlocks = product.nIn / BLOCK;
  const Range blocks = rangeOf(product.nRows * nBlocks, 1, thread);
  for (size_t at = blocks.first; at < blocks.end; at++) {
    const size_t row = at / nBlocks;
    const size_t block = at % nBlocks;
    char* values = thread.shared + row * quantsBytes(product.nIn);
    auto* scales = reinterpret_cast<float*>(values + product.nIn);
    auto* sums = reinterpret_cast<int32_t*>(scales + nBlocks);
    quantizeBlock(product.xRow(row) + block * BLOCK, reinterpret_cast<int8_t*>(values) + block * BLOCK,
                  scales + block, sums + block);
  }
  thread.team->sync(thread.part);
}

/** One panel times ROWS rows. */
template <int ZERO, size_t ROWS>
static void tileInt8(const Product& product, const char* scratch, size_t output, size_t row) {
  constexpr size_t WORDS = ZERO == 128 ? 8 : 4;
  const auto* panel = reinterpret_cast<const uint8_t*>(product.panelAt(output));
  Quants xs[ROWS];
  for (size_t r = 0; r < ROWS; r++) xs[r] = quantsAt(scratch, row + r, product.nIn);
  P acc[ROWS];
  for (P& value : acc) value = panelZero();
  const size_t nBlocks = product.nIn / BLOCK;
  for (size_t b = 0; b < nBlocks; b++) {
    const P scale = panelLoad(reinterpret_cast<const F16*>(panel));
    panel += 2 * PANEL;
    Bytes weights[8];
    for (size_t word = 0; word < WORDS; word++, panel += 4 * PANEL) {
      const Bytes bytes = bytesLoad(panel);
      if constexpr (ZERO == 128) {
        weights[word] = bytes;
      } else {
        weights[word] = lowNibbles(bytes);
        weights[word + 4] = highNibbles(bytes);
      }
    }
    for (size_t r = 0; r < ROWS; r++) {
      const int8_t* x = xs[r].values + b * BLOCK;
      I16 total = startProducts<ZERO>(xs[r].sums[b]);
      for (size_t word = 0; word < 8; word++) total = addProducts<ZERO>(total, weights[word], x + 4 * word);
      acc[r] = panelFma(panelMul(scale, panelSplat(xs[r].scales[b])), toF32(total), acc[r]);
    }
  }
  for (size_t r = 0; r < ROWS; r++) storePanel(product, row + r, output, acc[r]);
}

template <int ZERO>
static void multiplyInt8(const Product& product, const Thread& thread) {
  quantize(product, thread);
  for (size_t o = product.outputs.first; o < product.outputs.end; o += PANEL) {
    size_t row = 0;
    for (; row + INT8_ROWS <= product.nRows; row += INT8_ROWS) {
      tileInt8<ZERO, INT8_ROWS>(product, thread.shared, o, row);
    }
    for (; row + 4 <= product.nRows; row += 4) tileInt8<ZERO, 4>(product, thread.shared, o, row);
    for (; row < product.nRows; row++) tileInt8<ZERO, 1>(product, thread.shared, o, row);
    const size_t next = o + PANEL;
    finish(product, o, next < product.outputs.end ? next : product.outputs.end);
  }
}
