// Products of panels of blocks with activations rounded to 8 bits (rounding.ts). For each output, over the blocks of 32
// inputs in increasing order:
//
//   sum = sum + (d * s) * (exact sum of q * quant) [+ m * (s * (sum of q))]     each operation rounded
//
// So bits depend neither on the number of rows nor on the instructions that make the exact sums. These are pairs of
// 16-bit products, or, with relaxed SIMD, fours of 8-bit products, of which one factor must be in [0, 127]:
//
//   quants of 4 bits   are that factor already
//   bytes, q + 128     take part as q for inputs of at least 0, else as -1 - q, which both are the byte with some of its
//                      bits flipped, times |x|; what that lacks is the sum of the |x| of negative inputs
//
// Inputs lie in the order in which a tile of R rows, 1 or 4, takes them. For each block:
//
//   | 8 words x (R x 4 bytes, R x 4 bytes) | R x f32 s | R x i32 start | R x f32 s * (sum of q) | R x 4 bytes unused |
//
// A word is of four inputs a b c d; its two parts are (a, c) and (b, d) in 16 bits; with relaxed SIMD (a, b, c, d) in
// 8 bits, the second part, of bytes only, being the bits to flip. A sum of products begins with `start`.

import { DTYPE_NF4, DTYPE_Q4, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q8, DTYPE_Q8_0, PANEL_ROWS } from "../abi.ts";
import { loadHalves } from "./half.ts";
import { FIELD_BYTES, fieldsBytes, hasMinimum, hasNibbles, isWide, nibbleBytes, nWords, WORD_BYTES, zeroOf } from "./panel-blocks.ts";
import { BLOCK, roundBlock, ROUNDED_BYTES, ROUNDED_SCALE, ROUNDED_SUM } from "./rounding.ts";

/** Rows that are rounded at a time, which bounds the room that they take: 80 bytes for each block of a row. */
const CHUNK_ROWS = 32;
/** Bytes of a block of one row among the inputs, and where the numbers behind its words begin. */
const INPUT_BYTES: usize = 80;
const INPUT_SCALE: usize = 64;
const INPUT_START: usize = 68;
const INPUT_SUM: usize = 72;

/** Which nibbles of words are multiplied, where bytes hold two quants. */
const LOW: i32 = 0;
const HIGH: i32 = 1;

/** Quants of 4 bits multiply from where they lie in 16 bits; factors of the inputs make all products 2^8 too large. */
const SHIFT: i32 = ASC_FEATURE_RELAXED_SIMD ? 0 : 8;

/** Whether quants are multiplied as bytes, q + 128. */
@inline
function isBytes(dtype: i32): bool {
  return zeroOf(dtype) == 128;
}

/** Words as they are multiplied: of nf4 the bytes that its nibbles stand for. */
@inline
function prepare(dtype: i32, words: v128, part: i32): v128 {
  if (dtype != DTYPE_NF4) return words;
  return nibbleBytes(dtype, part == HIGH ? i16x8.shr_u(words, 4) : words);
}

/** What the first parts of the inputs are multiplied with. */
@inline
function firstOf(dtype: i32, part: i32, words: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    if (isBytes(dtype)) return words;
    return v128.and(part == LOW ? words : i16x8.shr_u(words, 4), i8x16.splat(15));
  }
  return v128.and(words, i16x8.splat(isBytes(dtype) ? 0x00ff : part == LOW ? 0x000f : 0x00f0));
}

/** What the second parts of the inputs are multiplied with. */
@inline
function secondOf(dtype: i32, part: i32, words: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return words;
  if (!isBytes(dtype) && part == LOW) return v128.and(words, i16x8.splat(0x0f00));
  return i16x8.shr_u(words, isBytes(dtype) ? 8 : 12);
}

