// Matrix products. Every output is summed by one thread in one lane, whatever the number of rows:
//
//   f32 activations    over the inputs in increasing order, each step one fused multiply-add with a weight of plain type
//                      or one decoded from its block
//   int8 activations   over the blocks of 32 activations (of 16, where those share a scale of w) in increasing order:
//                      fma(scale of w * scale of x, exact sum, acc), then, of types with a minimum,
//                      fma(minimum, scale of x * sum of x, acc)
//
// So a row's bits depend on nothing but the row. Bias and activation follow on the finished outputs. All matrices are
// kept in panels; a part is a range of outputs in whole panels. Contract: ops/ops.ts of rwkv.

/** A product, and this thread's share of its outputs. */
struct Product {
  const char* w;
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

/** Panels that a single row is multiplied by in turn: memory is read faster along a few streams than along one. */
constexpr size_t STREAMS = 8;
/** Bytes of each that are asked for ahead of their use: processors alone look ahead too little for so few instructions. */
constexpr size_t STREAM_AHEAD = 1024;

/** Asks for the cache lines of `n` bytes of weights, to be read soon. */
INLINE void askFor(const void* bytes, size_t n) {
  for (size_t i = 0; i < n; i += 64) __builtin_prefetch(static_cast<const char*>(bytes) + i);
}

/** The panels from `output` on that are read in turn, and what of them is asked for ahead. */
template <size_t PANELS>
struct Streams {
  size_t panelBytes;
  /** From where a panel ends to where its stream goes on. */
  size_t gap;

  Streams(const Product& product, size_t output)
      : panelBytes(PANEL * product.rowBytes),
        gap(output + PANELS * PANEL < product.outputs.end ? (PANELS - 1) * panelBytes : 0) {}

