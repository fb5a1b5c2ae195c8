// How a kernel finds its tensors, rows and attributes through the context and its record. The layout is that of ../abi.ts.

import {
  CONTEXT_INPUTS,
  CONTEXT_LOGIT_ROWS,
  CONTEXT_N_LOGIT_ROWS,
  CONTEXT_N_RUNS,
  CONTEXT_N_TOKEN_ROWS,
  CONTEXT_OPERANDS,
  CONTEXT_RUNS,
  CONTEXT_TENSORS,
  CONTEXT_ZERO_INPUTS,
  RECORD_FIRST_OPERAND,
  RECORD_GRANULE,
  RECORD_IS_LOGIT,
  RUN_BYTES,
  RUN_FIRST_ROW,
  RUN_N_ROWS,
  RUN_SLOT,
  TENSOR_ADDRESS,
  TENSOR_BYTES,
  TENSOR_DTYPE,
  TENSOR_LAYOUT,
  TENSOR_ROW_BYTES,
  TENSOR_WIDTH,
} from "../abi.ts";
import { partStart } from "./simd.ts";

/** The table entry of operand `i`. */
@inline
export function operand(context: usize, record: usize, i: i32): usize {
  const at = <usize>(load<u32>(record, RECORD_FIRST_OPERAND) + i);
  const number = load<u32>(load<usize>(context, CONTEXT_OPERANDS) + (at << 2));
  return load<usize>(context, CONTEXT_TENSORS) + <usize>number * TENSOR_BYTES;
}

/** Its data, for a state its offset in a slot. */
@inline
export function addressOf(tensor: usize): usize {
  return load<usize>(tensor, TENSOR_ADDRESS);
}

@inline
export function widthOf(tensor: usize): i32 {
  return load<i32>(tensor, TENSOR_WIDTH);
}

/** Bytes from row to row; 0 for a vector that stands for every row. */
@inline
export function rowBytesOf(tensor: usize): usize {
  return load<usize>(tensor, TENSOR_ROW_BYTES);
}

@inline
export function dtypeOf(tensor: usize): i32 {
  return load<i32>(tensor, TENSOR_DTYPE);
}

@inline
export function layoutOf(tensor: usize): i32 {
  return load<i32>(tensor, TENSOR_LAYOUT);
}

/**
 * Where the columns of part `part` of `nParts` begin in rows of `width`. All records cut rows of one width at the same
 * columns, between heads, so that what one part has written it can read without waiting for the others.
 */
@inline
export function firstColumn(record: usize, width: i32, part: i32, nParts: i32): i32 {
  return partStart(width, load<i32>(record, RECORD_GRANULE), part, nParts);
}

/** Adds to what CONTEXT_INPUTS and CONTEXT_ZERO_INPUTS count; for one thread of each record. */
@inline
export function countInputs(context: usize, nInputs: i64, nZeros: i64): void {
  store<i64>(context, load<i64>(context, CONTEXT_INPUTS) + nInputs, CONTEXT_INPUTS);
  store<i64>(context, load<i64>(context, CONTEXT_ZERO_INPUTS) + nZeros, CONTEXT_ZERO_INPUTS);
}

/** Rows that the record works on in this step. */
@inline
export function nRowsOf(context: usize, record: usize): i32 {
  return load<i32>(record, RECORD_IS_LOGIT)
    ? load<i32>(context, CONTEXT_N_LOGIT_ROWS)
    : load<i32>(context, CONTEXT_N_TOKEN_ROWS);
}

@inline
export function nRunsOf(context: usize): i32 {
  return load<i32>(context, CONTEXT_N_RUNS);
}

@inline
export function runAt(context: usize, i: i32): usize {
  return load<usize>(context, CONTEXT_RUNS) + <usize>i * RUN_BYTES;
}

@inline
export function firstRowOf(run: usize): i32 {
  return load<i32>(run, RUN_FIRST_ROW);
}

@inline
export function nRowsOfRun(run: usize): i32 {
  return load<i32>(run, RUN_N_ROWS);
}

@inline
export function slotOf(run: usize): usize {
  return load<usize>(run, RUN_SLOT);
}

/** The number of the i-th row whose logits are wanted. */
@inline
export function logitRow(context: usize, i: i32): i32 {
  return load<i32>(load<usize>(context, CONTEXT_LOGIT_ROWS) + (<usize>i << 2));
}
