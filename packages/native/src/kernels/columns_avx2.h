// What products with matrices in columns (core/layout.ts of rwkv) need of AVX2: quants of one input for many outputs.

/** Most rows of x that are worked on together: as long as registers hold their sums of four panels. */
constexpr size_t COLUMN_ROWS = 2;

/** Fours of inputs that are added in one pass: few rows at a time are read faster than all of a block. */
constexpr size_t QUADS_AT_ONCE = 2;

/** Quants of 16 outputs. */
using Byte16 = __m128i;

INLINE Byte16 byte16Load(const uint8_t* p) { return halvesAt(p); }
/** Of each byte the `n` bits from `shift` on. */
INLINE Byte16 bitsOf(Byte16 b, int shift, int n) {
  return _mm_and_si128(_mm_srli_epi16(b, shift), _mm_set1_epi8(static_cast<char>((1 << n) - 1)));
}
/** Less `zero`, as f32. */
INLINE V eightOf(Byte16 b, int zero) {
  return _mm256_cvtepi32_ps(_mm256_sub_epi32(_mm256_cvtepu8_epi32(b), _mm256_set1_epi32(zero)));
}
INLINE P panelOf(Byte16 b, int zero) { return {eightOf(b, zero), eightOf(_mm_srli_si128(b, 8), zero)}; }

/** Bytes below 16 become those of the table. */
INLINE Byte16 lookup(const uint8_t table[16], Byte16 b) {
  return _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)), b);
}

/** Panels that `interleave` takes up at a time: as many as registers hold sums of, beside the bytes of the rows. */
template <bool HAS_NIBBLES>
constexpr size_t INTERLEAVED = HAS_NIBBLES ? 4 : 2;

/**
 * The bytes of four rows, four for each of 32 outputs, or of 64 that share nibbles, from `offset` on. `inOrder` brings them,
 * or sums of products of them, into the order of the outputs.
 */
template <bool HAS_NIBBLES>
INLINE void interleave(Bytes* out, const uint8_t* const rows[4], size_t offset) {
  const auto row = [=](int i) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[i] + offset)); };
  const __m256i ab[2] = {_mm256_unpacklo_epi8(row(0), row(1)), _mm256_unpackhi_epi8(row(0), row(1))};
  const __m256i cd[2] = {_mm256_unpacklo_epi8(row(2), row(3)), _mm256_unpackhi_epi8(row(2), row(3))};
  UNROLL for (size_t i = 0; i < 2; i++) {
    out[i] = {_mm256_unpacklo_epi16(ab[i], cd[i]), _mm256_unpackhi_epi16(ab[i], cd[i])};
    if constexpr (HAS_NIBBLES) {
      out[i + 2] = bitsOf(out[i], 4, 4);
      out[i] = bitsOf(out[i], 0, 4);
    }
  }
}
/** Registers of `interleave` hold four outputs of each of two panels. */
template <bool HAS_NIBBLES, typename T>
INLINE void inOrder(T* v) {
  UNROLL for (size_t i = 0; i < INTERLEAVED<HAS_NIBBLES>; i += 2) {
    const T a = v[i], b = v[i + 1];
    v[i] = {_mm256_permute2x128_si256(a.low, a.high, 0x20), _mm256_permute2x128_si256(b.low, b.high, 0x20)};
    v[i + 1] = {_mm256_permute2x128_si256(a.low, a.high, 0x31), _mm256_permute2x128_si256(b.low, b.high, 0x31)};
  }
}
INLINE void bytesStore(char* p, Bytes b) {
  auto* q = reinterpret_cast<__m256i*>(p);
  _mm256_storeu_si256(q, b.low);
  _mm256_storeu_si256(q + 1, b.high);
}

/** Writes the numbers of the lanes that are not zero (NaN is none) to `inputs`, lane 0 being `k`; returns how many. */
INLINE size_t listNonZero(uint32_t* inputs, V x, uint32_t k) {
  const int isListed = _mm256_movemask_ps(_mm256_cmp_ps(x, _mm256_setzero_ps(), _CMP_NEQ_UQ));
  size_t n = 0;
  UNROLL for (uint32_t i = 0; i < 8; i++) {
    inputs[n] = k + i;
    n += isListed >> i & 1;
  }
  return n;
}
/** Likewise those of 32 bytes, with the bytes. There is room for 16 more of both than are found. */
INLINE uint32_t listNonZero(uint32_t* inputs, int8_t* values, const int8_t* x, uint32_t k) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < 32; i++) {
    inputs[n] = k + i;
    values[n] = x[i];
    n += x[i] != 0;
  }
  return n;
}
