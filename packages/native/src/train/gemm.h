// Matrix products of training, c (+)= a b over f32, in the three forms of a linear layer:
//
//   nt   c[m, n] = a[m, k] b[n, k]^T     forward, x W^T
//   nn   c[m, n] = a[m, k] b[k, n]       gradient of the input, dY W
//   tn   c[m, n] = a[k, m]^T b[k, n]     gradient of the weights, dY^T X
//
// A tile of c, GEMM_ROWS rows by GEMM_VECTORS vectors, stays in registers while a block of GEMM_INNER inner elements
// passes. b is packed into panels as wide as a tile, zeros behind its last column; a is read where it lies, but for tn,
// whose columns are packed too: neighbours there are a row apart, often a power of two, and fall into the same cache set.
//
// Order of sums: within a block of GEMM_INNER one chain of fused multiply-adds over the inner dimension, which begins at
// zero; then the sums of the blocks in order, onto c if `accumulate`. It depends on no other dimension, so that every
// kernel set gives the same bits.

/** What the registers hold: accumulators, one row of b, one element of a. */
constexpr size_t GEMM_ROWS = W == 16 ? 12 : 6;
constexpr size_t GEMM_VECTORS = W == 4 ? 4 : 2;
constexpr size_t GEMM_WIDTH = GEMM_VECTORS * W;
/** A panel of b fits in the first cache beside the rows of a, all panels of a block in the second or third. */
constexpr size_t GEMM_INNER = 256;
constexpr size_t GEMM_COLUMNS = 512;
/** Rows of a that pass over all panels before the next: with GEMM_INNER columns they fit in the second cache. */
constexpr size_t GEMM_BLOCK_ROWS = 120;
static_assert(GEMM_COLUMNS % GEMM_WIDTH == 0 && GEMM_BLOCK_ROWS % GEMM_ROWS == 0);

constexpr uint32_t GEMM_NT = 0, GEMM_NN = 1, GEMM_TN = 2;

/** Packed blocks of b and, of tn, of a. Filled anew by every call. */
struct GemmScratch {
  float b[GEMM_INNER * GEMM_COLUMNS];
  float a[GEMM_INNER * GEMM_BLOCK_ROWS];
};

/** Packs `nInner` rows of b[k, n] by `nColumns` columns into panels [inner][GEMM_WIDTH]. */
static void packRows(float* packed, const float* b, size_t stride, size_t nInner, size_t nColumns) {
  for (size_t column = 0; column < nColumns; column += GEMM_WIDTH, packed += nInner * GEMM_WIDTH) {
    const size_t width = nColumns - column;
    for (size_t i = 0; i < nInner; i++) {
      const float* from = b + i * stride + column;
      float* to = packed + i * GEMM_WIDTH;
      if (width >= GEMM_WIDTH) {
        UNROLL for (size_t v = 0; v < GEMM_VECTORS; v++) store(to + v * W, load(from + v * W));
      } else {
        for (size_t j = 0; j < GEMM_WIDTH; j++) to[j] = j < width ? from[j] : 0;
      }
    }
  }
}

/** Packs `nInner` columns of b[n, k] by `nColumns` rows into the same panels: a transpose, 8 by 8 so that lines are used up. */
static void packColumns(float* packed, const float* b, size_t stride, size_t nInner, size_t nColumns) {
  for (size_t column = 0; column < nColumns; column += GEMM_WIDTH, packed += nInner * GEMM_WIDTH) {
    const size_t width = nColumns - column < GEMM_WIDTH ? nColumns - column : GEMM_WIDTH;
    for (size_t j = 0; j < GEMM_WIDTH; j += W) {
      size_t i = 0;
      if (j + W <= width) {
        for (; i + W <= nInner; i += W) {
          transposeBlock(packed + i * GEMM_WIDTH + j, GEMM_WIDTH, b + (column + j) * stride + i, stride);
        }
      }
      for (; i < nInner; i++) {
        for (size_t l = j; l < j + W; l++) packed[i * GEMM_WIDTH + l] = l < width ? b[(column + l) * stride + i] : 0;
      }
    }
  }
}

/**
 * Packs `nInner` rows of a[k, m] by `nRows` columns into panels [inner][GEMM_ROWS]; some rows at a time, which stay in the
 * nearest cache while each panel takes its part of them.
 */
static void packLeft(float* packed, const float* a, size_t stride, size_t nInner, size_t nRows) {
  constexpr size_t STEP = 32;
  for (size_t first = 0; first < nInner; first += STEP) {
    const size_t end = least(first + STEP, nInner);
    for (size_t row = 0; row < nRows; row += GEMM_ROWS) {
      float* panel = packed + row * nInner;
      const size_t height = least(GEMM_ROWS, nRows - row);
      for (size_t i = first; i < end; i++) {
        const float* from = a + i * stride + row;
        float* to = panel + i * GEMM_ROWS;
        if (height == GEMM_ROWS) {
          __builtin_memcpy(to, from, GEMM_ROWS * sizeof(float));
        } else {
          for (size_t r = 0; r < height; r++) to[r] = from[r];
        }
      }
    }
  }
}

