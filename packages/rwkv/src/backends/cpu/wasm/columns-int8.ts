// Products of a matrix in columns with activations rounded to 8 bits. The inputs of a block that are not zero are moved
// together, and their weights interleaved in fours, which makes words as panels have them: the sums, and so the bits, are
// those of panel-int8.ts.
//
// List of a row: header (columns.ts), then for each block of 32 inputs that are not all zero
//
//   | inputs as in int8-inputs.ts, of one row | u32 words | u32 fields of the block | 8 unused | 32 x u32 weights of an input |

import { DTYPE_NF4, DTYPE_Q4, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q8, DTYPE_Q8_0 } from "../abi.ts";
import {
  blockFields,
  columnFieldBytes,
  inputAt,
  inputBytes,
  LIST_END,
  LIST_HEADER_BYTES,
  LIST_ROOM,
  SEGMENT,
} from "./columns.ts";
import { loadHalves } from "./half.ts";
import { arrange, INPUT_BYTES, INPUT_SCALE, INPUT_START } from "./int8-inputs.ts";
import { hasNibbles, nf4Bytes } from "./panel-blocks.ts";
import { addBlock, addProducts, bytesOf, firstPart, firstSum, HIGH, LOW, secondPart } from "./panel-int8.ts";
import { BLOCK, roundBlock, ROUNDED_SCALE } from "./rounding.ts";
import { kept } from "./simd.ts";

const N_WORDS: usize = INPUT_BYTES;
const FIELDS: usize = INPUT_BYTES + 4;
const WEIGHTS: usize = INPUT_BYTES + 16;
const RECORD_BYTES: usize = WEIGHTS + 4 * BLOCK;

/** @returns room that the list of a row takes at most */
export function roundedListBytes(nIn: i32): usize {
  return LIST_HEADER_BYTES + <usize>(nIn / BLOCK) * RECORD_BYTES;
}

/**
 * Lists the inputs of the row `x` that are not zero once rounded.
 * @param rounded - room for a rounded block
 * @returns how many are zero
 */
export function listRounded(
  dtype: i32,
  list: usize,
  w: usize,
  nPadded: i32,
  x: usize,
  nIn: i32,
  rounded: usize,
): i32 {
  const stride = inputBytes(dtype, nPadded);
  let nZeros = nIn;
  let record = list + LIST_HEADER_BYTES;
  for (let k = 0; k < nIn; k += BLOCK, x += 4 * BLOCK) {
    roundBlock(rounded, x);
    const weights = record + WEIGHTS;
    let at = inputAt(dtype, w, nPadded, k);
    let n: usize = 0;
    for (let i: usize = 0; i < <usize>BLOCK; i++, at += stride) {
      const value = load<i16>(rounded + 2 * i);
      store<usize>(weights + 4 * n, at);
      store<i16>(rounded + 2 * n, value);
      n += value != 0 ? 1 : 0;
    }
    nZeros -= <i32>n;
    if (n == 0) {
      // A block with NaN or infinity has no values, but a scale that must not be lost.
      const scale = load<f32>(rounded, ROUNDED_SCALE);
      if (scale == scale) continue;
      n = 1;
    }
    // The last four are filled up with zeros times weights that are read anyway.
    memory.fill(rounded + 2 * n, 0, 2 * (<usize>BLOCK - n));
    const last = load<usize>(weights + 4 * (n - 1));
    const nWords = (n + 3) >> 2;
    for (let i = n; i < 4 * nWords; i++) store<usize>(weights + 4 * i, last);
    arrange(dtype, record, 1, 0, rounded);
    store<usize>(record, nWords, N_WORDS);
    store<usize>(record, blockFields(dtype, w, nPadded, k), FIELDS);
    record += RECORD_BYTES;
  }
  store<usize>(list, record, LIST_END);
  return nZeros;
}

/** Bytes of a, b, c and d in turn: of 16 outputs, the first eight. */
@inline
function lowPairs(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}