/** Adds the products of four inputs and four outputs, given the parts of both. */
@inline
function addProducts(dtype: i32, sum: v128, first: v128, second: v128, x: v128, y: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    if (isBytes(dtype)) return i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.xor(first, y), x, sum);
    return i32x4.relaxed_dot_i8x16_i7x16_add_s(x, first, sum);
  }
  return i32x4.add(i32x4.add(sum, i32x4.dot_i16x8_s(first, x)), i32x4.dot_i16x8_s(second, y));
}

/** Four outputs of one row: adds the products of a word of inputs. */
@inline
function addWord(dtype: i32, part: i32, sum: v128, words: usize, x: v128, y: v128): v128 {
  const quants = prepare(dtype, v128.load(words), part);
  return addProducts(dtype, sum, firstOf(dtype, part, quants), secondOf(dtype, part, quants), x, y);
}

/**
 * Four outputs of one row: adds a block to the totals.
 * @param fields - d of the four outputs
 * @param numbers - scale of the row, behind the words of the inputs
 * @param nRows - of the tile
 */
@inline
function addBlock(dtype: i32, totals: usize, sum: v128, d: v128, fields: usize, numbers: usize, nRows: usize): void {
  const whole = isBytes(dtype) ? sum : i32x4.shr_s(sum, SHIFT);
  const scale = f32x4.mul(d, v128.load32_splat(numbers));
  let total = f32x4.add(v128.load(totals), f32x4.mul(scale, f32x4.convert_i32x4_s(whole)));
  if (hasMinimum(dtype)) {
    const m = loadHalves(fields + FIELD_BYTES);
    total = f32x4.add(total, f32x4.mul(m, v128.load32_splat(numbers + 8 * nRows)));
  }
  v128.store(totals, total);
}

/**
 * A panel times a block of one row. Of a block of 32 whose bytes hold two quants, `part` is LOW and the high ones follow.
 * @param totals - 16 sums
 * @param fields - the d of the block, of which the words may be those of one half
 */
@inline
function vectorBlock(dtype: i32, part: i32, totals: usize, fields: usize, words: usize, x: usize): void {
  const isPaired = hasNibbles(dtype) && !isWide(dtype);
  let sum0 = v128.load32_splat(x, INPUT_START);
  let sum1 = sum0;
  let sum2 = sum0;
  let sum3 = sum0;
  let inputs = x;
  for (const end = words + (isPaired ? 4 : 8) * WORD_BYTES; words < end; words += WORD_BYTES, inputs += 8) {
    const a = v128.load32_splat(inputs);
    const b = v128.load32_splat(inputs, 4);
    sum0 = addWord(dtype, part, sum0, words, a, b);
    sum1 = addWord(dtype, part, sum1, words + 16, a, b);
    sum2 = addWord(dtype, part, sum2, words + 32, a, b);
    sum3 = addWord(dtype, part, sum3, words + 48, a, b);
    if (isPaired) {
      const c = v128.load32_splat(inputs, 32);
      const d = v128.load32_splat(inputs, 36);
      sum0 = addWord(dtype, HIGH, sum0, words, c, d);
      sum1 = addWord(dtype, HIGH, sum1, words + 16, c, d);
      sum2 = addWord(dtype, HIGH, sum2, words + 32, c, d);
      sum3 = addWord(dtype, HIGH, sum3, words + 48, c, d);
    }
  }
  const numbers = x + INPUT_SCALE;
  addBlock(dtype, totals, sum0, loadHalves(fields), fields, numbers, 1);
  addBlock(dtype, totals + 16, sum1, loadHalves(fields + 8), fields + 8, numbers, 1);
  addBlock(dtype, totals + 32, sum2, loadHalves(fields + 16), fields + 16, numbers, 1);
  addBlock(dtype, totals + 48, sum3, loadHalves(fields + 24), fields + 24, numbers, 1);
}

