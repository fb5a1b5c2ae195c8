// Matrix products. Every output is summed by one thread in one lane, whatever the number of rows:
//
//   packed types, f32 activations    over the inputs in increasing order, each step one fused multiply-add
//   packed blocks, int8 activations  over the blocks in increasing order: fma(scale of w * scale of x, exact sum, acc)
//   other types                      decoded rows: lane l of W takes the inputs i with i mod W = l in increasing order,
//                                    fused; then `sum` of the vector
//
// So a row's bits depend on nothing but the row. Bias and activation follow on the finished outputs. A part is a range
// of outputs in whole panels. Contract: ops/ops.ts of rwkv.

/** A product, and this thread's share of its outputs. */
struct Product {
  const char* w;
  uint32_t dtype;
  size_t rowBytes;
  size_t nIn;
  size_t nRows;
  const float* x;
  size_t xStride;
  float* out;
  size_t outStride;
  Range outputs;
  const float* bias;
  uint32_t activation;

  const float* xRow(size_t row) const { return x + row * xStride; }
  const char* panelAt(size_t output) const { return w + output * rowBytes; }
};

/** Adds the bias and applies the activation to outputs [first, end) of all rows. */
static void finish(const Product& product, size_t first, size_t end) {
  const size_t n = end - first;
  for (size_t row = 0; row < product.nRows; row++) {
    float* out = product.out + row * product.outStride + first;
    if (product.bias != nullptr) {
      const float* bias = product.bias + first;
      forVectors(n, [=](size_t i, size_t m) {
        storeUpTo(out + i, add(loadUpTo(out + i, m), loadUpTo(bias + i, m)), m);
      });
    }
    activateSpan(product.activation, out, out, n);
  }
}

/** Stores the outputs of one panel of one row; the last panel of a matrix may be cut short. */
INLINE void storePanel(const Product& product, size_t row, size_t output, P values) {
  float* out = product.out + row * product.outStride + output;
  const size_t n = product.outputs.end - output;
  if (n >= PANEL) {
    panelStore(out, values);
  } else {
    panelStoreFirst(out, values, n);
  }
}

/**
 * Asks for the `n` bytes that follow `distance` behind `p`. A single row reads each weight once, and a processor does not
 * look ahead beyond a page by itself.
 */
INLINE void prefetch(const void* p, size_t distance, size_t n) {
  const char* ahead = static_cast<const char*>(p) + distance;
  UNROLL for (size_t i = 0; i < n; i += 64) __builtin_prefetch(ahead + i);
}

/** PANELS panels from `output` on times ROWS rows from `row` on. */
template <size_t PANELS, size_t ROWS, typename T>
static void tile(const Product& product, const T* w, size_t output, size_t row) {
  const size_t nIn = product.nIn;
  const T* panels[PANELS];
  for (size_t p = 0; p < PANELS; p++) panels[p] = w + p * nIn * PANEL;
  const float* xs[ROWS];
  for (size_t r = 0; r < ROWS; r++) xs[r] = product.xRow(row + r);
  P acc[PANELS][ROWS];
  for (auto& sums : acc) {
    for (P& value : sums) value = panelZero();
  }
  for (size_t k = 0; k < nIn; k++) {
    P weights[PANELS];
    if (ROWS == 1 && k * sizeof(T) * PANEL % 64 == 0) {
      UNROLL for (size_t p = 0; p < PANELS; p++) prefetch(panels[p] + k * PANEL, 1024, 64);
    }
    UNROLL for (size_t p = 0; p < PANELS; p++) weights[p] = panelLoad(panels[p] + k * PANEL);
    UNROLL for (size_t r = 0; r < ROWS; r++) {
      const P x = panelSplat(xs[r][k]);
      UNROLL for (size_t p = 0; p < PANELS; p++) acc[p][r] = panelFma(weights[p], x, acc[p][r]);
    }
  }
  UNROLL for (size_t p = 0; p < PANELS; p++) {
    UNROLL for (size_t r = 0; r < ROWS; r++) storePanel(product, row + r, output + p * PANEL, acc[p][r]);
  }
}

/** PANELS panels times all rows. */
template <size_t PANELS, typename T>
static void tiles(const Product& product, const T* w, size_t output) {
  size_t row = 0;
  for (; row + TILE_ROWS <= product.nRows; row += TILE_ROWS) tile<PANELS, TILE_ROWS>(product, w, output, row);
  for (; row + 4 <= product.nRows; row += 4) tile<PANELS, 4>(product, w, output, row);
  for (; row < product.nRows; row++) tile<PANELS, 1>(product, w, output, row);
}

