// How the panels of each block type are made up; drawn in core/layout.ts. A block of inputs begins with f16 fields of the
// 16 outputs, d and perhaps m, followed by words of four bytes, 16 of them for each four inputs.

import { DTYPE_NF4, DTYPE_Q4, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q8, DTYPE_Q8_0, DTYPE_SF4 } from "../abi.ts";
import { levelsOf, lowNibbles } from "./blocks.ts";

/** Bytes of a field of the 16 outputs. */
export const FIELD_BYTES: usize = 32;
/** Bytes of a word of the 16 outputs. */
export const WORD_BYTES: usize = 64;

/** Whether panels of that type are made of blocks. */
@inline
export function isBlockType(dtype: i32): bool {
  return (
    dtype == DTYPE_Q8_0 ||
    dtype == DTYPE_Q8 ||
    dtype == DTYPE_Q4_0 ||
    dtype == DTYPE_Q4_1 ||
    dtype == DTYPE_Q4 ||
    isLevels(dtype)
  );
}

/** Whether a nibble is the number of a level. */
@inline
export function isLevels(dtype: i32): bool {
  return dtype == DTYPE_NF4 || dtype == DTYPE_SF4;
}

/** Whether a block has 64 inputs, not 32. */
@inline
export function isWide(dtype: i32): bool {
  return dtype == DTYPE_Q8 || dtype == DTYPE_Q4 || isLevels(dtype);
}

/** Whether a byte holds the quants of two inputs, half a block apart. */
@inline
export function hasNibbles(dtype: i32): bool {
  return dtype != DTYPE_Q8_0 && dtype != DTYPE_Q8;
}

@inline
export function hasMinimum(dtype: i32): bool {
  return dtype == DTYPE_Q4 || dtype == DTYPE_Q4_1;
}

/** What stands for 0 among the bytes that words hold, or that their nibbles stand for. */
@inline
export function zeroOf(dtype: i32): i32 {
  return hasMinimum(dtype) ? 0 : dtype == DTYPE_Q4_0 ? 8 : 128;
}

/** Whether quants are multiplied as bytes, q + 128: those of 8 bits, and levels. */
@inline
export function isBytes(dtype: i32): bool {
  return zeroOf(dtype) == 128;
}

@inline
export function fieldsBytes(dtype: i32): usize {
  return hasMinimum(dtype) ? 2 * FIELD_BYTES : FIELD_BYTES;
}

/** Words of a block. */
@inline
export function nWords(dtype: i32): i32 {
  return (isWide(dtype) ? 16 : 8) >> (hasNibbles(dtype) ? 1 : 0);
}

/** The levels of nf4 or sf4 + 128, one byte each. */
@inline
export function levelBytes(dtype: i32): v128 {
  return v128.xor(levelsOf(dtype), i8x16.splat(-128));
}

/** Bytes of `table`, given by numbers below 16. */
@inline
export function lookUp(table: v128, numbers: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? i8x16.relaxed_swizzle(table, numbers) : i8x16.swizzle(table, numbers);
}

/** The quants of the low nibbles, as bytes; of levels the bytes of `levels`. */
@inline
export function nibbleBytes(dtype: i32, nibbles: v128, levels: v128): v128 {
  const low = lowNibbles(nibbles);
  return isLevels(dtype) ? lookUp(levels, low) : low;
}
