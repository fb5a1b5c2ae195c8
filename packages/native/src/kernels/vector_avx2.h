// Vectors of AVX2: V holds 8 f32; I16 and P, a value for each of the 16 outputs of a panel, and
// Bytes, four bytes for each of them, take two registers.

using V = __m256;
constexpr size_t W = 8;

INLINE __m256i maskOf(size_t n) {
  const __m256i lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
  return _mm256_cmpgt_epi32(_mm256_set1_epi32(static_cast<int>(n)), lanes);
}
INLINE V splat(float x) { return _mm256_set1_ps(x); }
INLINE V load(const float* p) { return _mm256_loadu_ps(p); }
/** The first n < W, zeros behind them. */
INLINE V loadFirst(const float* p, size_t n) { return _mm256_maskload_ps(p, maskOf(n)); }
INLINE void store(float* p, V v) { _mm256_storeu_ps(p, v); }
INLINE void storeFirst(float* p, V v, size_t n) { _mm256_maskstore_ps(p, maskOf(n), v); }
INLINE V add(V a, V b) { return _mm256_add_ps(a, b); }
INLINE V sub(V a, V b) { return _mm256_sub_ps(a, b); }
INLINE V mul(V a, V b) { return _mm256_mul_ps(a, b); }
INLINE V div(V a, V b) { return _mm256_div_ps(a, b); }
/** a * b + c, rounded once. */
INLINE V fma(V a, V b, V c) { return _mm256_fmadd_ps(a, b, c); }
/** c - a * b, rounded once. */
INLINE V fnma(V a, V b, V c) { return _mm256_fnmadd_ps(a, b, c); }
/** If one is NaN: the second. */
INLINE V min(V a, V b) { return _mm256_min_ps(a, b); }
INLINE V max(V a, V b) { return _mm256_max_ps(a, b); }
INLINE V abs(V a) { return _mm256_andnot_ps(splat(-0.0f), a); }
INLINE V nearest(V a) { return _mm256_round_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/** a * 2^n for whole n in [-252, 254]; 2^n is split, since it may lie outside the normal range. */
INLINE V scaled(V a, V n) {
  const __m256i power = _mm256_cvtps_epi32(n);
  const __m256i half = _mm256_srai_epi32(power, 1);
  const __m256i rest = _mm256_sub_epi32(power, half);
  const __m256i bias = _mm256_set1_epi32(127);
  const V first = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(half, bias), 23));
  const V second = _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_add_epi32(rest, bias), 23));
  return mul(mul(a, first), second);
}
/** The size of `size` with the sign of `sign`. */
INLINE V withSign(V size, V sign) {
  return _mm256_or_ps(_mm256_andnot_ps(splat(-0.0f), size), _mm256_and_ps(splat(-0.0f), sign));
}

/** Lanes l and l + 4, then l + 2, l + 1. */
INLINE float sum(V v) {
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/** The greatest lane, of which none is NaN. */
INLINE float greatestOf(V v) {
  const __m128 four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps(v, 1));
  const __m128 two = _mm_max_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)));
}
/** Stores lanes that are whole numbers from -127 to 127. */
INLINE void storeInt8(int8_t* p, V v) {
  const __m256i words = _mm256_cvtps_epi32(v);
  const __m128i halves = _mm_packs_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1));
  _mm_storel_epi64(reinterpret_cast<__m128i*>(p), _mm_packs_epi16(halves, halves));
}

// Panels.

struct P {
  __m256 low, high;
};
/** Panels and rows of a tile: what 16 registers hold. */
constexpr size_t TILE_ROWS = 6, TILE_PANELS = 1, BLOCK_PANELS = 1, INT8_ROWS = 4;

