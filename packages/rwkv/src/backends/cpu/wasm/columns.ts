// Products with a matrix in columns (core/layout.ts), of plain types: one input after the other, n weights each. A few rows
// of x are taken one by one: their inputs that are not zero are listed, and the weights of no others are read. More rows
// share decoded weights, as in panel-f32.ts. Either way sums run over the inputs in increasing order, each term a product
// rounded and then added; a term of zero changes no such sum.
//
// f16 is scaled as in panel-f32.ts, its subnormal weights too, unless inputs leave the range of f32: then the weights are.
//
// A list: | u32 address of weights, f32 input | for each input that is not zero.

import { DTYPE_BF16, DTYPE_F16, DTYPE_F32, PANEL_ROWS } from "../abi.ts";
import { areNormal, EXPONENTS, raisedHalves, scaledHalves, SCALED_HALVES_MASK } from "./half.ts";
import { F16_RESULT_SCALE, rescaledHalves } from "./panel-decode.ts";
import { addProduct, F16_INPUT_SCALE, F16_INPUT_UNSCALE, multiplyDecoded } from "./panel-f32.ts";
import { kept } from "./simd.ts";

/** Outputs that columns are padded to a multiple of. */
export const SEGMENT: i32 = 64;
/** From so many rows on the matrix is read densely: a tile has as many. */
const DENSE_ROWS: i32 = 4;
/** Bytes of the listed inputs that sums take up at a time, so that they are loaded and stored once for all of them. */
const GROUP_BYTES: usize = 32 * 8;

/** Outputs with padding. */
@inline
export function paddedOutputs(nOut: i32): i32 {
  return (nOut + SEGMENT - 1) & -SEGMENT;
}

@inline
export function elementBytes(dtype: i32): usize {
  return dtype == DTYPE_F32 ? 4 : 2;
}

/** Whether inputs stay within the range of f32 when they are scaled for f16; those that are no numbers do. */
function canScale(x: usize, nIn: i32): bool {
  for (const end = x + ((<usize>nIn) << 2); x < end; x += 4) {
    const value = load<f32>(x);
    if (value - value == 0 && abs<f32>(value * F16_INPUT_SCALE) == f32.POSITIVE_INFINITY) return false;
  }
  return true;
}

/** Lists the inputs that are not zero, times `scale`. @returns the end of the list */
function listInputs(list: usize, w: usize, stride: usize, x: usize, nIn: i32, scale: f32): usize {
  for (const end = x + ((<usize>nIn) << 2); x < end; x += 4, w += stride) {
    const value = load<f32>(x);
    store<usize>(list, w);
    store<f32>(list, value * scale, 4);
    list += value != 0 ? 8 : 0;
  }
  return list;
}

/** Four weights. Those of f16 lack their scale, or half of it if the inputs are not scaled. @param mask - of `scaledHalves` */
@inline
function fourWeights(dtype: i32, isScaled: bool, p: usize, mask: v128): v128 {
  if (dtype == DTYPE_F32) return v128.load(p);
  if (dtype == DTYPE_BF16) return i32x4.shl(v128.load16x4_u(p), 16);
  return isScaled ? scaledHalves(i32x4.shl(v128.load16x4_s(p), 13), mask) : rescaledHalves(p);
}

/**
 * Sums of n outputs, whole segments, over a list.
 * @param offset - of the first output among the weights of an input
 */
@inline
function sumList(dtype: i32, isScaled: bool, out: usize, list: usize, listEnd: usize, offset: usize, n: i32): void {
  const four = 4 * elementBytes(dtype);
  const outEnd = out + ((<usize>n) << 2);
  const isHalves = dtype == DTYPE_F16 && isScaled;
  const exponents = kept(i16x8.splat(EXPONENTS), out);
  const mask = kept(i32x4.splat(SCALED_HALVES_MASK), out);
  memory.fill(out, 0, outEnd - out);
  for (; list < listEnd; list += GROUP_BYTES) {
    const groupEnd = min(list + GROUP_BYTES, listEnd);
    let at = offset;
    for (let to = out; to < outEnd; to += 64, at += 4 * four) {
      let sum0 = v128.load(to);
      let sum1 = v128.load(to, 16);
      let sum2 = v128.load(to, 32);
      let sum3 = v128.load(to, 48);
      let entry = list;
      while (true) {
        for (; entry < groupEnd; entry += 8) {
          const weights = load<usize>(entry) + at;
          const input = v128.load32_splat(entry, 4);
          if (isHalves && !areNormal(v128.load(weights), v128.load(weights, 16), exponents)) break;
          sum0 = addProduct(sum0, fourWeights(dtype, isScaled, weights, mask), input);
          sum1 = addProduct(sum1, fourWeights(dtype, isScaled, weights + four, mask), input);
          sum2 = addProduct(sum2, fourWeights(dtype, isScaled, weights + 2 * four, mask), input);
          sum3 = addProduct(sum3, fourWeights(dtype, isScaled, weights + 3 * four, mask), input);
        }
        if (!isHalves || entry >= groupEnd) break;
        // Behind the inner loop, which would have too few registers with it.
        const weights = load<usize>(entry) + at;
        const input = f32x4.mul(v128.load32_splat(entry, 4), f32x4.splat(F16_INPUT_UNSCALE));
        sum0 = addProduct(sum0, raisedHalves(fourWeights(dtype, true, weights, mask)), input);
        sum1 = addProduct(sum1, raisedHalves(fourWeights(dtype, true, weights + four, mask)), input);
        sum2 = addProduct(sum2, raisedHalves(fourWeights(dtype, true, weights + 2 * four, mask)), input);
        sum3 = addProduct(sum3, raisedHalves(fourWeights(dtype, true, weights + 3 * four, mask)), input);
        entry += 8;
      }
      v128.store(to, sum0);
      v128.store(to, sum1, 16);
      v128.store(to, sum2, 32);
      v128.store(to, sum3, 48);
    }
  }
  if (dtype != DTYPE_F16) return;
  const scale = f32x4.splat(F16_RESULT_SCALE);
  for (; out < outEnd; out += 16) v128.store(out, f32x4.mul(v128.load(out), scale));
}

