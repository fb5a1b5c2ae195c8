// Rows of x rounded to 8 bits, in the order in which a tile of R rows, 1 or 4, takes them. For each block of 32 inputs:
//
//   | 8 words x (R x first part, R x second part) | R x f32 s | R x i32 start | R x f32 s * (sum of q) | R x 4 unused |
//
// A word has four inputs, each of its parts 4 bytes; panel-int8.ts says which. A sum of products begins with `start`,
// which makes up for the zero point of the quants.

import { isBytes, zeroOf } from "./panel-blocks.ts";
import { BLOCK, roundBlock, ROUNDED_SCALE, ROUNDED_SUM } from "./rounding.ts";

/** Bytes of a block of one row, and where the numbers behind its words begin. */
export const INPUT_BYTES: usize = 80;
export const INPUT_SCALE: usize = 64;
export const INPUT_START: usize = 68;
const INPUT_SUM: usize = 72;

/** Stores the parts of eight inputs: those of two words. `to` is the first part of the first word. */
@inline
function storeParts(to: usize, parts: v128, nRows: usize): void {
  v128.store_lane<u32>(to, parts, 0);
  v128.store_lane<u32>(to + 4 * nRows, parts, 1);
  v128.store_lane<u32>(to + 8 * nRows, parts, 2);
  v128.store_lane<u32>(to + 12 * nRows, parts, 3);
}

/** Eight rounded inputs as 16-bit parts. */
@inline
function storeEight(dtype: i32, to: usize, rounded: usize, nRows: usize): void {
  const inputs = v128.load(rounded);
  let parts = i16x8.shuffle(inputs, inputs, 0, 2, 1, 3, 4, 6, 5, 7);
  if (!isBytes(dtype)) {
    // 256 * a and 256 * c, where b and d are
    parts = i16x8.sub(parts, i64x2.shl(i16x8.shl(parts, 8), 32));
  }
  storeParts(to, parts, nRows);
}

/** Sixteen rounded inputs as 8-bit parts: four words. */
@inline
function storeSixteen(dtype: i32, to: usize, rounded: usize, nRows: usize): void {
  const inputs = i8x16.narrow_i16x8_s(v128.load(rounded), v128.load(rounded, 16));
  const factors = isBytes(dtype) ? i8x16.abs(inputs) : inputs;
  const flips = v128.xor(i8x16.shr_s(inputs, 7), i8x16.splat(-128));
  storeParts(to, i32x4.shuffle(factors, flips, 0, 4, 1, 5), nRows);
  storeParts(to + 16 * nRows, i32x4.shuffle(factors, flips, 2, 6, 3, 7), nRows);
}

/** The sum of the sizes of the negative inputs. */
@inline
function sumOfNegatives(rounded: usize): i32 {
  let sums = i32x4.splat(0);
  for (let at: usize = 0; at < 2 * BLOCK; at += 16) {
    const negative = i16x8.min_s(v128.load(rounded + at), i16x8.splat(0));
    sums = i32x4.sub(sums, i32x4.dot_i16x8_s(negative, i16x8.splat(1)));
  }
  sums = i32x4.add(sums, i32x4.shuffle(sums, sums, 2, 3, 0, 1));
  return i32x4.extract_lane(sums, 0) + i32x4.extract_lane(sums, 1);
}

/** Writes a rounded block where a row of a tile has it. */
function arrange(dtype: i32, to: usize, nRows: usize, row: usize, rounded: usize): void {
  const sum = load<i32>(rounded, ROUNDED_SUM);
  const scale = load<f32>(rounded, ROUNDED_SCALE);
  const words = to + 4 * row;
  let start = -zeroOf(dtype) * sum;
  if (ASC_FEATURE_RELAXED_SIMD) {
    storeSixteen(dtype, words, rounded, nRows);
    storeSixteen(dtype, words + 32 * nRows, rounded + 32, nRows);
    if (isBytes(dtype)) start = sumOfNegatives(rounded);
  } else {
    for (let eight: usize = 0; eight < 4; eight++) {
      storeEight(dtype, words + 16 * eight * nRows, rounded + 16 * eight, nRows);
    }
  }
  store<f32>(words + INPUT_SCALE * nRows, scale);
  store<i32>(words + INPUT_START * nRows, start);
  store<f32>(words + INPUT_SUM * nRows, scale * <f32>sum);
}

/** Rounds the inputs of a tile. @param rounded - room for a rounded block */
export function roundTile(
  dtype: i32,
  to: usize,
  nRows: usize,
  x: usize,
  xStride: usize,
  nIn: i32,
  rounded: usize,
): void {
  for (let row: usize = 0; row < nRows; row++, x += xStride) {
    for (let b = 0; b < nIn / BLOCK; b++) {
      roundBlock(rounded, x + <usize>(b * BLOCK) * 4);
      arrange(dtype, to + <usize>b * nRows * INPUT_BYTES, nRows, row, rounded);
    }
  }
}
