// Products of quantised blocks with activations rounded to 8 bits (activations.h), as ggml does it. Sums of whole numbers
// are exact; their order: matmul.h.

/** acc + a step's 32 products: sums of whole numbers, scaled; then the minimum times the sum of activations. */
template <typename T>
INLINE P addStep(P acc, const Scales<T>& scales, size_t step, const Bytes* quants, const QuantBlock& x) {
  constexpr size_t PARTS = T::WIDTH < BLOCK ? BLOCK / T::WIDTH : 1;
  constexpr size_t WORDS = BLOCK_WORDS / PARTS;
  const P scale = panelSplat(x.scale);
  UNROLL for (size_t part = 0; part < PARTS; part++) {
    const size_t at = (step * BLOCK + part * T::WIDTH) / T::WIDTH;
    int32_t minusSum = x.minusSum;
    if constexpr (PARTS == 2) minusSum = part == 0 ? x.minusFirst : x.minusSum - x.minusFirst;
    I16 total = startProducts<T::ZERO>(minusSum);
    UNROLL for (size_t w = 0; w < WORDS; w++) {
      total = addProducts<T::ZERO>(total, quants[part * WORDS + w], x.values + 4 * (part * WORDS + w));
    }
    acc = panelFma(panelMul(scales.scale[at], scale), toF32(total), acc);
    if constexpr (T::HAS_MINIMUM) {
      const float scaledSum = PARTS == 1 ? x.scaledSum : x.scale * static_cast<float>(-minusSum);
      acc = panelFma(scales.minimum[at], panelSplat(scaledSum), acc);
    }
  }
  return acc;
}

/** PANELS panels times a group of ROWS rows. */
template <typename T, size_t PANELS, size_t ROWS>
static void tileInt8(const Product& product, const QuantBlock* x, size_t output, size_t row) {
  const uint8_t* panels[PANELS];
  for (size_t p = 0; p < PANELS; p++) panels[p] = reinterpret_cast<const uint8_t*>(product.panelAt(output + p * PANEL));
  P acc[PANELS][ROWS];
  for (auto& sums : acc) {
    for (P& value : sums) value = panelZero();
  }
  for (size_t b = product.nIn / T::ELEMENTS; b > 0; b--) {
    Scales<T> scales[PANELS];
    UNROLL for (size_t p = 0; p < PANELS; p++) {
      T::scales(panels[p], scales[p]);
    }
    for (size_t group = 0; group < T::GROUPS; group++) {
      UNROLL for (size_t step = 0; step < T::STEPS; step++, x += ROWS) {
        UNROLL for (size_t p = 0; p < PANELS; p++) {
          Bytes quants[BLOCK_WORDS];
          T::quants(panels[p], group, step, quants);
          UNROLL for (size_t r = 0; r < ROWS; r++) {
            acc[p][r] = addStep<T>(acc[p][r], scales[p], group * T::STEPS + step, quants, x[r]);
          }
        }
      }
    }
    UNROLL for (size_t p = 0; p < PANELS; p++) panels[p] += PANEL * T::BYTES;
  }
  UNROLL for (size_t p = 0; p < PANELS; p++) {
    UNROLL for (size_t r = 0; r < ROWS; r++) storePanel(product, row + r, output + p * PANEL, acc[p][r]);
  }
}

template <typename T>
static void multiplyInt8(const Product& product, const Thread& thread) {
  const QuantBlock* blocks = roundRows(product.x, product.xStride, product.nRows, product.nIn, thread);
  const size_t nBlocks = product.nIn / BLOCK;
  forPanels<1>(product, [&](Panels<1>, size_t output) {
    for (size_t row = 0; row < product.nRows;) {
      const RowGroup group = groupAt(row, product.nRows);
      const QuantBlock* x = blocks + row * nBlocks;
      if (group.nRows == INT8_ROWS) {
        tileInt8<T, 1, INT8_ROWS>(product, x, output, row);
      } else if (group.nRows == 4) {
        tileInt8<T, 1, 4>(product, x, output, row);
      } else {
        tileInt8<T, 1, 1>(product, x, output, row);
      }
      row += group.nRows;
    }
  });
}
