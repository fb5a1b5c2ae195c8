// Vectors of AVX-512: V holds 16 f32, I16 and P a value for each of the 16 outputs of a panel, Bytes four bytes.

using V = __m512;
constexpr size_t W = 16;

INLINE __mmask16 maskOf(size_t n) { return static_cast<__mmask16>((1u << n) - 1); }
INLINE V splat(float x) { return _mm512_set1_ps(x); }
INLINE V load(const float* p) { return _mm512_loadu_ps(p); }
/** The first n < W, zeros behind them. */
INLINE V loadFirst(const float* p, size_t n) { return _mm512_maskz_loadu_ps(maskOf(n), p); }
INLINE void store(float* p, V v) { _mm512_storeu_ps(p, v); }
INLINE void storeFirst(float* p, V v, size_t n) { _mm512_mask_storeu_ps(p, maskOf(n), v); }
INLINE V add(V a, V b) { return _mm512_add_ps(a, b); }
INLINE V sub(V a, V b) { return _mm512_sub_ps(a, b); }
INLINE V mul(V a, V b) { return _mm512_mul_ps(a, b); }
INLINE V div(V a, V b) { return _mm512_div_ps(a, b); }
/** a * b + c, rounded once. */
INLINE V fma(V a, V b, V c) { return _mm512_fmadd_ps(a, b, c); }
/** c - a * b, rounded once. */
INLINE V fnma(V a, V b, V c) { return _mm512_fnmadd_ps(a, b, c); }
/** If one is NaN: the second. */
INLINE V min(V a, V b) { return _mm512_min_ps(a, b); }
INLINE V max(V a, V b) { return _mm512_max_ps(a, b); }
INLINE V abs(V a) { return _mm512_abs_ps(a); }
INLINE V nearest(V a) { return _mm512_roundscale_ps(a, _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC); }
/** a * 2^n for whole n, rounded once. */
INLINE V scaled(V a, V n) { return _mm512_scalef_ps(a, n); }
/** The size of `size` with the sign of `sign`. */
INLINE V withSign(V size, V sign) {
  return _mm512_or_ps(_mm512_andnot_ps(splat(-0.0f), size), _mm512_and_ps(splat(-0.0f), sign));
}

/** Lanes l and l + 8, then l + 4, l + 2, l + 1. */
INLINE float sum(V v) {
  const __m256 eight = _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
  const __m128 four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
  const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
  return _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)));
}

/** The greatest lane, of which none is NaN. */
INLINE float greatestOf(V v) { return _mm512_reduce_max_ps(v); }
/** Stores lanes that are whole numbers from -127 to 127. */
INLINE void storeInt8(int8_t* p, V v) {
  _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(v)));
}

// Panels.

using P = __m512;
/** Panels and rows of a tile: what 32 registers hold. */
constexpr size_t TILE_ROWS = 12, TILE_PANELS = 2, BLOCK_PANELS = 2, INT8_ROWS = 12;

INLINE P panelZero() { return _mm512_setzero_ps(); }
INLINE P panelSplat(float x) { return _mm512_set1_ps(x); }
INLINE P panelLoad(const float* p) { return _mm512_loadu_ps(p); }
INLINE P panelLoad(const F16* p) { return _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))); }
INLINE P panelLoad(const Bf16* p) {
  const __m256i halves = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p));
  return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(halves), 16));
}
INLINE void panelStore(float* p, P v) { _mm512_storeu_ps(p, v); }
INLINE void panelStoreFirst(float* p, P v, size_t n) { _mm512_mask_storeu_ps(p, maskOf(n), v); }
INLINE P panelMul(P a, P b) { return _mm512_mul_ps(a, b); }
INLINE P panelFma(P a, P b, P c) { return _mm512_fmadd_ps(a, b, c); }
INLINE P panelMinus(P a) { return _mm512_xor_ps(a, _mm512_set1_ps(-0.0f)); }

using I16 = __m512i;
/** Four bytes for each output. */
using Bytes = __m512i;

INLINE Bytes bytesLoad(const uint8_t* p) { return _mm512_loadu_si512(p); }
INLINE Bytes bytesOr(Bytes a, Bytes b) { return _mm512_or_si512(a, b); }
/** Of each byte the `n` bits from `shift` on. */
INLINE Bytes bitsOf(Bytes b, int shift, int n) {
  return _mm512_and_si512(_mm512_srli_epi16(b, static_cast<unsigned>(shift)),
                          _mm512_set1_epi8(static_cast<char>((1 << n) - 1)));
}
/** b << n where no byte overflows. */
INLINE Bytes shifted(Bytes b, int n) { return _mm512_slli_epi16(b, static_cast<unsigned>(n)); }
/** Signed bytes plus 128. */
INLINE Bytes flipped(Bytes b) { return _mm512_xor_si512(b, _mm512_set1_epi8(-128)); }
/** Bytes below 16 become those of the table. */
INLINE Bytes lookup(const uint8_t table[16], Bytes b) {
  return _mm512_shuffle_epi8(_mm512_broadcast_i32x4(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table))), b);
}
/** Byte i of each output: 16 if bit 4 * word + i of its four bytes is set, else 0. */
INLINE Bytes sixteensAt(Bytes bits, int word) {
  const __m512i lanes = _mm512_broadcast_i32x4(_mm_setr_epi32(0, 0x04040404, 0x08080808, 0x0c0c0c0c));
  const __m512i spread = _mm512_shuffle_epi8(bits, _mm512_add_epi8(lanes, _mm512_set1_epi8(static_cast<char>(word / 2))));
  const __m512i places = _mm512_set1_epi32(word % 2 == 0 ? 0x08040201 : static_cast<int>(0x80402010));
  return _mm512_maskz_mov_epi8(_mm512_test_epi8_mask(spread, places), _mm512_set1_epi8(16));
}
/** The i-th of each output's four bytes, less `zero`, as f32. */
INLINE P byteAt(Bytes b, int i, int zero) {
  const __m512i byte = _mm512_and_si512(_mm512_srli_epi32(b, static_cast<unsigned>(8 * i)), _mm512_set1_epi32(255));
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(byte, _mm512_set1_epi32(zero)));
}
INLINE P toF32(I16 v) { return _mm512_cvtepi32_ps(v); }
/** What sums of products with bytes begin with, so that ZERO is taken off them: `minusSum` is that of the x, negated. */
template <int ZERO>
INLINE I16 startProducts(int32_t minusSum) {
  if constexpr (ZERO == 0) return _mm512_setzero_si512();
  return _mm512_slli_epi32(_mm512_set1_epi32(minusSum), log2Of(ZERO));
}
/** Adds the products of each output's four bytes with the same four of x. */
template <int ZERO>
INLINE I16 addProducts(I16 acc, Bytes w, const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return _mm512_dpbusd_epi32(acc, w, _mm512_set1_epi32(four));
}
/**
 * For each of ROWS rows adds the products of each output's four bytes in each of WORDS words with those of x. MOST: as in
 * panel_blocks.h.
 */
template <int ZERO, int MOST, size_t WORDS, size_t ROWS>
INLINE void addWords(I16 totals[ROWS], const Bytes* w, const int8_t* const xs[ROWS]) {
  UNROLL for (size_t i = 0; i < WORDS; i++) {
    UNROLL for (size_t r = 0; r < ROWS; r++) totals[r] = addProducts<ZERO>(totals[r], w[i], xs[r] + 4 * i);
  }
}

/** Many rows are met by bytes as well as few. */
constexpr bool HAS_UNPACKED = false;
