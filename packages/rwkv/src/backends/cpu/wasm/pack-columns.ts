// From rows to columns, in the order that core/layout.ts draws, of plain types; and whether their f16 numbers are finite,
// which kernels do not tell from those that are not.

import { DTYPE_F16, DTYPE_F32 } from "../abi.ts";
import { elementBytes, paddedOutputs } from "./columns.ts";
import { notFinite } from "./pack.ts";

/** Inputs that are brought over together: their lines stay in the nearest cache. */
const INPUTS_TOGETHER: i32 = 16;

/**
 * Brings a matrix into columns.
 * @param matrix - the rows, and room for whole columns
 * @param rows - room for the rows, which are put aside there
 */
export function packColumns(dtype: i32, matrix: usize, nOut: i32, nIn: i32, rows: usize): void {
  const bytes = elementBytes(dtype);
  const stride = <usize>paddedOutputs(nOut) * bytes;
  const rowBytes = <usize>nIn * bytes;
  memory.copy(rows, matrix, <usize>nOut * rowBytes);
  memory.fill(matrix, 0, <usize>nIn * stride);
  for (let k = 0; k < nIn; k += INPUTS_TOGETHER) {
    const n = min(INPUTS_TOGETHER, nIn - k);
    for (let o = 0; o < nOut; o++) {
      let from = rows + <usize>o * rowBytes + <usize>k * bytes;
      let to = matrix + <usize>k * stride + <usize>o * bytes;
      for (let i = 0; i < n; i++, from += bytes, to += stride) {
        if (dtype == DTYPE_F32) store<u32>(to, load<u32>(from));
        else store<u16>(to, load<u16>(from));
      }
    }
  }
}

/** Whether all f16 numbers of a matrix in columns are finite. */
export function isFiniteColumns(dtype: i32, matrix: usize, byteLength: usize): bool {
  if (dtype != DTYPE_F16) return true;
  let found = i16x8.splat(0);
  for (const end = matrix + byteLength; matrix < end; matrix += 16) found = v128.or(found, notFinite(matrix));
  return !v128.any_true(found);
}