@inline
function highPairs(a: v128, b: v128): v128 {
  return i8x16.shuffle(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
}

@inline
function lowFours(ab: v128, cd: v128): v128 {
  return i16x8.shuffle(ab, cd, 0, 8, 1, 9, 2, 10, 3, 11);
}

@inline
function highFours(ab: v128, cd: v128): v128 {
  return i16x8.shuffle(ab, cd, 4, 12, 5, 13, 6, 14, 7, 15);
}

/** Adds a word of inputs to four outputs. */
@inline
function addFours(
  dtype: i32,
  part: i32,
  sum: v128,
  fours: v128,
  x: v128,
  y: v128,
  nibble: v128,
  even: v128,
  levels: v128,
): v128 {
  const bytes = bytesOf(dtype, part, fours, nibble, levels);
  return addProducts(dtype, sum, firstPart(dtype, bytes, even), secondPart(bytes), x, y);
}

/** Adds a block to four outputs. */
@inline
function finishFour(dtype: i32, totals: usize, sum: v128, fields: usize, fieldBytes: usize, record: usize): void {
  addBlock(dtype, totals, sum, loadHalves(fields), fields + fieldBytes, record + INPUT_SCALE, 1);
}

/** Adds a block to 16 outputs, given the totals and fields of the first. */
@inline
function finishSixteen(
  dtype: i32,
  totals: usize,
  sum0: v128,
  sum1: v128,
  sum2: v128,
  sum3: v128,
  fields: usize,
  fieldBytes: usize,
  record: usize,
): void {
  finishFour(dtype, totals, sum0, fields, fieldBytes, record);
  finishFour(dtype, totals + 16, sum1, fields + 8, fieldBytes, record);
  finishFour(dtype, totals + 32, sum2, fields + 16, fieldBytes, record);
  finishFour(dtype, totals + 48, sum3, fields + 24, fieldBytes, record);
}

/**
 * Adds a list to outputs.
 * @param totals - of outputs [first, first + n), whole segments
 */
@inline
function addList(dtype: i32, totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  const nibble = kept(i8x16.splat(15), list + LIST_ROOM);
  const even = kept(i16x8.splat(255), list + LIST_ROOM);
  const levels = kept(nf4Bytes(), list + LIST_ROOM);
  const fieldBytes = columnFieldBytes(nPadded);
  const listEnd = load<usize>(list, LIST_END);
  memory.fill(totals, 0, (<usize>n) << 2);
  for (let record = list + LIST_HEADER_BYTES; record < listEnd; record += RECORD_BYTES) {
    const weightsEnd = record + WEIGHTS + 16 * load<usize>(record, N_WORDS);
    const fields = load<usize>(record, FIELDS) + ((<usize>first) << 1);
    const zero = firstSum(dtype, record + INPUT_START);
    // 16 bytes at a time: as many outputs, or twice as many, those of low and those of high nibbles 32 apart.
    const shift: usize = hasNibbles(dtype) ? 1 : 0;
    const start = (<usize>first) >> shift;
    const end = (<usize>(first + n)) >> shift;
    for (let at = start; at < end; at += 16) {
      let sum0 = zero;
      let sum1 = zero;
      let sum2 = zero;
      let sum3 = zero;
      let high0 = zero;
      let high1 = zero;
      let high2 = zero;
      let high3 = zero;
      let inputs = record;
      for (let weights = record + WEIGHTS; weights < weightsEnd; weights += 16, inputs += 8) {
        const a = v128.load(load<usize>(weights) + at);
        const b = v128.load(load<usize>(weights, 4) + at);
        const c = v128.load(load<usize>(weights, 8) + at);
        const d = v128.load(load<usize>(weights, 12) + at);
        const x = v128.load32_splat(inputs);
        const y = v128.load32_splat(inputs, 4);
        const ab = lowPairs(a, b);
        const cd = lowPairs(c, d);
        const fours0 = lowFours(ab, cd);
        const fours1 = highFours(ab, cd);
        sum0 = addFours(dtype, LOW, sum0, fours0, x, y, nibble, even, levels);
        sum1 = addFours(dtype, LOW, sum1, fours1, x, y, nibble, even, levels);
        if (hasNibbles(dtype)) {
          high0 = addFours(dtype, HIGH, high0, fours0, x, y, nibble, even, levels);
          high1 = addFours(dtype, HIGH, high1, fours1, x, y, nibble, even, levels);
        }
        const ab2 = highPairs(a, b);
        const cd2 = highPairs(c, d);
        const fours2 = lowFours(ab2, cd2);
        const fours3 = highFours(ab2, cd2);
        sum2 = addFours(dtype, LOW, sum2, fours2, x, y, nibble, even, levels);
        sum3 = addFours(dtype, LOW, sum3, fours3, x, y, nibble, even, levels);
        if (hasNibbles(dtype)) {
          high2 = addFours(dtype, HIGH, high2, fours2, x, y, nibble, even, levels);
          high3 = addFours(dtype, HIGH, high3, fours3, x, y, nibble, even, levels);
        }
      }
      // The first of these outputs, counted from `first`.
      let o = at - start;
      if (hasNibbles(dtype)) o = ((o & ~31) << 1) + (o & 31);
      finishSixteen(dtype, totals + 4 * o, sum0, sum1, sum2, sum3, fields + 2 * o, fieldBytes, record);
      if (hasNibbles(dtype)) {
        o += SEGMENT / 2;
        finishSixteen(dtype, totals + 4 * o, high0, high1, high2, high3, fields + 2 * o, fieldBytes, record);
      }
    }
  }
}

// One function for each type, so that an engine optimises each on its own.

function addListQ8_0(totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  addList(DTYPE_Q8_0, totals, list, first, n, nPadded);
}

function addListQ8(totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  addList(DTYPE_Q8, totals, list, first, n, nPadded);
}

function addListQ4_0(totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  addList(DTYPE_Q4_0, totals, list, first, n, nPadded);
}

function addListQ4_1(totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  addList(DTYPE_Q4_1, totals, list, first, n, nPadded);
}

function addListQ4(totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  addList(DTYPE_Q4, totals, list, first, n, nPadded);
}

function addListNf4(totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  addList(DTYPE_NF4, totals, list, first, n, nPadded);
}

/** Sums of outputs [first, first + n), whole segments, over a list of rounded inputs. */
export function sumRounded(dtype: i32, totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  switch (dtype) {
    case DTYPE_Q8_0:
      addListQ8_0(totals, list, first, n, nPadded);
      break;
    case DTYPE_Q8:
      addListQ8(totals, list, first, n, nPadded);
      break;
    case DTYPE_Q4_0:
      addListQ4_0(totals, list, first, n, nPadded);
      break;
    case DTYPE_Q4_1:
      addListQ4_1(totals, list, first, n, nPadded);
      break;
    case DTYPE_Q4:
      addListQ4(totals, list, first, n, nPadded);
      break;
    default:
      addListNf4(totals, list, first, n, nPadded);
  }
}
