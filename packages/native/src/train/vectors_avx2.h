// What training needs of AVX2 beyond kernels/vector_avx2.h: roots, transposes and many horizontal sums at once.

INLINE V root(V a) { return _mm256_sqrt_ps(a); }

/** to[i][l] = from[l][i] for i, l < W; rows of `from` are `stride` elements apart, of `to` `toStride`. */
INLINE void transposeBlock(float* to, size_t toStride, const float* from, size_t stride) {
  V pairs[8];
  UNROLL for (size_t l = 0; l < 8; l += 2) {
    const V even = load(from + l * stride);
    const V odd = load(from + (l + 1) * stride);
    pairs[l] = _mm256_unpacklo_ps(even, odd);
    pairs[l + 1] = _mm256_unpackhi_ps(even, odd);
  }
  // The halves of fours[i] hold columns i and i + 4 of rows 0 to 3, of fours[i + 4] those of rows 4 to 7.
  V fours[8];
  UNROLL for (size_t half = 0; half < 2; half++) {
    UNROLL for (size_t i = 0; i < 2; i++) {
      const V first = pairs[4 * half + i];
      const V second = pairs[4 * half + i + 2];
      fours[4 * half + 2 * i] = _mm256_shuffle_ps(first, second, 0x44);
      fours[4 * half + 2 * i + 1] = _mm256_shuffle_ps(first, second, 0xee);
    }
  }
  UNROLL for (size_t i = 0; i < 4; i++) {
    store(to + i * toStride, _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x20));
    store(to + (i + 4) * toStride, _mm256_permute2f128_ps(fours[i], fours[i + 4], 0x31));
  }
}

/** Of two vectors the sums of neighbours, a's in the even lanes. */
INLINE V addPairs(V a, V b) { return add(_mm256_unpacklo_ps(a, b), _mm256_unpackhi_ps(a, b)); }

/** sums[i] = the sum of the lanes of v[i]. */
template <size_t N>
INLINE void sumEach(float* sums, const V* v) {
  if constexpr (N == 8) {
    V fours[2];
    UNROLL for (size_t i = 0; i < 2; i++) {
      const V even = addPairs(v[4 * i], v[4 * i + 2]);
      const V odd = addPairs(v[4 * i + 1], v[4 * i + 3]);
      fours[i] = addPairs(even, odd);
    }
    store(sums, add(_mm256_permute2f128_ps(fours[0], fours[1], 0x20), _mm256_permute2f128_ps(fours[0], fours[1], 0x31)));
  } else {
    UNROLL for (size_t i = 0; i < N; i++) sums[i] = sum(v[i]);
  }
}