INLINE P panelZero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
INLINE P panelSplat(float x) { return {splat(x), splat(x)}; }
INLINE P panelLoad(const float* p) { return {load(p), load(p + 8)}; }
INLINE __m128i halvesAt(const void* p) { return _mm_loadu_si128(static_cast<const __m128i*>(p)); }
INLINE P panelLoad(const F16* p) { return {_mm256_cvtph_ps(halvesAt(p)), _mm256_cvtph_ps(halvesAt(p + 8))}; }
INLINE V fromBf16(__m128i halves) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(halves), 16));
}
INLINE P panelLoad(const Bf16* p) { return {fromBf16(halvesAt(p)), fromBf16(halvesAt(p + 8))}; }
INLINE void panelStore(float* p, P v) {
  store(p, v.low);
  store(p + 8, v.high);
}
INLINE void panelStoreFirst(float* p, P v, size_t n) {
  if (n < 8) {
    storeFirst(p, v.low, n);
    return;
  }
  store(p, v.low);
  storeFirst(p + 8, v.high, n - 8);
}
INLINE P panelMul(P a, P b) { return {mul(a.low, b.low), mul(a.high, b.high)}; }
INLINE P panelFma(P a, P b, P c) { return {fma(a.low, b.low, c.low), fma(a.high, b.high, c.high)}; }
INLINE P panelMinus(P a) { return {_mm256_xor_ps(a.low, splat(-0.0f)), _mm256_xor_ps(a.high, splat(-0.0f))}; }

struct I16 {
  __m256i low, high;
};
/** Four bytes for each output. */
struct Bytes {
  __m256i low, high;
};

INLINE Bytes bytesLoad(const uint8_t* p) {
  const auto* q = reinterpret_cast<const __m256i*>(p);
  return {_mm256_loadu_si256(q), _mm256_loadu_si256(q + 1)};
}
INLINE Bytes bytesOr(Bytes a, Bytes b) { return {_mm256_or_si256(a.low, b.low), _mm256_or_si256(a.high, b.high)}; }
INLINE __m256i bitsOf(__m256i b, int shift, int n) {
  return _mm256_and_si256(_mm256_srli_epi16(b, shift), _mm256_set1_epi8(static_cast<char>((1 << n) - 1)));
}
/** Of each byte the `n` bits from `shift` on. */
INLINE Bytes bitsOf(Bytes b, int shift, int n) { return {bitsOf(b.low, shift, n), bitsOf(b.high, shift, n)}; }
/** b << n where no byte overflows. */
INLINE Bytes shifted(Bytes b, int n) { return {_mm256_slli_epi16(b.low, n), _mm256_slli_epi16(b.high, n)}; }
INLINE __m256i flipped(__m256i b) { return _mm256_xor_si256(b, _mm256_set1_epi8(-128)); }
/** Signed bytes plus 128. */
INLINE Bytes flipped(Bytes b) { return {flipped(b.low), flipped(b.high)}; }
/** Bytes below 16 become those of the table. */
INLINE Bytes lookup(const uint8_t table[16], Bytes b) {
  const __m256i bytes = _mm256_broadcastsi128_si256(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)));
  return {_mm256_shuffle_epi8(bytes, b.low), _mm256_shuffle_epi8(bytes, b.high)};
}
INLINE __m256i sixteensAt(__m256i bits, int word) {
  const __m256i lanes = _mm256_broadcastsi128_si256(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
  const __m256i spread = _mm256_shuffle_epi8(bits, _mm256_add_epi8(lanes, _mm256_set1_epi8(static_cast<char>(word / 2))));
  const __m256i places = _mm256_set1_epi32(word % 2 == 0 ? 0x08040201 : static_cast<int>(0x80402010));
  const __m256i isSet = _mm256_cmpeq_epi8(_mm256_and_si256(spread, places), places);
  return _mm256_and_si256(isSet, _mm256_set1_epi8(16));
}
/** Byte i of each output: 16 if bit 4 * word + i of its four bytes is set, else 0. */
INLINE Bytes sixteensAt(Bytes bits, int word) { return {sixteensAt(bits.low, word), sixteensAt(bits.high, word)}; }
INLINE V byteAt(__m256i b, int i, int zero) {
  const __m256i byte = _mm256_and_si256(_mm256_srli_epi32(b, 8 * i), _mm256_set1_epi32(255));
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(byte, _mm256_set1_epi32(zero)));
}
/** The i-th of each output's four bytes, less `zero`, as f32. */
INLINE P byteAt(Bytes b, int i, int zero) { return {byteAt(b.low, i, zero), byteAt(b.high, i, zero)}; }
INLINE P toF32(I16 v) { return {_mm256_cvtepi32_ps(v.low), _mm256_cvtepi32_ps(v.high)}; }