/** A tile of ROWS rows and at most GEMM_WIDTH columns; row r of a begins at a + r * aRow, its next element is aStep on. */
template <size_t ROWS>
static void gemmTile(float* c, size_t cRow, const float* a, size_t aRow, size_t aStep, const float* b, size_t nInner,
                     size_t nColumns, bool addToC) {
  V acc[ROWS][GEMM_VECTORS];
  UNROLL for (size_t r = 0; r < ROWS; r++) {
    UNROLL for (size_t v = 0; v < GEMM_VECTORS; v++) acc[r][v] = splat(0);
    // c is written, and perhaps read, when the sums are ready; till then it can come.
    __builtin_prefetch(c + r * cRow, 1);
    __builtin_prefetch(c + r * cRow + GEMM_WIDTH - 1, 1);
  }
  for (size_t i = 0; i < nInner; i++, a += aStep, b += GEMM_WIDTH) {
    V right[GEMM_VECTORS];
    UNROLL for (size_t v = 0; v < GEMM_VECTORS; v++) right[v] = load(b + v * W);
    UNROLL for (size_t r = 0; r < ROWS; r++) {
      const V left = splat(a[r * aRow]);
      UNROLL for (size_t v = 0; v < GEMM_VECTORS; v++) acc[r][v] = fma(left, right[v], acc[r][v]);
    }
  }
  UNROLL for (size_t r = 0; r < ROWS; r++) {
    UNROLL for (size_t v = 0; v < GEMM_VECTORS; v++) {
      if (nColumns <= v * W) break;
      float* to = c + r * cRow + v * W;
      const size_t n = nColumns - v * W < W ? nColumns - v * W : W;
      storeUpTo(to, addToC ? add(loadUpTo(to, n), acc[r][v]) : acc[r][v], n);
    }
  }
}

/** The tile of `nRows` <= ROWS rows. */
template <size_t ROWS>
static void gemmTileOf(size_t nRows, float* c, size_t cRow, const float* a, size_t aRow, size_t aStep, const float* b,
                       size_t nInner, size_t nColumns, bool addToC) {
  if (nRows == ROWS) return gemmTile<ROWS>(c, cRow, a, aRow, aStep, b, nInner, nColumns, addToC);
  if constexpr (ROWS > 1) gemmTileOf<ROWS - 1>(nRows, c, cRow, a, aRow, aStep, b, nInner, nColumns, addToC);
}

static void gemm(float* c, const float* a, const float* b, size_t m, size_t n, size_t k, uint32_t form,
                 bool accumulate, float* room) {
  GemmScratch& scratch = *scratchAt<GemmScratch>(room);
  if (k == 0 && !accumulate) __builtin_memset(c, 0, m * n * sizeof(float));
  for (size_t column = 0; column < n; column += GEMM_COLUMNS) {
    const size_t nColumns = least(GEMM_COLUMNS, n - column);
    for (size_t inner = 0; inner < k; inner += GEMM_INNER) {
      const size_t nInner = least(GEMM_INNER, k - inner);
      const bool addToC = accumulate || inner > 0;
      if (form == GEMM_NT) {
        packColumns(scratch.b, b + column * k + inner, k, nInner, nColumns);
      } else {
        packRows(scratch.b, b + inner * n + column, n, nInner, nColumns);
      }
      for (size_t block = 0; block < m; block += GEMM_BLOCK_ROWS) {
        const size_t endRow = least(block + GEMM_BLOCK_ROWS, m);
        if (form == GEMM_TN) packLeft(scratch.a, a + inner * m + block, m, nInner, endRow - block);
        for (size_t j = 0; j < nColumns; j += GEMM_WIDTH) {
          const float* panel = scratch.b + j * nInner;
          for (size_t row = block; row < endRow; row += GEMM_ROWS) {
            const size_t nRows = least(GEMM_ROWS, endRow - row);
            float* to = c + row * n + column + j;
            if (form == GEMM_TN) {
              gemmTileOf<GEMM_ROWS>(nRows, to, n, scratch.a + (row - block) * nInner, 1, GEMM_ROWS, panel, nInner,
                                    nColumns - j, addToC);
            } else {
              gemmTileOf<GEMM_ROWS>(nRows, to, n, a + row * k + inner, k, 1, panel, nInner, nColumns - j, addToC);
            }
          }
        }
      }
    }
  }
}
