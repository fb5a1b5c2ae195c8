// What training needs of AVX-512 beyond kernels/vector_avx512.h: roots, transposes and many horizontal sums at once.

INLINE V root(V a) { return _mm512_sqrt_ps(a); }

/** to[i][l] = from[l][i] for i, l < W; rows of `from` are `stride` elements apart, of `to` `toStride`. */
INLINE void transposeBlock(float* to, size_t toStride, const float* from, size_t stride) {
  for (size_t l = 0; l < W; l++) {
    for (size_t i = 0; i < W; i++) to[i * toStride + l] = from[l * stride + i];
  }
}

/** sums[i] = the sum of the lanes of v[i]. */
template <size_t N>
INLINE void sumEach(float* sums, const V* v) {
  UNROLL for (size_t i = 0; i < N; i++) sums[i] = sum(v[i]);
}