/** A panel times one row. */
@inline
function vector(dtype: i32, totals: usize, panel: usize, x: usize, nIn: i32): void {
  for (let at: usize = 0; at < 64; at += 16) v128.store(totals + at, f32x4.splat(0));
  for (const end = x + <usize>(nIn / BLOCK) * INPUT_BYTES; x < end; ) {
    const words = panel + fieldsBytes(dtype);
    vectorBlock(dtype, LOW, totals, panel, words, x);
    if (isWide(dtype)) {
      x += INPUT_BYTES;
      vectorBlock(dtype, HIGH, totals, panel, hasNibbles(dtype) ? words : words + 8 * WORD_BYTES, x);
    }
    x += INPUT_BYTES;
    panel = words + <usize>nWords(dtype) * WORD_BYTES;
  }
}

/** Half a panel times a block of four rows; as vectorBlock. */
@inline
function tileBlock(
  dtype: i32,
  part: i32,
  totals: usize,
  stride: usize,
  fields: usize,
  words: usize,
  x: usize,
): void {
  const isPaired = hasNibbles(dtype) && !isWide(dtype);
  let sum0a = v128.load32_splat(x, 4 * INPUT_START);
  let sum1a = v128.load32_splat(x, 4 * INPUT_START + 4);
  let sum2a = v128.load32_splat(x, 4 * INPUT_START + 8);
  let sum3a = v128.load32_splat(x, 4 * INPUT_START + 12);
  let sum0b = sum0a;
  let sum1b = sum1a;
  let sum2b = sum2a;
  let sum3b = sum3a;
  let inputs = x;
  for (const end = words + (isPaired ? 4 : 8) * WORD_BYTES; words < end; words += WORD_BYTES, inputs += 32) {
    const quantsA = prepare(dtype, v128.load(words), part);
    const quantsB = prepare(dtype, v128.load(words, 16), part);
    const firstA = firstOf(dtype, part, quantsA);
    const firstB = firstOf(dtype, part, quantsB);
    const secondA = secondOf(dtype, part, quantsA);
    const secondB = secondOf(dtype, part, quantsB);
    let a = v128.load32_splat(inputs);
    let b = v128.load32_splat(inputs, 16);
    sum0a = addProducts(dtype, sum0a, firstA, secondA, a, b);
    sum0b = addProducts(dtype, sum0b, firstB, secondB, a, b);
    a = v128.load32_splat(inputs, 4);
    b = v128.load32_splat(inputs, 20);
    sum1a = addProducts(dtype, sum1a, firstA, secondA, a, b);
    sum1b = addProducts(dtype, sum1b, firstB, secondB, a, b);
    a = v128.load32_splat(inputs, 8);
    b = v128.load32_splat(inputs, 24);
    sum2a = addProducts(dtype, sum2a, firstA, secondA, a, b);
    sum2b = addProducts(dtype, sum2b, firstB, secondB, a, b);
    a = v128.load32_splat(inputs, 12);
    b = v128.load32_splat(inputs, 28);
    sum3a = addProducts(dtype, sum3a, firstA, secondA, a, b);
    sum3b = addProducts(dtype, sum3b, firstB, secondB, a, b);
    if (isPaired) {
      const thirdA = firstOf(dtype, HIGH, quantsA);
      const thirdB = firstOf(dtype, HIGH, quantsB);
      const fourthA = secondOf(dtype, HIGH, quantsA);
      const fourthB = secondOf(dtype, HIGH, quantsB);
      a = v128.load32_splat(inputs, 128);
      b = v128.load32_splat(inputs, 144);
      sum0a = addProducts(dtype, sum0a, thirdA, fourthA, a, b);
      sum0b = addProducts(dtype, sum0b, thirdB, fourthB, a, b);
      a = v128.load32_splat(inputs, 132);
      b = v128.load32_splat(inputs, 148);
      sum1a = addProducts(dtype, sum1a, thirdA, fourthA, a, b);
      sum1b = addProducts(dtype, sum1b, thirdB, fourthB, a, b);
      a = v128.load32_splat(inputs, 136);
      b = v128.load32_splat(inputs, 152);
      sum2a = addProducts(dtype, sum2a, thirdA, fourthA, a, b);
      sum2b = addProducts(dtype, sum2b, thirdB, fourthB, a, b);
      a = v128.load32_splat(inputs, 140);
      b = v128.load32_splat(inputs, 156);
      sum3a = addProducts(dtype, sum3a, thirdA, fourthA, a, b);
      sum3b = addProducts(dtype, sum3b, thirdB, fourthB, a, b);
    }
  }
  const numbers = x + 4 * INPUT_SCALE;
  const dA = loadHalves(fields);
  const dB = loadHalves(fields + 8);
  addBlock(dtype, totals, sum0a, dA, fields, numbers, 4);
  addBlock(dtype, totals + 16, sum0b, dB, fields + 8, numbers, 4);
  addBlock(dtype, totals + stride, sum1a, dA, fields, numbers + 4, 4);
  addBlock(dtype, totals + stride + 16, sum1b, dB, fields + 8, numbers + 4, 4);
  addBlock(dtype, totals + 2 * stride, sum2a, dA, fields, numbers + 8, 4);
  addBlock(dtype, totals + 2 * stride + 16, sum2b, dB, fields + 8, numbers + 8, 4);
  addBlock(dtype, totals + 3 * stride, sum3a, dA, fields, numbers + 12, 4);
  addBlock(dtype, totals + 3 * stride + 16, sum3b, dB, fields + 8, numbers + 12, 4);
}

