// Products of many rows, rounded to 8 bits, with quantised panels on AVX2: some blocks of a panel are unpacked once for all
// rows, which then pass by in fours, while the blocks that follow are asked for.
//
// Instructions multiply bytes without a sign by signed ones. To give activations the sign of weights would take the units
// that multiply; to flip their bits takes any:
//
//   w * x = |w| * x          if w >= 0
//   w * x = |w| * ~x + |w|   if w < 0, since -x = ~x + 1

/** Inputs that are unpacked together: with the sums they fill half of the nearest cache. */
constexpr size_t UNPACKED_INPUTS = 512;
/** Rows whose sums wait for the next inputs. */
constexpr size_t WAITING_ROWS = 64;
static_assert(WAITING_ROWS % INT8_ROWS == 0);

/** 32 inputs of a panel whose quants have no sign. */
template <typename T>
struct UnpackedStep {
  Bytes quants[BLOCK_WORDS];

  void set(const Bytes unpacked[BLOCK_WORDS]) {
    UNROLL for (size_t i = 0; i < BLOCK_WORDS; i++) quants[i] = unpacked[i];
  }

  /** Adds the products of WORDS words from `word` on with those of ROWS rows. */
  template <size_t WORDS, size_t ROWS>
  void addTo(I16 totals[ROWS], const QuantBlock* x, size_t word) const {
    addBytes<T, WORDS, ROWS>(totals, quants + word, x, word);
  }
};

/** 32 inputs of a panel of signed quants. */
template <typename T>
  requires(T::ZERO == 128)
struct UnpackedStep<T> {
  Bytes sizes[BLOCK_WORDS];
  /** 0 or -1. */
  Bytes signs[BLOCK_WORDS];
  /** Of each output the sizes of its negative weights, added up. */
  I16 negatives;

  INLINE __m256i setHalf(__m256i& size, __m256i& sign, __m256i quants) {
    const __m256i weights = flipped(quants);
    size = _mm256_abs_epi8(weights);
    sign = _mm256_cmpgt_epi8(_mm256_setzero_si256(), weights);
    return _mm256_maddubs_epi16(size, sign);
  }

  void set(const Bytes unpacked[BLOCK_WORDS]) {
    __m256i low = _mm256_setzero_si256(), high = low;
    UNROLL for (size_t i = 0; i < BLOCK_WORDS; i++) {
      low = _mm256_add_epi16(low, setHalf(sizes[i].low, signs[i].low, unpacked[i].low));
      high = _mm256_add_epi16(high, setHalf(sizes[i].high, signs[i].high, unpacked[i].high));
    }
    const __m256i minusOnes = _mm256_set1_epi16(-1);
    negatives = {_mm256_madd_epi16(low, minusOnes), _mm256_madd_epi16(high, minusOnes)};
  }

  template <size_t WORDS, size_t ROWS>
  void addTo(I16 totals[ROWS], const QuantBlock* x, size_t) const {
    static_assert(WORDS == BLOCK_WORDS);
    const __m256i ones = _mm256_set1_epi16(1);
    UNROLL for (size_t r = 0; r < ROWS; r++) totals[r] = negatives;
    UNROLL for (size_t i = 0; i < WORDS; i++) {
      UNROLL for (size_t r = 0; r < ROWS; r++) {
        const __m256i fours = foursAt(x[r].values + 4 * i);
        const __m256i low = _mm256_maddubs_epi16(sizes[i].low, _mm256_xor_si256(signs[i].low, fours));
        const __m256i high = _mm256_maddubs_epi16(sizes[i].high, _mm256_xor_si256(signs[i].high, fours));
        totals[r].low = _mm256_add_epi32(totals[r].low, _mm256_madd_epi16(low, ones));
        totals[r].high = _mm256_add_epi32(totals[r].high, _mm256_madd_epi16(high, ones));
        keepOrder(totals[r]);
      }
    }
  }
};

/** Blocks of a panel. */
template <typename T>
struct UnpackedBlocks {
  static constexpr size_t MOST = UNPACKED_INPUTS / T::ELEMENTS;

  Scales<T> scales[MOST];
  UnpackedStep<T> steps[UNPACKED_INPUTS / BLOCK];

  void unpack(const uint8_t* panel, size_t nBlocks) {
    UnpackedStep<T>* to = steps;
    for (size_t b = 0; b < nBlocks; b++, panel += PANEL * T::BYTES) {
      T::scales(panel, scales[b]);
      for (size_t group = 0; group < T::GROUPS; group++) {
        UNROLL for (size_t step = 0; step < T::STEPS; step++, to++) {
          Bytes quants[BLOCK_WORDS];
          T::quants(panel, group, step, quants);
          to->set(quants);
        }
      }
    }
  }
};

/** Bytes that are asked for a few at a time. */
struct BytesAhead {
  const char* next;
  size_t atOnce;

  void ask() {
    for (size_t at = 0; at < atOnce; at += 64) __builtin_prefetch(next + at, 0, 2);
    next += atOnce;
  }
};

/** Adds the products of unpacked blocks with ROWS rows to their sums. */
template <typename T, size_t ROWS>
static void addUnpacked(float (*sums)[PANEL], const UnpackedBlocks<T>& blocks, size_t nBlocks, const QuantBlock* x,
                        BytesAhead& ahead) {
  constexpr size_t N_STEPS = T::ELEMENTS / BLOCK;
  P acc[ROWS];
  UNROLL for (size_t r = 0; r < ROWS; r++) acc[r] = panelLoad(sums[r]);
  const UnpackedStep<T>* w = blocks.steps;
  for (size_t b = 0; b < nBlocks; b++) {
    ahead.ask();
    ROLLED for (size_t step = 0; step < N_STEPS; step++, x += ROWS, w++) {
      addStep<T, ROWS>(acc, blocks.scales[b], step, x, [=]<size_t WORDS>(I16* totals, Words<WORDS>, size_t word) {
        w->template addTo<WORDS, ROWS>(totals, x, word);
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
      const size_t nGroups = nRows / INT8_ROWS + nRows % INT8_ROWS;
      alignas(64) float sums[WAITING_ROWS][PANEL];
      __builtin_memset(sums, 0, nRows * sizeof *sums);
      for (size_t b = 0; b < nBlocks; b += unpacked.MOST) {
        const size_t n = nBlocks - b < unpacked.MOST ? nBlocks - b : unpacked.MOST;
        const char* packed = product.panelAt(output) + b * PANEL * T::BYTES;
        unpacked.unpack(reinterpret_cast<const uint8_t*>(packed), n);
        BytesAhead ahead{packed + n * PANEL * T::BYTES, (PANEL * T::BYTES + nGroups - 1) / nGroups};
        for (size_t row = 0; row < nRows;) {
          const RowGroup group = groupAt(first + row, product.nRows);
          const QuantBlock* here = x + (first + row) * rowBlocks + b * (T::ELEMENTS / BLOCK) * group.nRows;
          if (group.nRows == INT8_ROWS) {
            addUnpacked<T, INT8_ROWS>(sums + row, unpacked, n, here, ahead);
          } else {
            addUnpacked<T, 1>(sums + row, unpacked, n, here, ahead);
          }
          row += group.nRows;
        }
      }
      for (size_t row = 0; row < nRows; row++) storePanel(product, first + row, output, panelLoad(sums[row]));
    }
  });
}