  /** Asks for `n` bytes ahead of `at`, where `nLeft` bytes of the panel are left. */
  void ask(const void* at, size_t n, size_t nLeft) const {
    askFor(static_cast<const char*>(at) + STREAM_AHEAD + (nLeft > STREAM_AHEAD ? 0 : gap), n);
  }
};

/** PANELS panels from `output` on times a single row. */
template <size_t PANELS, typename T>
static void rowPlain(const Product& product, const T* w, size_t output) {
  constexpr size_t INPUTS = 4;
  const Streams<PANELS> streams(product, output);
  const size_t panelSize = product.nIn * PANEL;
  P acc[PANELS];
  for (P& value : acc) value = panelZero();
  size_t k = 0;
  for (; k + INPUTS <= product.nIn; k += INPUTS) {
    const size_t nLeft = (product.nIn - k) * PANEL * sizeof(T);
    UNROLL for (size_t p = 0; p < PANELS; p++) {
      const T* weights = w + p * panelSize + k * PANEL;
      streams.ask(weights, INPUTS * PANEL * sizeof(T), nLeft);
      UNROLL for (size_t i = 0; i < INPUTS; i++) {
        acc[p] = panelFma(panelLoad(weights + i * PANEL), panelSplat(product.x[k + i]), acc[p]);
      }
    }
  }
  for (; k < product.nIn; k++) {
    UNROLL for (size_t p = 0; p < PANELS; p++) {
      acc[p] = panelFma(panelLoad(w + p * panelSize + k * PANEL), panelSplat(product.x[k]), acc[p]);
    }
  }
  UNROLL for (size_t p = 0; p < PANELS; p++) storePanel(product, 0, output + p * PANEL, acc[p]);
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

template <size_t N>
struct Panels {};

/** From panel `o` of this thread's share on. */
template <size_t N, size_t... REST, typename F>
INLINE void forPanelsFrom(const Product& product, size_t o, F f) {
  const size_t end = product.outputs.end;
  while (o + (N - 1) * PANEL < end) {
    f(Panels<N>{}, o);
    const size_t next = o + N * PANEL;
    finish(product, o, next < end ? next : end);
    o = next;
  }
  if constexpr (sizeof...(REST) > 0) forPanelsFrom<REST...>(product, o, f);
}

/** Calls f(Panels<N>, first output) for this thread's panels, N at a time while there are as many; the last N is 1. */
template <size_t... NS, typename F>
INLINE void forPanels(const Product& product, F f) {
  forPanelsFrom<NS...>(product, product.outputs.first, f);
}

template <typename T>
static void multiplyPlain(const Product& product) {
  const auto weights = [&](size_t output) { return reinterpret_cast<const T*>(product.panelAt(output)); };
  if (product.nRows == 1) {
    return forPanels<STREAMS, STREAMS / 2, STREAMS / 4, 1>(
        product, [&]<size_t N>(Panels<N>, size_t output) { rowPlain<N>(product, weights(output), output); });
  }
  forPanels<TILE_PANELS, 1>(
      product, [&]<size_t N>(Panels<N>, size_t output) { tiles<N>(product, weights(output), output); });
}

/** Weights of input `i` of word `w` of a step. */
template <typename T>
INLINE P weightsAt(const Scales<T>& scales, size_t step, const Bytes* quants, size_t w, int i) {
  const size_t at = (step * BLOCK + 4 * w) / T::WIDTH;
  const P quant = byteAt(quants[w], i, T::ZERO);
  if constexpr (T::HAS_MINIMUM) return panelFma(scales.scale[at], quant, scales.minimum[at]);
  return panelMul(scales.scale[at], quant);
}

/** Calls f(k, weights of each panel) for the inputs of PANELS panels of blocks in order. */
template <typename T, size_t PANELS, typename F>
INLINE void forWeights(const Product& product, size_t output, F f) {
  const uint8_t* panels[PANELS];
  for (size_t p = 0; p < PANELS; p++) panels[p] = reinterpret_cast<const uint8_t*>(product.panelAt(output + p * PANEL));
  for (size_t k = 0; k < product.nIn;) {
    Scales<T> scales[PANELS];
    UNROLL for (size_t p = 0; p < PANELS; p++) T::scales(panels[p], scales[p]);
    for (size_t group = 0; group < T::GROUPS; group++) {
      UNROLL for (size_t step = 0; step < T::STEPS; step++) {
        Bytes quants[PANELS][BLOCK_WORDS];
        UNROLL for (size_t p = 0; p < PANELS; p++) T::quants(panels[p], group, step, quants[p]);
        for (size_t w = 0; w < BLOCK_WORDS; w++) {
          UNROLL for (int i = 0; i < 4; i++, k++) {
            P weights[PANELS];
            UNROLL for (size_t p = 0; p < PANELS; p++) {
              weights[p] = weightsAt<T>(scales[p], group * T::STEPS + step, quants[p], w, i);
            }
            f(k, weights);
          }
        }
      }
    }
    UNROLL for (size_t p = 0; p < PANELS; p++) panels[p] += PANEL * T::BYTES;
  }
}

/** PANELS panels of blocks times a single row. */
template <typename T, size_t PANELS>
static void multiplyRow(const Product& product, size_t output) {
  P acc[PANELS];
  for (P& value : acc) value = panelZero();
  forWeights<T, PANELS>(product, output, [&](size_t k, const P* weights) {
    const P x = panelSplat(product.x[k]);
    UNROLL for (size_t p = 0; p < PANELS; p++) acc[p] = panelFma(weights[p], x, acc[p]);
  });
  for (size_t p = 0; p < PANELS; p++) storePanel(product, 0, output + p * PANEL, acc[p]);
}

/** Blocks with f32 activations: for several rows each panel is decoded once. */
template <typename T>
static void multiplyBlocks(const Product& product, const Thread& thread) {
  if (product.nRows == 1) {
    return forPanels<BLOCK_PANELS, 1>(
        product, [&]<size_t N>(Panels<N>, size_t output) { multiplyRow<T, N>(product, output); });
  }
  auto* decoded = reinterpret_cast<float*>(thread.own);
  forPanels<1>(product, [&](Panels<1>, size_t output) {
    forWeights<T, 1>(product, output, [=](size_t k, const P* weights) { panelStore(decoded + k * PANEL, *weights); });
    tiles<1>(product, decoded, output);
  });
}
