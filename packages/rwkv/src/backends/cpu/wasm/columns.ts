// How a matrix in columns is made up; drawn in core/layout.ts. And what products with them share: rows of x become lists
// of the inputs that are not zero, a few rows at a time, and outputs are added up a segment of 64 after the other.

import { DTYPE_F32 } from "../abi.ts";
import { hasMinimum, hasNibbles, isBlockType, isWide } from "./panel-blocks.ts";

/** Outputs that columns are padded to a multiple of. */
export const SEGMENT: i32 = 64;
/** Rows of x whose lists are held at a time. */
export const LIST_ROWS: i32 = 4;
/** Bytes of a segment's sums; as many are at the start of the scratch of a thread, and lists are behind them. */
export const SUMS_BYTES: usize = 256;

/** Header of a list: its end, whether inputs are scaled, and room for a vector. */
export const LIST_END: usize = 0;
export const LIST_IS_SCALED: usize = 4;
export const LIST_ROOM: usize = 16;
export const LIST_HEADER_BYTES: usize = 32;

/** Outputs with padding. */
@inline
export function paddedOutputs(nOut: i32): i32 {
  return (nOut + SEGMENT - 1) & -SEGMENT;
}

/** Bytes of a field of all outputs. */
@inline
export function columnFieldBytes(nPadded: i32): usize {
  return (<usize>nPadded) << 1;
}

/** Bytes of one input, of all outputs. */
@inline
export function inputBytes(dtype: i32, nPadded: i32): usize {
  if (isBlockType(dtype)) return hasNibbles(dtype) ? (<usize>nPadded) >> 1 : <usize>nPadded;
  return (<usize>nPadded) << (dtype == DTYPE_F32 ? 2 : 1);
}

/** Bytes of the fields of a block, of all outputs. */
@inline
export function blockFieldsBytes(dtype: i32, nPadded: i32): usize {
  if (!isBlockType(dtype)) return 0;
  return columnFieldBytes(nPadded) << (hasMinimum(dtype) ? 1 : 0);
}

/** Where the fields of the block of input `k` begin. */
@inline
export function blockFields(dtype: i32, w: usize, nPadded: i32, k: i32): usize {
  if (!isBlockType(dtype)) return w;
  const shift = isWide(dtype) ? 6 : 5;
  const bytes = blockFieldsBytes(dtype, nPadded) + (inputBytes(dtype, nPadded) << shift);
  return w + <usize>(k >> shift) * bytes;
}

/** Where the weights of input `k` begin. */
@inline
export function inputAt(dtype: i32, w: usize, nPadded: i32, k: i32): usize {
  const within = isBlockType(dtype) ? k & (isWide(dtype) ? 63 : 31) : k;
  const quants = blockFields(dtype, w, nPadded, k) + blockFieldsBytes(dtype, nPadded);
  return quants + <usize>within * inputBytes(dtype, nPadded);
}