/** A panel times four rows, one half after the other. */
@inline
function tile(dtype: i32, totals: usize, stride: usize, panel: usize, x: usize, nIn: i32): void {
  const blockBytes = fieldsBytes(dtype) + <usize>nWords(dtype) * WORD_BYTES;
  for (let half: usize = 0; half < 2; half++, totals += 32) {
    for (let row: usize = 0; row < 4; row++) {
      v128.store(totals + row * stride, f32x4.splat(0));
      v128.store(totals + row * stride, f32x4.splat(0), 16);
    }
    let fields = panel + 16 * half;
    let words = panel + fieldsBytes(dtype) + 32 * half;
    let inputs = x;
    for (const end = x + <usize>(nIn / BLOCK) * 4 * INPUT_BYTES; inputs < end; ) {
      tileBlock(dtype, LOW, totals, stride, fields, words, inputs);
      if (isWide(dtype)) {
        inputs += 4 * INPUT_BYTES;
        const upper = hasNibbles(dtype) ? words : words + 8 * WORD_BYTES;
        tileBlock(dtype, HIGH, totals, stride, fields, upper, inputs);
      }
      inputs += 4 * INPUT_BYTES;
      fields += blockBytes;
      words += blockBytes;
    }
  }
}

// One function for each type, so that an engine optimises each on its own.

function vectorQ8_0(totals: usize, panel: usize, x: usize, nIn: i32): void {
  vector(DTYPE_Q8_0, totals, panel, x, nIn);
}

function vectorQ8(totals: usize, panel: usize, x: usize, nIn: i32): void {
  vector(DTYPE_Q8, totals, panel, x, nIn);
}

function vectorQ4_0(totals: usize, panel: usize, x: usize, nIn: i32): void {
  vector(DTYPE_Q4_0, totals, panel, x, nIn);
}

function vectorQ4_1(totals: usize, panel: usize, x: usize, nIn: i32): void {
  vector(DTYPE_Q4_1, totals, panel, x, nIn);
}

function vectorQ4(totals: usize, panel: usize, x: usize, nIn: i32): void {
  vector(DTYPE_Q4, totals, panel, x, nIn);
}

function vectorNf4(totals: usize, panel: usize, x: usize, nIn: i32): void {
  vector(DTYPE_NF4, totals, panel, x, nIn);
}

