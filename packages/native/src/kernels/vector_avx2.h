// Vectors of AVX2: V holds 8 f32; I16 and P, a value for each of the 16 outputs of a panel, take two registers.

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

INLINE float fromF16(uint16_t bits) { return _cvtsh_ss(bits); }

// Panels.

struct P {
  __m256 low, high;
};
/** Panels and rows of a tile: what 16 registers hold. */
constexpr size_t TILE_ROWS = 6, TILE_PANELS = 1, VECTOR_PANELS = 4, INT8_ROWS = 4;

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
INLINE __m256i lowNibbles(__m256i b) { return _mm256_and_si256(b, _mm256_set1_epi8(15)); }
INLINE Bytes lowNibbles(Bytes b) { return {lowNibbles(b.low), lowNibbles(b.high)}; }
INLINE Bytes highNibbles(Bytes b) {
  return {lowNibbles(_mm256_srli_epi16(b.low, 4)), lowNibbles(_mm256_srli_epi16(b.high, 4))};
}
INLINE V byteAt(__m256i b, int i, int zero) {
  const __m256i byte = _mm256_and_si256(_mm256_srli_epi32(b, 8 * i), _mm256_set1_epi32(255));
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(byte, _mm256_set1_epi32(zero)));
}
/** The i-th of each output's four bytes, less `zero`, as f32. */
INLINE P byteAt(Bytes b, int i, int zero) { return {byteAt(b.low, i, zero), byteAt(b.high, i, zero)}; }
INLINE P toF32(I16 v) { return {_mm256_cvtepi32_ps(v.low), _mm256_cvtepi32_ps(v.high)}; }

/** `start` takes the ZERO of the stored bytes off. */
template <int ZERO>
INLINE I16 startProducts(int32_t start) {
  // Pairs of products of a byte above 127 would not fit in 16 bits: those weights are made signed before.
  const __m256i first = _mm256_set1_epi32(ZERO == 128 ? 0 : start);
  return {first, first};
}
template <int ZERO>
INLINE __m256i addProducts(__m256i acc, __m256i w, __m256i x) {
  __m256i pairs;
  if constexpr (ZERO == 128) {
    const __m256i signedW = _mm256_xor_si256(w, _mm256_set1_epi8(-128));
    pairs = _mm256_maddubs_epi16(_mm256_abs_epi8(signedW), _mm256_sign_epi8(x, signedW));
  } else {
    pairs = _mm256_maddubs_epi16(w, x);
  }
  return _mm256_add_epi32(acc, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
}
/** Adds the products of each output's four bytes with the same four of x. */
template <int ZERO>
INLINE I16 addProducts(I16 acc, Bytes w, const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  const __m256i fours = _mm256_set1_epi32(four);
  return {addProducts<ZERO>(acc.low, w.low, fours), addProducts<ZERO>(acc.high, w.high, fours)};
}
