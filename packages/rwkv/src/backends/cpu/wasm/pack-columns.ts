// From rows to columns, in the order that core/layout.ts draws; and whether their f16 numbers are finite.

import { DTYPE_F16, DTYPE_F32, DTYPE_Q8, DTYPE_Q8_0 } from "../abi.ts";
import { blockFieldsBytes, inputBytes, paddedOutputs, SEGMENT } from "./columns.ts";
import { notFinite } from "./pack.ts";
import { hasMinimum, hasNibbles, isBlockType, isWide } from "./panel-blocks.ts";

/** Inputs of plain types that are brought over together: their lines stay in the nearest cache. */
const INPUTS_TOGETHER: i32 = 16;

function packPlain(isWord: bool, to: usize, rows: usize, nOut: i32, nPadded: i32, nIn: i32): void {
  const shift: usize = isWord ? 2 : 1;
  const stride = (<usize>nPadded) << shift;
  for (let k = 0; k < nIn; k += INPUTS_TOGETHER) {
    const end = min(k + INPUTS_TOGETHER, nIn);
    for (let o = 0; o < nOut; o++) {
      let from = rows + ((<usize>o * <usize>nIn + <usize>k) << shift);
      let at = to + <usize>k * stride + ((<usize>o) << shift);
      for (let i = k; i < end; i++, at += stride, from += 1 << shift) {
        if (isWord) store<u32>(at, load<u32>(from));
        else store<u16>(at, load<u16>(from));
      }
    }
  }
}

/** Quant `i` of a block of nibbles that begins at `quants`. */
@inline
function nibbleAt(quants: usize, i: i32, half: i32): u32 {
  return i < half ? <u32>load<u8>(quants + i) & 15 : <u32>load<u8>(quants + i - half) >> 4;
}

/** A segment of outputs of one block. @param from - the block of the first of its `n` rows */
function packSegment(dtype: i32, fields: usize, quants: usize, from: usize, rowBytes: usize, n: i32, nPadded: i32): void {
  const nInputs = isWide(dtype) ? 64 : 32;
  const nHalves = hasMinimum(dtype) ? 2 : 1;
  const flip: u8 = dtype == DTYPE_Q8_0 || dtype == DTYPE_Q8 ? 128 : 0;
  const stride = inputBytes(dtype, nPadded);
  for (let o = 0; o < n; o++, from += rowBytes) {
    for (let half = 0; half < nHalves; half++) {
      store<u16>(fields + 2 * <usize>(half * nPadded + o), load<u16>(from + 2 * half));
    }
    const source = from + 2 * nHalves;
    const isHigh = o >= SEGMENT / 2;
    let at = quants + (hasNibbles(dtype) && isHigh ? o - SEGMENT / 2 : o);
    for (let i = 0; i < nInputs; i++, at += stride) {
      if (!hasNibbles(dtype)) store<u8>(at, load<u8>(source + i) ^ flip);
      else if (isHigh) store<u8>(at, <u8>(<u32>load<u8>(at) | (nibbleAt(source, i, nInputs >> 1) << 4)));
      else store<u8>(at, <u8>nibbleAt(source, i, nInputs >> 1));
    }
  }
}

/**
 * Brings a matrix into columns.
 * @param matrix - the rows, and room for whole columns
 * @param rows - room for the rows, which are put aside there
 */
export function packColumns(dtype: i32, matrix: usize, nOut: i32, nIn: i32, rowBytes: usize, rows: usize): void {
  const nPadded = paddedOutputs(nOut);
  memory.copy(rows, matrix, <usize>nOut * rowBytes);
  memory.fill(matrix, 0, <usize>nPadded * rowBytes);
  if (!isBlockType(dtype)) {
    packPlain(dtype == DTYPE_F32, matrix, rows, nOut, nPadded, nIn);
    return;
  }
  const nInputs = isWide(dtype) ? 64 : 32;
  const nBlocks = nIn / nInputs;
  const fieldsBytes = blockFieldsBytes(dtype, nPadded);
  const blockBytes = rowBytes / nBlocks;
  // Outputs that fill up the last segment weigh nothing: d and m are zero.
  for (let b = 0; b < nBlocks; b++) {
    for (let o = 0; o < nOut; o += SEGMENT) {
      const from = rows + <usize>o * rowBytes + <usize>b * blockBytes;
      const quants = matrix + fieldsBytes + (hasNibbles(dtype) ? o >> 1 : o);
      packSegment(dtype, matrix + 2 * o, quants, from, rowBytes, min(SEGMENT, nOut - o), nPadded);
    }
    matrix += <usize>nPadded * blockBytes;
  }
}

/** Whether all f16 numbers of a matrix in columns, its weights or the fields of its blocks, are finite. */
export function isFiniteColumns(dtype: i32, matrix: usize, nOut: i32, nIn: i32): bool {
  if (dtype != DTYPE_F16 && !isBlockType(dtype)) return true;
  const nPadded = paddedOutputs(nOut);
  const nInputs = dtype == DTYPE_F16 ? 1 : isWide(dtype) ? 64 : 32;
  const fieldsBytes = dtype == DTYPE_F16 ? inputBytes(dtype, nPadded) : blockFieldsBytes(dtype, nPadded);
  const step = dtype == DTYPE_F16 ? fieldsBytes : fieldsBytes + <usize>nInputs * inputBytes(dtype, nPadded);
  let found = i16x8.splat(0);
  for (let k = 0; k < nIn; k += nInputs, matrix += step) {
    for (let at: usize = 0; at < fieldsBytes; at += 16) found = v128.or(found, notFinite(matrix + at));
  }
  return !v128.any_true(found);
}