template <typename T>
static void multiplyPlain(const Product& product) {
  const auto weights = [&](size_t output) { return reinterpret_cast<const T*>(product.panelAt(output)); };
  size_t o = product.outputs.first;
  const size_t end = product.outputs.end;
  const auto advance = [&](size_t nPanels) {
    const size_t next = o + nPanels * PANEL;
    finish(product, o, next < end ? next : end);
    o = next;
  };
  // A single row needs many panels at once: the sum of each is one chain of additions.
  while (product.nRows == 1 && o + (VECTOR_PANELS - 1) * PANEL < end) {
    tile<VECTOR_PANELS, 1>(product, weights(o), o, 0);
    advance(VECTOR_PANELS);
  }
  while (o + (TILE_PANELS - 1) * PANEL < end) {
    tiles<TILE_PANELS>(product, weights(o), o);
    advance(TILE_PANELS);
  }
  while (o < end) {
    tiles<1>(product, weights(o), o);
    advance(1);
  }
}

/** Calls f(k, weights) for each input of a packed panel of blocks: scale * (byte - ZERO), exact. */
template <int ZERO, typename F>
INLINE void forBlockWeights(const uint8_t* panel, size_t nIn, F f) {
  constexpr size_t WORDS = ZERO == 128 ? 8 : 4;
  for (size_t k = 0; k < nIn; k += BLOCK) {
    const P scale = panelLoad(reinterpret_cast<const F16*>(panel));
    panel += 2 * PANEL;
    for (size_t word = 0; word < WORDS; word++, panel += 4 * PANEL) {
      const Bytes bytes = bytesLoad(panel);
      if constexpr (ZERO == 128) {
        for (int i = 0; i < 4; i++) f(k + 4 * word + i, panelMul(scale, byteAt(bytes, i, ZERO)));
      } else {
        const Bytes low = lowNibbles(bytes);
        const Bytes high = highNibbles(bytes);
        for (int i = 0; i < 4; i++) {
          f(k + 4 * word + i, panelMul(scale, byteAt(low, i, ZERO)));
          f(k + 16 + 4 * word + i, panelMul(scale, byteAt(high, i, ZERO)));
        }
      }
    }
  }
}

/** Blocks with f32 activations: each panel is decoded once for all rows. */
template <int ZERO>
static void multiplyBlocks(const Product& product, const Thread& thread) {
  auto* panel = reinterpret_cast<float*>(thread.own);
  for (size_t o = product.outputs.first; o < product.outputs.end; o += PANEL) {
    forBlockWeights<ZERO>(reinterpret_cast<const uint8_t*>(product.panelAt(o)), product.nIn,
                          [=](size_t k, P weights) { panelStore(panel + k * PANEL, weights); });
    tiles<1>(product, panel, o);
    const size_t next = o + PANEL;
    finish(product, o, next < product.outputs.end ? next : product.outputs.end);
  }
}

constexpr size_t DOT_ROWS = 4;

/** DOT_ROWS decoded rows of w times ROWS rows of x. */
template <size_t ROWS>
static void dotTile(const Product& product, const float* w, size_t output, size_t nOutputs, size_t row) {
  V acc[DOT_ROWS][ROWS];
  for (auto& sums : acc) {
    for (V& value : sums) value = splat(0);
  }
  forVectors(product.nIn, [&](size_t k, size_t n) {
    V xs[ROWS];
    UNROLL for (size_t r = 0; r < ROWS; r++) xs[r] = loadUpTo(product.xRow(row + r) + k, n);
    UNROLL for (size_t o = 0; o < DOT_ROWS; o++) {
      const V weights = loadUpTo(w + o * product.nIn + k, n);
      UNROLL for (size_t r = 0; r < ROWS; r++) acc[o][r] = fma(weights, xs[r], acc[o][r]);
    }
  });
  for (size_t o = 0; o < nOutputs; o++) {
    for (size_t r = 0; r < ROWS; r++) product.out[(row + r) * product.outStride + output + o] = sum(acc[o][r]);
  }
}

/** Types that keep their rows: a few are decoded for all rows of x. */
static void multiplyRows(const Product& product, const Thread& thread) {
  auto* rows = reinterpret_cast<float*>(thread.own);
  const auto& [first, end] = product.outputs;
  for (size_t o = first; o < end; o += DOT_ROWS) {
    const size_t n = end - o < DOT_ROWS ? end - o : DOT_ROWS;
    for (size_t i = 0; i < n; i++) {
      const auto* bytes = reinterpret_cast<const uint8_t*>(product.panelAt(o + i));
      decodeRow(product.dtype, rows + i * product.nIn, bytes, product.nIn);
    }
    // The rows beyond the last output repeat what lies there; their results are not stored.
    size_t row = 0;
    for (; row + 4 <= product.nRows; row += 4) dotTile<4>(product, rows, o, n, row);
    for (; row < product.nRows; row++) dotTile<1>(product, rows, o, n, row);
    finish(product, o, o + n);
  }
}