// One function for each type, so that an engine optimises each on its own.

function sumF32(out: usize, list: usize, listEnd: usize, offset: usize, n: i32): void {
  sumList(DTYPE_F32, true, out, list, listEnd, offset, n);
}

function sumBf16(out: usize, list: usize, listEnd: usize, offset: usize, n: i32): void {
  sumList(DTYPE_BF16, true, out, list, listEnd, offset, n);
}

function sumF16(out: usize, list: usize, listEnd: usize, offset: usize, n: i32): void {
  sumList(DTYPE_F16, true, out, list, listEnd, offset, n);
}

function sumUnscaledF16(out: usize, list: usize, listEnd: usize, offset: usize, n: i32): void {
  sumList(DTYPE_F16, false, out, list, listEnd, offset, n);
}

function sum(dtype: i32, isScaled: bool, out: usize, list: usize, listEnd: usize, offset: usize, n: i32): void {
  if (dtype == DTYPE_F32) sumF32(out, list, listEnd, offset, n);
  else if (dtype == DTYPE_BF16) sumBf16(out, list, listEnd, offset, n);
  else if (isScaled) sumF16(out, list, listEnd, offset, n);
  else sumUnscaledF16(out, list, listEnd, offset, n);
}

/** Outputs of one row. @param last - room for the sums of a segment @returns how many inputs are zero */
function multiplyRow(
  dtype: i32,
  out: usize,
  w: usize,
  stride: usize,
  offset: usize,
  n: i32,
  x: usize,
  nIn: i32,
  list: usize,
  last: usize,
): i32 {
  const isScaled = dtype == DTYPE_F16 && canScale(x, nIn);
  const listEnd = listInputs(list, w, stride, x, nIn, isScaled ? F16_INPUT_SCALE : 1);
  const nWhole = n & -SEGMENT;
  if (nWhole > 0) sum(dtype, isScaled, out, list, listEnd, offset, nWhole);
  if (n > nWhole) {
    // Padding has no place in the row.
    sum(dtype, isScaled, last, list, listEnd, offset + <usize>nWhole * elementBytes(dtype), SEGMENT);
    memory.copy(out + ((<usize>nWhole) << 2), last, (<usize>(n - nWhole)) << 2);
  }
  return nIn - <i32>((listEnd - list) >> 3);
}

/**
 * Outputs [first, first + n) of all rows; `first` begins a segment.
 * @param out - output `first` of the first row
 * @param scratch - room for a decoded panel
 * @param last - room for the sums of a segment
 * @returns how many inputs are zero, or -1 if none were skipped
 */
export function multiplyColumns(
  dtype: i32,
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
  last: usize,
): i32 {
  const bytes = elementBytes(dtype);
  const stride = <usize>paddedOutputs(nOut) * bytes;
  const offset = <usize>first * bytes;
  if (nRows >= DENSE_ROWS) {
    const panelBytes = <usize>PANEL_ROWS * bytes;
    multiplyDecoded(
      dtype,
      out,
      outStride,
      w + offset,
      panelBytes,
      stride,
      n,
      x,
      xStride,
      nRows,
      nIn,
      scratch,
      last,
    );
    return -1;
  }
  let nZeros = 0;
  for (let row = 0; row < nRows; row++, x += xStride, out += outStride) {
    nZeros += multiplyRow(dtype, out, w, stride, offset, n, x, nIn, scratch, last);
  }
  return nZeros;
}