function tileQ8_0(totals: usize, stride: usize, panel: usize, x: usize, nIn: i32): void {
  tile(DTYPE_Q8_0, totals, stride, panel, x, nIn);
}

function tileQ8(totals: usize, stride: usize, panel: usize, x: usize, nIn: i32): void {
  tile(DTYPE_Q8, totals, stride, panel, x, nIn);
}

function tileQ4_0(totals: usize, stride: usize, panel: usize, x: usize, nIn: i32): void {
  tile(DTYPE_Q4_0, totals, stride, panel, x, nIn);
}

function tileQ4_1(totals: usize, stride: usize, panel: usize, x: usize, nIn: i32): void {
  tile(DTYPE_Q4_1, totals, stride, panel, x, nIn);
}

function tileQ4(totals: usize, stride: usize, panel: usize, x: usize, nIn: i32): void {
  tile(DTYPE_Q4, totals, stride, panel, x, nIn);
}

function tileNf4(totals: usize, stride: usize, panel: usize, x: usize, nIn: i32): void {
  tile(DTYPE_NF4, totals, stride, panel, x, nIn);
}

/** Four sums of 16 outputs each, `stride` bytes apart, or one. */
function multiplyPanel(dtype: i32, nRows: i32, totals: usize, stride: usize, panel: usize, x: usize, nIn: i32): void {
  switch (dtype) {
    case DTYPE_Q8_0:
      nRows == 1 ? vectorQ8_0(totals, panel, x, nIn) : tileQ8_0(totals, stride, panel, x, nIn);
      return;
    case DTYPE_Q8:
      nRows == 1 ? vectorQ8(totals, panel, x, nIn) : tileQ8(totals, stride, panel, x, nIn);
      return;
    case DTYPE_Q4_0:
      nRows == 1 ? vectorQ4_0(totals, panel, x, nIn) : tileQ4_0(totals, stride, panel, x, nIn);
      return;
    case DTYPE_Q4_1:
      nRows == 1 ? vectorQ4_1(totals, panel, x, nIn) : tileQ4_1(totals, stride, panel, x, nIn);
      return;
    case DTYPE_Q4:
      nRows == 1 ? vectorQ4(totals, panel, x, nIn) : tileQ4(totals, stride, panel, x, nIn);
      return;
    default:
      nRows == 1 ? vectorNf4(totals, panel, x, nIn) : tileNf4(totals, stride, panel, x, nIn);
  }
}

/** Stores the parts of eight inputs: those of two words. `to` is the first part of the first word. */
@inline
function storeParts(to: usize, parts: v128, nRows: usize): void {
  v128.store_lane<u32>(to, parts, 0);
  v128.store_lane<u32>(to + 4 * nRows, parts, 1);
  v128.store_lane<u32>(to + 8 * nRows, parts, 2);
  v128.store_lane<u32>(to + 12 * nRows, parts, 3);
}

/** What the 16-bit parts of inputs, first and second in turn, are times. */
@inline
function factorsOf(dtype: i32, isHigh: bool): v128 {
  if (isBytes(dtype)) return i16x8.splat(1);
  return isHigh ? i16x8(16, 16, 256, 256, 16, 16, 256, 256) : i16x8(256, 256, 1, 1, 256, 256, 1, 1);
}

