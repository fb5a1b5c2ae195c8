// Matrix products, c (+)= a b, in the three forms of ../kernels.ts: 0 nt, 1 nn, 2 tn. A tile of c, six rows by eight
// columns, stays in registers while a block of 256 inner elements passes; both factors are packed into panels as wide as
// the tile. Order of sums: within a block in increasing order from zero, then the blocks in order.

import { at, fma, splat, storeUpTo, loadUpTo } from "./simd.ts";

@inline const ROWS: i32 = 6;
@inline const COLUMNS: i32 = 8;
@inline const INNER: i32 = 256;
/** Rows of a and columns of b that are packed at once. */
@inline const BLOCK_ROWS: i32 = 120;
@inline const BLOCK_COLUMNS: i32 = 256;
/** Bytes of `room` for a packed block of b; that of a is behind it. */
@inline const B_BYTES: usize = 4 * 256 * 256;

/** Bytes of room that a kernel may need: no other needs as much. */
export function roomBytes(): i32 {
  return <i32>B_BYTES + 4 * INNER * BLOCK_ROWS;
}

/** Panels [inner][WIDTH] of `n` rows of a matrix whose inner elements are neighbours. */
@inline
function packAcross(packed: usize, from: usize, stride: i32, nInner: i32, n: i32, width: i32): void {
  const step = <usize>width << 2;
  for (let first = 0; first < n; first += width) {
    for (let l = 0; l < width; l++) {
      let to = packed + (<usize>l << 2);
      if (first + l < n) {
        let p = at(from, (first + l) * stride);
        for (let i = 0; i < nInner; i++, p += 4, to += step) store<f32>(to, load<f32>(p));
      } else {
        for (let i = 0; i < nInner; i++, to += step) store<f32>(to, 0);
      }
    }
    packed += <usize>nInner * step;
  }
}

/** The same of `n` columns of a matrix whose columns are neighbours. */
@inline
function packAlong(packed: usize, from: usize, stride: i32, nInner: i32, n: i32, width: i32): void {
  const step = <usize>width << 2;
  for (let first = 0; first < n; first += width) {
    const whole = first + width <= n;
    for (let i = 0; i < nInner; i++, packed += step) {
      const p = at(from, i * stride + first);
      if (whole) {
        v128.store(packed, v128.load(p));
        if (width == COLUMNS) v128.store(packed, v128.load(p, 16), 16);
        else v128.store64_lane(packed, v128.load64_zero(p, 16), 0, 16);
      } else {
        for (let l = 0; l < width; l++) store<f32>(at(packed, l), first + l < n ? load<f32>(at(p, l)) : 0);
      }
    }
  }
}

/** Stores four columns of a row of a tile, as many of them as there are. */
@inline
function put(c: usize, v: v128, n: i32, addToC: bool): void {
  if (n > 0) storeUpTo(c, addToC ? f32x4.add(loadUpTo(c, n), v) : v, n);
}

@inline
function putRow(c: usize, low: v128, high: v128, nColumns: i32, addToC: bool): void {
  put(c, low, nColumns, addToC);
  put(c + 16, high, nColumns - 4, addToC);
}

/** Rows behind the last are zeros in the panel of a; they are summed and not stored. */
function tile(c: usize, cRow: usize, a: usize, b: usize, nInner: i32, nRows: i32, nColumns: i32, addToC: bool): void {
  let c00 = splat(0);
  let c01 = c00;
  let c10 = c00;
  let c11 = c00;
  let c20 = c00;
  let c21 = c00;
  let c30 = c00;
  let c31 = c00;
  let c40 = c00;
  let c41 = c00;
  let c50 = c00;
  let c51 = c00;
  for (const end = a + <usize>(nInner * ROWS * 4); a < end; a += ROWS * 4, b += COLUMNS * 4) {
    const b0 = v128.load(b, 0);
    const b1 = v128.load(b, 16);
    let left = v128.load32_splat(a, 0);
    c00 = fma(left, b0, c00);
    c01 = fma(left, b1, c01);
    left = v128.load32_splat(a, 4);
    c10 = fma(left, b0, c10);
    c11 = fma(left, b1, c11);
    left = v128.load32_splat(a, 8);
    c20 = fma(left, b0, c20);
    c21 = fma(left, b1, c21);
    left = v128.load32_splat(a, 12);
    c30 = fma(left, b0, c30);
    c31 = fma(left, b1, c31);
    left = v128.load32_splat(a, 16);
    c40 = fma(left, b0, c40);
    c41 = fma(left, b1, c41);
    left = v128.load32_splat(a, 20);
    c50 = fma(left, b0, c50);
    c51 = fma(left, b1, c51);
  }
  putRow(c, c00, c01, nColumns, addToC);
  if (nRows > 1) putRow(c + cRow, c10, c11, nColumns, addToC);
  if (nRows > 2) putRow(c + 2 * cRow, c20, c21, nColumns, addToC);
  if (nRows > 3) putRow(c + 3 * cRow, c30, c31, nColumns, addToC);
  if (nRows > 4) putRow(c + 4 * cRow, c40, c41, nColumns, addToC);
  if (nRows > 5) putRow(c + 5 * cRow, c50, c51, nColumns, addToC);
}

export function gemm(
  c: usize,
  a: usize,
  b: usize,
  m: i32,
  n: i32,
  k: i32,
  form: i32,
  accumulate: i32,
  room: usize,
): void {
  if (k == 0 && !accumulate) memory.fill(c, 0, <usize>m * <usize>n * 4);
  const packedA = room + B_BYTES;
  const cRow = <usize>n << 2;
  for (let column = 0; column < n; column += BLOCK_COLUMNS) {
    const nColumns = min(BLOCK_COLUMNS, n - column);
    for (let inner = 0; inner < k; inner += INNER) {
      const nInner = min(INNER, k - inner);
      const addToC = accumulate != 0 || inner > 0;
      if (form == 0) packAcross(room, at(b, column * k + inner), k, nInner, nColumns, COLUMNS);
      else packAlong(room, at(b, inner * n + column), n, nInner, nColumns, COLUMNS);
      for (let block = 0; block < m; block += BLOCK_ROWS) {
        const nRows = min(BLOCK_ROWS, m - block);
        if (form == 2) packAlong(packedA, at(a, inner * m + block), m, nInner, nRows, ROWS);
        else packAcross(packedA, at(a, block * k + inner), k, nInner, nRows, ROWS);
        for (let j = 0; j < nColumns; j += COLUMNS) {
          const panel = at(room, j * nInner);
          for (let i = 0; i < nRows; i += ROWS) {
            const to = c + <usize>(block + i) * cRow + (<usize>(column + j) << 2);
            tile(to, cRow, at(packedA, i * nInner), panel, nInner, nRows - i, nColumns - j, addToC);
          }
        }
      }
    }
  }
}