/** What sums of products with bytes begin with, so that ZERO is taken off them: `minusSum` is that of the x, negated. */
template <int ZERO>
INLINE I16 startProducts(int32_t minusSum) {
  // Pairs of products of a byte above 127 would not fit in 16 bits: `addProducts` makes those weights signed.
  if constexpr (ZERO == 0 || ZERO == 128) return {_mm256_setzero_si256(), _mm256_setzero_si256()};
  const __m256i start = _mm256_slli_epi32(_mm256_set1_epi32(minusSum), log2Of(ZERO));
  return {start, start};
}
template <int ZERO>
INLINE __m256i addProducts(__m256i acc, __m256i w, __m256i x) {
  __m256i pairs;
  if constexpr (ZERO == 128) {
    const __m256i signedW = flipped(w);
    pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(signedW), _mm256_sign_epi8(x, signedW));
  } else {
    pairs = _mm256_maddubs_epi16(w, x);
  }
  return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
INLINE __m256i foursAt(const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return _mm256_set1_epi32(four);
}
/** Sums up to here are made first: a compiler that adds up products in pairs runs out of registers. */
INLINE void keepOrder(I16& sums) { asm("" : "+x"(sums.low), "+x"(sums.high)); }
/** Adds the products of each output's four bytes with the same four of x. */
template <int ZERO>
INLINE I16 addProducts(I16 acc, Bytes w, const int8_t* x) {
  const __m256i fours = foursAt(x);
  return {addProducts<ZERO>(acc.low, w.low, fours), addProducts<ZERO>(acc.high, w.high, fours)};
}
/**
 * For each of ROWS rows adds the products of each output's four bytes in each of WORDS words with those of x. Of bytes of MOST
 * at the most pairs of products are added up in 16 bits while they fit.
 */
template <int ZERO, int MOST, size_t WORDS, size_t ROWS>
INLINE void addWords(I16 totals[ROWS], const Bytes* w, const int8_t* const xs[ROWS]) {
  constexpr size_t FITTING = INT16_MAX / (2 * 127 * MOST);
  if constexpr (ZERO == 128 || FITTING < 2) {
    UNROLL for (size_t i = 0; i < WORDS; i++) {
      UNROLL for (size_t r = 0; r < ROWS; r++) totals[r] = addProducts<ZERO>(totals[r], w[i], xs[r] + 4 * i);
    }
  } else {
    constexpr size_t AT_ONCE = FITTING < WORDS ? FITTING : WORDS;
    static_assert(WORDS % AT_ONCE == 0);
    for (size_t first = 0; first < WORDS; first += AT_ONCE) {
      I16 pairs[ROWS];
      UNROLL for (size_t r = 0; r < ROWS; r++) pairs[r] = {_mm256_setzero_si256(), _mm256_setzero_si256()};
      UNROLL for (size_t i = 0; i < AT_ONCE; i++) {
        const Bytes word = w[first + i];
        UNROLL for (size_t r = 0; r < ROWS; r++) {
          const __m256i fours = foursAt(xs[r] + 4 * (first + i));
          pairs[r].low = _mm256_add_epi16(pairs[r].low, _mm256_maddubs_epi16(word.low, fours));
          pairs[r].high = _mm256_add_epi16(pairs[r].high, _mm256_maddubs_epi16(word.high, fours));
          keepOrder(pairs[r]);
        }
      }
      const __m256i ones = _mm256_set1_epi16(1);
      UNROLL for (size_t r = 0; r < ROWS; r++) {
        totals[r].low = _mm256_add_epi32(totals[r].low, _mm256_madd_epi16(pairs[r].low, ones));
        totals[r].high = _mm256_add_epi32(totals[r].high, _mm256_madd_epi16(pairs[r].high, ones));
      }
    }
  }
}

/** Whether many rows take the kernels of matmul_unpacked_avx2.h. */
constexpr bool HAS_UNPACKED = true;
