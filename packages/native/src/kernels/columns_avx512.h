// What products with matrices in columns (core/layout.ts of rwkv) need of AVX-512: quants of one input for many outputs.

/** Most rows of x that are worked on together: as long as registers hold their sums of four panels. */
constexpr size_t COLUMN_ROWS = 4;

/** Fours of inputs that are added in one pass: all of a block. */
constexpr size_t QUADS_AT_ONCE = 8;

/** Quants of 16 outputs. */
using Byte16 = __m128i;

INLINE Byte16 byte16Load(const uint8_t* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
/** Of each byte the `n` bits from `shift` on. */
INLINE Byte16 bitsOf(Byte16 b, int shift, int n) {
  return _mm_and_si128(_mm_srli_epi16(b, shift), _mm_set1_epi8(static_cast<char>((1 << n) - 1)));
}
/** Less `zero`, as f32. */
INLINE P panelOf(Byte16 b, int zero) {
  return _mm512_cvtepi32_ps(_mm512_sub_epi32(_mm512_cvtepu8_epi32(b), _mm512_set1_epi32(zero)));
}

/** Bytes below 16 become those of the table. */
INLINE Byte16 lookup(const uint8_t table[16], Byte16 b) {
  return _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(table)), b);
}

/** Panels that `interleave` takes up at a time. */
template <bool HAS_NIBBLES>
constexpr size_t INTERLEAVED = 4;

/**
 * The bytes of four rows, four for each of 64 outputs, from `offset` on. `inOrder` brings them, or sums of products of
 * them, into the order of the outputs.
 */
template <bool HAS_NIBBLES>
INLINE void interleave(Bytes out[4], const uint8_t* const rows[4], size_t offset) {
  if constexpr (HAS_NIBBLES) {
    const auto half = [=](int i) { return _mm256_loadu_si256(reinterpret_cast<const __m256i*>(rows[i] + offset)); };
    const __m512i ac = _mm512_inserti64x4(_mm512_castsi256_si512(half(0)), half(2), 1);
    const __m512i bd = _mm512_inserti64x4(_mm512_castsi256_si512(half(1)), half(3), 1);
    // Pairs of a and b, behind them pairs of c and d: outputs 0 to 7 and 16 to 23, then 8 to 15 and 24 to 31.
    const __m512i low = _mm512_unpacklo_epi8(ac, bd);
    const __m512i high = _mm512_unpackhi_epi8(ac, bd);
    const __m512i first = _mm512_set_epi16(55, 39, 54, 38, 53, 37, 52, 36, 51, 35, 50, 34, 49, 33, 48, 32,  //
                                           23, 7, 22, 6, 21, 5, 20, 4, 19, 3, 18, 2, 17, 1, 16, 0);
    const __m512i second = _mm512_or_si512(first, _mm512_set1_epi16(8));
    const Bytes pairs[2] = {_mm512_permutex2var_epi16(low, first, high), _mm512_permutex2var_epi16(low, second, high)};
    UNROLL for (size_t i = 0; i < 2; i++) {
      out[i] = bitsOf(pairs[i], 0, 4);
      out[i + 2] = bitsOf(pairs[i], 4, 4);
    }
  } else {
    const auto row = [=](int i) { return _mm512_loadu_si512(rows[i] + offset); };
    const __m512i ab[2] = {_mm512_unpacklo_epi8(row(0), row(1)), _mm512_unpackhi_epi8(row(0), row(1))};
    const __m512i cd[2] = {_mm512_unpacklo_epi8(row(2), row(3)), _mm512_unpackhi_epi8(row(2), row(3))};
    UNROLL for (size_t i = 0; i < 2; i++) {
      out[2 * i] = _mm512_unpacklo_epi16(ab[i], cd[i]);
      out[2 * i + 1] = _mm512_unpackhi_epi16(ab[i], cd[i]);
    }
  }
}
/** Vectors of `interleave` hold four outputs of each of four panels; nibbles are in order. */
template <bool HAS_NIBBLES>
INLINE void inOrder(__m512i v[4]) {
  if constexpr (HAS_NIBBLES) return;
  const __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[0], v[1], 0xee);
  const __m512i c = _mm512_shuffle_i32x4(v[2], v[3], 0x44), d = _mm512_shuffle_i32x4(v[2], v[3], 0xee);
  v[0] = _mm512_shuffle_i32x4(a, c, 0x88);
  v[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
  v[2] = _mm512_shuffle_i32x4(b, d, 0x88);
  v[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}
INLINE void bytesStore(char* p, Bytes b) { _mm512_storeu_si512(p, b); }

/** Writes the numbers of the lanes that are not zero (NaN is none) to `inputs`, lane 0 being `k`; returns how many. */
INLINE size_t listNonZero(uint32_t* inputs, V x, uint32_t k) {
  const __mmask16 isListed = _mm512_cmp_ps_mask(x, _mm512_setzero_ps(), _CMP_NEQ_UQ);
  const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
  const __m512i numbers = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int>(k)));
  // Not straight to memory, which takes some processors a hundred cycles.
  _mm512_storeu_si512(inputs, _mm512_maskz_compress_epi32(isListed, numbers));
  return static_cast<size_t>(__builtin_popcount(isListed));
}
/** Likewise those of 32 bytes, with the bytes. There is room for 16 more of both than are found. */
INLINE uint32_t listNonZero(uint32_t* inputs, int8_t* values, const int8_t* x, uint32_t k) {
  uint32_t n = 0;
  UNROLL for (uint32_t i = 0; i < 32; i += 16) {
    const __m512i bytes = _mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(x + i)));
    const __mmask16 isListed = _mm512_test_epi32_mask(bytes, bytes);
    const __m512i lanes = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    const __m512i numbers = _mm512_add_epi32(lanes, _mm512_set1_epi32(static_cast<int>(k + i)));
    _mm512_storeu_si512(inputs + n, _mm512_maskz_compress_epi32(isListed, numbers));
    const __m128i listed = _mm512_cvtepi32_epi8(_mm512_maskz_compress_epi32(isListed, bytes));
    _mm_storeu_si128(reinterpret_cast<__m128i*>(values + n), listed);
    n += static_cast<uint32_t>(__builtin_popcount(isListed));
  }
  return n;
}
