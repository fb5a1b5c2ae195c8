// Products with a matrix in columns, for any number of rows: lists of a few rows are made at a time, and used for all
// outputs of this thread. With several rows outputs are taken a few segments at a time, which then are in a near cache.

import { listBytes, listInputs, sumInputs } from "./columns-f32.ts";
import { listRounded, roundedListBytes, sumRounded } from "./columns-int8.ts";
import { LIST_ROWS, paddedOutputs, SEGMENT, SUMS_BYTES } from "./columns.ts";

/** Outputs that several rows take one after the other. */
const NEAR_OUTPUTS: i32 = 2 * SEGMENT;

/** Whole segments straight to their place, the rest of the last one by way of `sums`. */
function sumOutputs(
  dtype: i32,
  isInt8: bool,
  out: usize,
  list: usize,
  first: i32,
  n: i32,
  nPadded: i32,
  sums: usize,
): void {
  const nWhole = n & -SEGMENT;
  if (nWhole > 0) {
    if (isInt8) sumRounded(dtype, out, list, first, nWhole, nPadded);
    else sumInputs(dtype, out, list, first, nWhole, nPadded);
  }
  if (n == nWhole) return;
  if (isInt8) sumRounded(dtype, sums, list, first + nWhole, SEGMENT, nPadded);
  else sumInputs(dtype, sums, list, first + nWhole, SEGMENT, nPadded);
  memory.copy(out + ((<usize>nWhole) << 2), sums, (<usize>(n - nWhole)) << 2);
}

/**
 * Outputs [first, first + n) of all rows; `first` begins a segment.
 * @param out - output `first` of the first row
 * @param scratch - the thread's own room, as for `matmul`
 * @returns how many inputs were zero
 */
export function multiplyColumns(
  dtype: i32,
  isInt8: bool,
  out: usize,
  outStride: usize,
  w: usize,
  nOut: i32,
  first: i32,
  n: i32,
  x: usize,
  xStride: usize,
  nRows: i32,
  nIn: i32,
  scratch: usize,
): i64 {
  const nPadded = paddedOutputs(nOut);
  const lists = scratch + SUMS_BYTES;
  const bytes = isInt8 ? roundedListBytes(nIn) : listBytes(nIn);
  const nTogether = nRows == 1 ? n : NEAR_OUTPUTS;
  let nZeros: i64 = 0;
  for (let row = 0; row < nRows; row += LIST_ROWS) {
    const nLists = min(LIST_ROWS, nRows - row);
    for (let i = 0; i < nLists; i++, x += xStride) {
      const list = lists + <usize>i * bytes;
      nZeros += isInt8
        ? listRounded(dtype, list, w, nPadded, x, nIn, scratch)
        : listInputs(dtype, list, w, nPadded, x, nIn);
    }
    for (let o = 0; o < n; o += nTogether) {
      for (let i = 0; i < nLists; i++) {
        const to = out + <usize>i * outStride + ((<usize>o) << 2);
        const list = lists + <usize>i * bytes;
        sumOutputs(dtype, isInt8, to, list, first + o, min(nTogether, n - o), nPadded, scratch);
      }
    }
    out += <usize>nLists * outStride;
  }
  return nZeros;
}
