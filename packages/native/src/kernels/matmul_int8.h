// Products of quantised blocks with activations rounded to 8 bits (activations.h), as ggml does it. Sums of whole numbers
// are exact; their order: matmul.h.

template <size_t N>
struct Words {};

/** For each of ROWS rows adds the products of WORDS words of w with those of x from `word` on. */
template <typename T, size_t WORDS, size_t ROWS>
INLINE void addBytes(I16 totals[ROWS], const Bytes* w, const QuantBlock* x, size_t word) {
  const int8_t* values[ROWS];
  UNROLL for (size_t r = 0; r < ROWS; r++) values[r] = x[r].values + 4 * word;
  addWords<T::ZERO, T::MOST, WORDS, ROWS>(totals, w, values);
}

/**
 * A step of 32 inputs for ROWS rows: adds scaled sums of whole numbers, then the minimum times the sum of activations.
 * @param addTo adds products to the sums of all rows: addTo(sums, Words<how many>, the first word)
 */
template <typename T, size_t ROWS, typename F>
INLINE void addStep(P* acc, const Scales<T>& scales, size_t step, const QuantBlock* x, F addTo) {
  constexpr size_t PARTS = T::WIDTH < BLOCK ? BLOCK / T::WIDTH : 1;
  constexpr size_t WORDS = BLOCK_WORDS / PARTS;
  UNROLL for (size_t part = 0; part < PARTS; part++) {
    const size_t at = (step * BLOCK + part * T::WIDTH) / T::WIDTH;
    int32_t minusSums[ROWS];
    I16 totals[ROWS];
    UNROLL for (size_t r = 0; r < ROWS; r++) {
      minusSums[r] = x[r].minusSum;
      if constexpr (PARTS == 2) minusSums[r] = part == 0 ? x[r].minusFirst : x[r].minusSum - x[r].minusFirst;
      totals[r] = startProducts<T::ZERO>(minusSums[r]);
    }
    addTo(totals, Words<WORDS>{}, part * WORDS);
    UNROLL for (size_t r = 0; r < ROWS; r++) {
      acc[r] = panelFma(panelMul(scales.scale[at], panelSplat(x[r].scale)), toF32(totals[r]), acc[r]);
      if constexpr (T::HAS_MINIMUM) {
        const float scaledSum = PARTS == 1 ? x[r].scaledSum : x[r].scale * static_cast<float>(-minusSums[r]);
        acc[r] = panelFma(scales.minimum[at], panelSplat(scaledSum), acc[r]);
      }
    }
  }
}

/** The same with 32 inputs as bytes. */
template <typename T, size_t ROWS>
INLINE void addStep(P* acc, const Scales<T>& scales, size_t step, const Bytes* quants, const QuantBlock* x) {
  addStep<T, ROWS>(acc, scales, step, x, [=]<size_t WORDS>(I16* totals, Words<WORDS>, size_t word) {
    addBytes<T, WORDS, ROWS>(totals, quants + word, x, word);
  });
}

/** One panel times a group of ROWS rows. */
template <typename T, size_t ROWS>
static void tileInt8(const Product& product, const QuantBlock* x, size_t output, size_t row) {
  // Two sums at a time: a step of one need not wait for the step before of the same.
  constexpr size_t AT_ONCE = ROWS % 2 == 0 ? 2 : 1;
  const auto* panel = reinterpret_cast<const uint8_t*>(product.panelAt(output));
  P acc[ROWS];
  for (P& value : acc) value = panelZero();
  for (size_t b = product.nIn / T::ELEMENTS; b > 0; b--, panel += PANEL * T::BYTES) {
    askFor(panel + STREAM_AHEAD, PANEL * T::BYTES);
    Scales<T> scales;
    T::scales(panel, scales);
    for (size_t group = 0; group < T::GROUPS; group++) {
      UNROLL for (size_t step = 0; step < T::STEPS; step++, x += ROWS) {
        Bytes quants[BLOCK_WORDS];
        T::quants(panel, group, step, quants);
        UNROLL for (size_t r = 0; r < ROWS; r += AT_ONCE) {
          addStep<T, AT_ONCE>(acc + r, scales, group * T::STEPS + step, quants, x + r);
        }
      }
    }
  }
  UNROLL for (size_t r = 0; r < ROWS; r++) storePanel(product, row + r, output, acc[r]);
}

/** PANELS panels times a single row, a block of each in turn. */
template <typename T, size_t PANELS>
static void rowInt8(const Product& product, const QuantBlock* x, size_t output) {
  constexpr size_t BLOCK_BYTES = PANEL * T::BYTES;
  const Streams<PANELS> streams(product, output);
  const auto* first = reinterpret_cast<const uint8_t*>(product.panelAt(output));
  P acc[PANELS];
  for (P& value : acc) value = panelZero();
  for (size_t b = product.nIn / T::ELEMENTS; b > 0; b--, first += BLOCK_BYTES, x += T::GROUPS * T::STEPS) {
    // One after the other: what they have in common would not fit into registers.
    ROLLED for (size_t p = 0; p < PANELS; p++) {
      const uint8_t* panel = first + p * streams.panelBytes;
      streams.ask(panel, BLOCK_BYTES, b * BLOCK_BYTES);
      Scales<T> scales;
      T::scales(panel, scales);
      P sum = acc[p];
      for (size_t group = 0; group < T::GROUPS; group++) {
        const size_t firstStep = group * T::STEPS;
        Bytes quants[T::STEPS][BLOCK_WORDS];
        if constexpr (requires { T::bothQuants(panel, quants[0], quants[1]); }) {
          T::bothQuants(panel, quants[0], quants[1]);
        } else {
          UNROLL for (size_t step = 0; step < T::STEPS; step++) T::quants(panel, group, step, quants[step]);
        }
        UNROLL for (size_t step = 0; step < T::STEPS; step++) {
          addStep<T, 1>(&sum, scales, firstStep + step, quants[step], x + firstStep + step);
        }
      }
      acc[p] = sum;
    }
  }
  for (size_t p = 0; p < PANELS; p++) storePanel(product, 0, output + p * PANEL, acc[p]);
}

/** Many rows; of the sets that say HAS_UNPACKED alone. */
template <typename T>
static void multiplyUnpacked(const Product& product, const QuantBlock* x);

/** @param blocks the rows of x, rounded */
template <typename T>
static void multiplyRounded(const Product& product, const QuantBlock* blocks) {
  const size_t nBlocks = product.nIn / BLOCK;
  if (product.nRows == 1) {
    return forPanels<STREAMS, STREAMS / 2, 1>(
        product, [&]<size_t N>(Panels<N>, size_t output) { rowInt8<T, N>(product, blocks, output); });
  }
  if constexpr (HAS_UNPACKED) {
    if (product.nRows > OWN_ROWS) return multiplyUnpacked<T>(product, blocks);
  }
  forPanels<1>(product, [&](Panels<1>, size_t output) {
    for (size_t row = 0; row < product.nRows;) {
      const RowGroup group = groupAt(row, product.nRows);
      const QuantBlock* x = blocks + row * nBlocks;
      if (group.nRows == INT8_ROWS) {
        tileInt8<T, INT8_ROWS>(product, x, output, row);
      } else if (group.nRows == 4) {
        tileInt8<T, 4>(product, x, output, row);
      } else {
        tileInt8<T, 1>(product, x, output, row);
      }
      row += group.nRows;
    }
  });
}

template <typename T>
static void multiplyInt8(const Product& product, const Thread& thread) {
  multiplyRounded<T>(product, roundRows(product.x, product.xStride, product.nRows, product.nIn, thread));
}
