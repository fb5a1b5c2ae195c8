// Products of many rows, rounded to 8 bits, with quantised panels on AVX2: some blocks of a panel are unpacked once for all
// rows, which then pass by in fours. Signed bytes are unpacked to 16 bits, where a product and an addition take two
// instructions for 16 weights; as bytes they would take four for 32, three of which want the same two of four units.

/** Inputs that are unpacked together: with the sums they fill half of the nearest cache. */
constexpr size_t UNPACKED_INPUTS = 512;
/** Rows whose sums wait for the next inputs. */
constexpr size_t WAITING_ROWS = 64;
static_assert(WAITING_ROWS % INT8_ROWS == 0);

template <typename T>
constexpr bool IS_WIDE = T::ZERO == 128;

/** Blocks of a panel. */
template <typename T>
struct UnpackedBlocks {
  static constexpr size_t MOST = UNPACKED_INPUTS / T::ELEMENTS;
  /** Registers of 32 inputs. */
  static constexpr size_t N_QUANTS = IS_WIDE<T> ? 2 * BLOCK_WORDS : BLOCK_WORDS;

  Scales<T> scales[MOST];
  Bytes quants[UNPACKED_INPUTS / BLOCK][N_QUANTS];

  void unpack(const uint8_t* panel, size_t nBlocks) {
    Bytes* to = quants[0];
    for (size_t b = 0; b < nBlocks; b++, panel += PANEL * T::BYTES) {
      T::scales(panel, scales[b]);
      for (size_t group = 0; group < T::GROUPS; group++) {
        UNROLL for (size_t step = 0; step < T::STEPS; step++, to += N_QUANTS) {
          Bytes bytes[BLOCK_WORDS];
          T::quants(panel, group, step, bytes);
          UNROLL for (size_t i = 0; i < BLOCK_WORDS; i++) {
            if constexpr (IS_WIDE<T>) {
              __m256i low[2], high[2];
              widen(low, flipped(bytes[i].low));
              widen(high, flipped(bytes[i].high));
              to[2 * i] = {low[0], high[0]};
              to[2 * i + 1] = {low[1], high[1]};
            } else {
              to[i] = bytes[i];
            }
          }
        }
      }
    }
  }
};

/** For each of ROWS rows adds the products of WORDS words, widened, from `word` on with those of x. */
template <size_t WORDS, size_t ROWS>
INLINE void addWide(I16 totals[ROWS], const Bytes* w, const QuantBlock* x, size_t word) {
  UNROLL for (size_t i = 0; i < WORDS; i++) {
    UNROLL for (size_t half = 0; half < 2; half++, w++) {
      UNROLL for (size_t r = 0; r < ROWS; r++) {
        const auto* pair = reinterpret_cast<const int8_t*>(x[r].wide.words[half] + 2 * (word + i));
        const __m256i xs = foursAt(pair);
        totals[r].low = _mm256_add_epi32(totals[r].low, _mm256_madd_epi16(w->low, xs));
        totals[r].high = _mm256_add_epi32(totals[r].high, _mm256_madd_epi16(w->high, xs));
        keepOrder(totals[r]);
      }
    }
  }
}

/** Adds the products of unpacked blocks with ROWS rows to their sums. */
template <typename T, size_t ROWS>
static void addUnpacked(float (*sums)[PANEL], const UnpackedBlocks<T>& blocks, size_t nBlocks, const QuantBlock* x) {
  constexpr size_t N_STEPS = T::ELEMENTS / BLOCK;
  P acc[ROWS];
  UNROLL for (size_t r = 0; r < ROWS; r++) acc[r] = panelLoad(sums[r]);
  const Bytes* quants = blocks.quants[0];
  for (size_t b = 0; b < nBlocks; b++) {
    ROLLED for (size_t step = 0; step < N_STEPS; step++, x += ROWS, quants += UnpackedBlocks<T>::N_QUANTS) {
      addStep<T, ROWS>(acc, blocks.scales[b], step, x, [=]<size_t WORDS>(I16* totals, Words<WORDS>, size_t word) {
        if constexpr (IS_WIDE<T>) {
          addWide<WORDS, ROWS>(totals, quants + 2 * word, x, word);
        } else {
          addBytes<T, WORDS, ROWS>(totals, quants + word, x, word);
        }
      });
    }
  }
  UNROLL for (size_t r = 0; r < ROWS; r++) panelStore(sums[r], acc[r]);
}

/** @param x the rows, rounded */
template <typename T>
static void multiplyUnpacked(const Product& product, const QuantBlock* x) {
  const size_t nBlocks = product.nIn / T::ELEMENTS;
  const size_t rowBlocks = product.nIn / BLOCK;
  forPanels<1>(product, [&](Panels<1>, size_t output) {
    UnpackedBlocks<T> unpacked;
    for (size_t first = 0; first < product.nRows; first += WAITING_ROWS) {
      const size_t nRows = product.nRows - first < WAITING_ROWS ? product.nRows - first : WAITING_ROWS;
      alignas(64) float sums[WAITING_ROWS][PANEL]{};
      for (size_t b = 0; b < nBlocks; b += unpacked.MOST) {
        const size_t n = nBlocks - b < unpacked.MOST ? nBlocks - b : unpacked.MOST;
        unpacked.unpack(reinterpret_cast<const uint8_t*>(product.panelAt(output)) + b * PANEL * T::BYTES, n);
        for (size_t row = 0; row < nRows;) {
          const RowGroup group = groupAt(first + row, product.nRows);
          const QuantBlock* here = x + (first + row) * rowBlocks + b * (T::ELEMENTS / BLOCK) * group.nRows;
          if (group.nRows == INT8_ROWS) {
            addUnpacked<T, INT8_ROWS>(sums + row, unpacked, n, here);
          } else {
            addUnpacked<T, 1>(sums + row, unpacked, n, here);
          }
          row += group.nRows;
        }
      }
      for (size_t row = 0; row < nRows; row++) storePanel(product, first + row, output, panelLoad(sums[row]));
    }
  });
}