/** Eight rounded inputs as 16-bit parts. */
@inline
function storeEight(dtype: i32, to: usize, rounded: usize, isHigh: bool, nRows: usize): void {
  const inputs = v128.load(rounded);
  const pairs = i16x8.shuffle(inputs, inputs, 0, 2, 1, 3, 4, 6, 5, 7);
  storeParts(to, i16x8.mul(pairs, factorsOf(dtype, isHigh)), nRows);
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

/** Writes a rounded block where a row of a tile has it. @param isOdd - whether it is the second half of a block of 64 */
function arrange(dtype: i32, to: usize, nRows: usize, row: usize, rounded: usize, isOdd: bool): void {
  const sum = load<i32>(rounded, ROUNDED_SUM);
  const scale = load<f32>(rounded, ROUNDED_SCALE);
  const words = to + 4 * row;
  let start = 0;
  if (ASC_FEATURE_RELAXED_SIMD) {
    storeSixteen(dtype, words, rounded, nRows);
    storeSixteen(dtype, words + 32 * nRows, rounded + 32, nRows);
    start = isBytes(dtype) ? sumOfNegatives(rounded) : -zeroOf(dtype) * sum;
  } else {
    const isFirstHigh = isWide(dtype) && isOdd;
    const isSecondHigh = isWide(dtype) ? isOdd : true;
    storeEight(dtype, words, rounded, isFirstHigh, nRows);
    storeEight(dtype, words + 16 * nRows, rounded + 16, isFirstHigh, nRows);
    storeEight(dtype, words + 32 * nRows, rounded + 32, isSecondHigh, nRows);
    storeEight(dtype, words + 48 * nRows, rounded + 48, isSecondHigh, nRows);
    start = (-zeroOf(dtype) * sum) << (isBytes(dtype) ? 0 : SHIFT);
  }
  store<f32>(words + INPUT_SCALE * nRows, scale);
  store<i32>(words + INPUT_START * nRows, start);
  store<f32>(words + INPUT_SUM * nRows, scale * <f32>sum);
}

/** Rounds the inputs of a tile. @param rounded - room for a rounded block */
function roundTile(dtype: i32, to: usize, nRows: usize, x: usize, xStride: usize, nIn: i32, rounded: usize): void {
  for (let row: usize = 0; row < nRows; row++, x += xStride) {
    for (let b = 0; b < nIn / BLOCK; b++) {
      roundBlock(rounded, x + <usize>(b * BLOCK) * 4);
      arrange(dtype, to + <usize>b * nRows * INPUT_BYTES, nRows, row, rounded, (b & 1) == 1);
    }
  }
}

/**
 * n outputs of nRows rows.
 * @param scratch - room for 80 bytes per input
 * @param last - room for 16 outputs of four rows
 */
export function multiplyPanelsInt8(
  dtype: i32,
  out: usize,
  outStride: usize,
  panels: usize,
  panelBytes: usize,
  n: i32,
  x: usize,
  xStride: usize,
  nRows: i32,
  nIn: i32,
  scratch: usize,
  last: usize,
): void {
  const inputBytes = <usize>(nIn / BLOCK) * INPUT_BYTES;
  for (let first = 0; first < nRows; first += CHUNK_ROWS) {
    const chunkRows = min(CHUNK_ROWS, nRows - first);
    const inFours = chunkRows & ~3;
    for (let row = 0; row < chunkRows; row += row < inFours ? 4 : 1) {
      const from = x + <usize>(first + row) * xStride;
      roundTile(dtype, scratch + <usize>row * inputBytes, row < inFours ? 4 : 1, from, xStride, nIn, last);
    }
    for (let o = 0; o < n; o += PANEL_ROWS) {
      const panel = panels + <usize>(o / PANEL_ROWS) * panelBytes;
      const isWhole = n - o >= PANEL_ROWS;
      for (let row = 0; row < chunkRows; ) {
        const rows = row < inFours ? 4 : 1;
        const target = out + (<usize>o << 2) + <usize>(first + row) * outStride;
        const totals = isWhole ? target : last;
        const stride = isWhole ? outStride : 4 * PANEL_ROWS;
        multiplyPanel(dtype, rows, totals, stride, panel, scratch + <usize>row * inputBytes, nIn);
        if (!isWhole) {
          for (let r = 0; r < rows; r++) {
            memory.copy(target + <usize>r * outStride, last + <usize>r * 4 * PANEL_ROWS, <usize>(n - o) << 2);
          }
        }
        row += rows;
      }
    }
  }
}
