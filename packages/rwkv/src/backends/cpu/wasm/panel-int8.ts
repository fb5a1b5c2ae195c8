// Products of panels of blocks with activations rounded to 8 bits (rounding.ts). For each output, over the blocks of 32
// inputs in increasing order:
//
//   sum = sum + (d * s) * (exact sum of q * quant) [+ m * (s * (sum of q))]     each operation rounded
//
// So bits depend neither on the number of rows nor on the instructions that make the exact sums. Those take a word of
// four inputs and outputs as vectors of 16-bit pairs, or, with relaxed SIMD, of 8-bit fours, in two parts:
//
//                               quants                   inputs a b c d
//   bytes, q + 128              even bytes               a c
//                               odd bytes                b d
//   nibbles                     even + 256 * odd bytes   a c
//                               odd bytes                b - 256 * a, d - 256 * c
//   bytes, relaxed SIMD         q or -1 - q              |a| |b| |c| |d|
//   nibbles, relaxed SIMD       bytes                    a b c d
//
// A factor of relaxed SIMD must be in [0, 127]. The quants of negative inputs become -1 - q by flipping other bits of
// q + 128 than for q; the second part of the inputs says which. What that lacks is the sum of the |x| of those inputs.
//
// Inputs lie as int8-inputs.ts puts them.

import {
  DTYPE_NF4,
  DTYPE_Q4,
  DTYPE_Q4_0,
  DTYPE_Q4_1,
  DTYPE_Q8,
  DTYPE_Q8_0,
  DTYPE_SF4,
  PANEL_ROWS,
} from "../abi.ts";
import { loadHalves } from "./half.ts";
import { INPUT_BYTES, INPUT_SCALE, INPUT_START, roundTile } from "./int8-inputs.ts";
import {
  FIELD_BYTES,
  fieldsBytes,
  hasMinimum,
  hasNibbles,
  isBytes,
  isLevels,
  isWide,
  levelBytes,
  lookUp,
  nWords,
  WORD_BYTES,
} from "./panel-blocks.ts";
import { STREAMS } from "./panel-f32.ts";
import { BLOCK } from "./rounding.ts";
import { kept } from "./simd.ts";

/** Rows that are rounded at a time, which bounds the room that they take: INPUT_BYTES for each block of a row. */
const CHUNK_ROWS = 32;

/** Which nibbles of words are multiplied, where bytes hold two quants. */
const LOW: i32 = 0;
const HIGH: i32 = 1;

/** The bytes that words hold, or that their low or high nibbles stand for. @param nibble - 15 in each byte */
@inline
function bytesOf(dtype: i32, part: i32, words: v128, nibble: v128, levels: v128): v128 {
  if (!hasNibbles(dtype)) return words;
  const quants = v128.and(part == HIGH ? i16x8.shr_u(words, 4) : words, nibble);
  return isLevels(dtype) ? lookUp(levels, quants) : quants;
}

/** @param even - 255 in each even byte */
@inline
function firstPart(dtype: i32, bytes: v128, even: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD || !isBytes(dtype)) return bytes;
  return v128.and(bytes, even);
}

@inline
function secondPart(bytes: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) return bytes;
  return i16x8.shr_u(bytes, 8);
}

/**
 * Whether products are added up in 16-bit lanes, two for each output. Those of nibbles stay within them over a block,
 * 16 * 15 * 127, and many processors have dot products of pairs, but not of fours.
 */
@inline
function hasPairSums(dtype: i32): bool {
  return ASC_FEATURE_RELAXED_SIMD && !isBytes(dtype);
}

/** What a sum of products begins with. */
@inline
function firstSum(dtype: i32, start: usize): v128 {
  return hasPairSums(dtype) ? i32x4.splat(0) : v128.load32_splat(start);
}

/** Adds the products of a word, given the parts of quants and inputs. */
@inline
function addProducts(dtype: i32, sum: v128, first: v128, second: v128, x: v128, y: v128): v128 {
  if (ASC_FEATURE_RELAXED_SIMD) {
    if (isBytes(dtype)) return i32x4.relaxed_dot_i8x16_i7x16_add_s(v128.xor(first, y), x, sum);
    return i16x8.add(sum, i16x8.relaxed_dot_i8x16_i7x16_s(x, first));
  }
  return i32x4.add(i32x4.add(sum, i32x4.dot_i16x8_s(first, x)), i32x4.dot_i16x8_s(second, y));
}

/** Four outputs of one row: adds the products of a word of inputs. */
@inline
function addWord(
  dtype: i32,
  part: i32,
  sum: v128,
  words: usize,
  x: v128,
  y: v128,
  nibble: v128,
  even: v128,
  levels: v128,
): v128 {
  const bytes = bytesOf(dtype, part, v128.load(words), nibble, levels);
  return addProducts(dtype, sum, firstPart(dtype, bytes, even), secondPart(bytes), x, y);
}

/**
 * Four outputs of one row: adds a block to the totals.
 * @param fields - d of the four outputs
 * @param numbers - scale of the row, behind the words of the inputs
 * @param nRows - of the tile
 */
@inline
function addBlock(dtype: i32, totals: usize, sum: v128, d: v128, fields: usize, numbers: usize, nRows: usize): void {
  const start = v128.load32_splat(numbers + 4 * nRows);
  const whole = hasPairSums(dtype) ? i32x4.add(i32x4.extadd_pairwise_i16x8_s(sum), start) : sum;
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
function vectorBlock(
  dtype: i32,
  part: i32,
  totals: usize,
  fields: usize,
  words: usize,
  x: usize,
  nibble: v128,
  even: v128,
  levels: v128,
): void {
  const isPaired = hasNibbles(dtype) && !isWide(dtype);
  let sum0 = firstSum(dtype, x + INPUT_START);
  let sum1 = sum0;
  let sum2 = sum0;
  let sum3 = sum0;
  let inputs = x;
  for (const end = words + (isPaired ? 4 : 8) * WORD_BYTES; words < end; words += WORD_BYTES, inputs += 8) {
    const a = v128.load32_splat(inputs);
    const b = v128.load32_splat(inputs, 4);
    sum0 = addWord(dtype, part, sum0, words, a, b, nibble, even, levels);
    sum1 = addWord(dtype, part, sum1, words + 16, a, b, nibble, even, levels);
    sum2 = addWord(dtype, part, sum2, words + 32, a, b, nibble, even, levels);
    sum3 = addWord(dtype, part, sum3, words + 48, a, b, nibble, even, levels);
    if (isPaired) {
      const c = v128.load32_splat(inputs, 32);
      const d = v128.load32_splat(inputs, 36);
      sum0 = addWord(dtype, HIGH, sum0, words, c, d, nibble, even, levels);
      sum1 = addWord(dtype, HIGH, sum1, words + 16, c, d, nibble, even, levels);
      sum2 = addWord(dtype, HIGH, sum2, words + 32, c, d, nibble, even, levels);
      sum3 = addWord(dtype, HIGH, sum3, words + 48, c, d, nibble, even, levels);
    }
  }
  const numbers = x + INPUT_SCALE;
  addBlock(dtype, totals, sum0, loadHalves(fields), fields, numbers, 1);
  addBlock(dtype, totals + 16, sum1, loadHalves(fields + 8), fields + 8, numbers, 1);
  addBlock(dtype, totals + 32, sum2, loadHalves(fields + 16), fields + 16, numbers, 1);
  addBlock(dtype, totals + 48, sum3, loadHalves(fields + 24), fields + 24, numbers, 1);
}

/** Some panels, panelBytes apart, times one row, a block of each in turn. @param totals - 16 sums of each */
@inline
function vector(dtype: i32, totals: usize, panel: usize, panelBytes: usize, nPanels: i32, x: usize, nIn: i32): void {
  const nibble = kept(i8x16.splat(15), totals);
  const even = kept(i16x8.splat(255), totals);
  const levels = kept(levelBytes(dtype), totals);
  const totalsEnd = totals + <usize>nPanels * 4 * PANEL_ROWS;
  memory.fill(totals, 0, totalsEnd - totals);
  const blockBytes = fieldsBytes(dtype) + <usize>nWords(dtype) * WORD_BYTES;
  for (const end = x + <usize>(nIn / BLOCK) * INPUT_BYTES; x < end; panel += blockBytes) {
    let fields = panel;
    for (let to = totals; to < totalsEnd; to += 4 * PANEL_ROWS, fields += panelBytes) {
      const words = fields + fieldsBytes(dtype);
      vectorBlock(dtype, LOW, to, fields, words, x, nibble, even, levels);
      if (isWide(dtype)) {
        const upper = hasNibbles(dtype) ? words : words + 8 * WORD_BYTES;
        vectorBlock(dtype, HIGH, to, fields, upper, x + INPUT_BYTES, nibble, even, levels);
      }
    }
    x += isWide(dtype) ? 2 * INPUT_BYTES : INPUT_BYTES;
  }
}

/** Four outputs times a block of four rows; as vectorBlock. @param stride - bytes from the totals of one row to the next */
@inline
function tileBlock(
  dtype: i32,
  part: i32,
  totals: usize,
  stride: usize,
  fields: usize,
  words: usize,
  x: usize,
  nibble: v128,
  even: v128,
  levels: v128,
): void {
  const isPaired = hasNibbles(dtype) && !isWide(dtype);
  let sum0 = firstSum(dtype, x + 4 * INPUT_START);
  let sum1 = firstSum(dtype, x + 4 * INPUT_START + 4);
  let sum2 = firstSum(dtype, x + 4 * INPUT_START + 8);
  let sum3 = firstSum(dtype, x + 4 * INPUT_START + 12);
  let inputs = x;
  let at = words;
  for (const end = words + (isPaired ? 4 : 8) * WORD_BYTES; at < end; at += WORD_BYTES, inputs += 32) {
    const bytes = bytesOf(dtype, part, v128.load(at), nibble, levels);
    const first = firstPart(dtype, bytes, even);
    const second = secondPart(bytes);
    sum0 = addProducts(dtype, sum0, first, second, v128.load32_splat(inputs), v128.load32_splat(inputs, 16));
    sum1 = addProducts(dtype, sum1, first, second, v128.load32_splat(inputs, 4), v128.load32_splat(inputs, 20));
    sum2 = addProducts(dtype, sum2, first, second, v128.load32_splat(inputs, 8), v128.load32_splat(inputs, 24));
    sum3 = addProducts(dtype, sum3, first, second, v128.load32_splat(inputs, 12), v128.load32_splat(inputs, 28));
  }
  if (isPaired) {
    at = words;
    for (const end = words + 4 * WORD_BYTES; at < end; at += WORD_BYTES, inputs += 32) {
      const bytes = bytesOf(dtype, HIGH, v128.load(at), nibble, levels);
      const first = firstPart(dtype, bytes, even);
      const second = secondPart(bytes);
      sum0 = addProducts(dtype, sum0, first, second, v128.load32_splat(inputs), v128.load32_splat(inputs, 16));
      sum1 = addProducts(dtype, sum1, first, second, v128.load32_splat(inputs, 4), v128.load32_splat(inputs, 20));
      sum2 = addProducts(dtype, sum2, first, second, v128.load32_splat(inputs, 8), v128.load32_splat(inputs, 24));
      sum3 = addProducts(dtype, sum3, first, second, v128.load32_splat(inputs, 12), v128.load32_splat(inputs, 28));
    }
  }
  const numbers = x + 4 * INPUT_SCALE;
  const d = loadHalves(fields);
  addBlock(dtype, totals, sum0, d, fields, numbers, 4);
  addBlock(dtype, totals + stride, sum1, d, fields, numbers + 4, 4);
  addBlock(dtype, totals + 2 * stride, sum2, d, fields, numbers + 8, 4);
  addBlock(dtype, totals + 3 * stride, sum3, d, fields, numbers + 12, 4);
}

/** A panel times four rows, four outputs after the other. */
@inline
function tile(dtype: i32, totals: usize, stride: usize, panel: usize, x: usize, nIn: i32): void {
  const nibble = kept(i8x16.splat(15), totals);
  const even = kept(i16x8.splat(255), totals);
  const levels = kept(levelBytes(dtype), totals);
  const blockBytes = fieldsBytes(dtype) + <usize>nWords(dtype) * WORD_BYTES;
  const end = x + <usize>(nIn / BLOCK) * 4 * INPUT_BYTES;
  for (let four: usize = 0; four < 4; four++, totals += 16) {
    for (let row: usize = 0; row < 4; row++) v128.store(totals + row * stride, f32x4.splat(0));
    let fields = panel + 8 * four;
    let words = panel + fieldsBytes(dtype) + 16 * four;
    for (let inputs = x; inputs < end;) {
      tileBlock(dtype, LOW, totals, stride, fields, words, inputs, nibble, even, levels);
      if (isWide(dtype)) {
        inputs += 4 * INPUT_BYTES;
        const upper = hasNibbles(dtype) ? words : words + 8 * WORD_BYTES;
        tileBlock(dtype, HIGH, totals, stride, fields, upper, inputs, nibble, even, levels);
      }
      inputs += 4 * INPUT_BYTES;
      fields += blockBytes;
      words += blockBytes;
    }
  }
}

// One function for each type, so that an engine optimises each on its own.

function vectorQ8_0(totals: usize, panel: usize, panelBytes: usize, nPanels: i32, x: usize, nIn: i32): void {
  vector(DTYPE_Q8_0, totals, panel, panelBytes, nPanels, x, nIn);
}

function vectorQ8(totals: usize, panel: usize, panelBytes: usize, nPanels: i32, x: usize, nIn: i32): void {
  vector(DTYPE_Q8, totals, panel, panelBytes, nPanels, x, nIn);
}

function vectorQ4_0(totals: usize, panel: usize, panelBytes: usize, nPanels: i32, x: usize, nIn: i32): void {
  vector(DTYPE_Q4_0, totals, panel, panelBytes, nPanels, x, nIn);
}

function vectorQ4_1(totals: usize, panel: usize, panelBytes: usize, nPanels: i32, x: usize, nIn: i32): void {
  vector(DTYPE_Q4_1, totals, panel, panelBytes, nPanels, x, nIn);
}

function vectorQ4(totals: usize, panel: usize, panelBytes: usize, nPanels: i32, x: usize, nIn: i32): void {
  vector(DTYPE_Q4, totals, panel, panelBytes, nPanels, x, nIn);
}

function vectorNf4(totals: usize, panel: usize, panelBytes: usize, nPanels: i32, x: usize, nIn: i32): void {
  vector(DTYPE_NF4, totals, panel, panelBytes, nPanels, x, nIn);
}

function vectorSf4(totals: usize, panel: usize, panelBytes: usize, nPanels: i32, x: usize, nIn: i32): void {
  vector(DTYPE_SF4, totals, panel, panelBytes, nPanels, x, nIn);
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

function tileSf4(totals: usize, stride: usize, panel: usize, x: usize, nIn: i32): void {
  tile(DTYPE_SF4, totals, stride, panel, x, nIn);
}

/** 16 sums of each panel. */
function multiplyRow(
  dtype: i32,
  totals: usize,
  panel: usize,
  panelBytes: usize,
  nPanels: i32,
  x: usize,
  nIn: i32,
): void {
  switch (dtype) {
    case DTYPE_Q8_0:
      vectorQ8_0(totals, panel, panelBytes, nPanels, x, nIn);
      return;
    case DTYPE_Q8:
      vectorQ8(totals, panel, panelBytes, nPanels, x, nIn);
      return;
    case DTYPE_Q4_0:
      vectorQ4_0(totals, panel, panelBytes, nPanels, x, nIn);
      return;
    case DTYPE_Q4_1:
      vectorQ4_1(totals, panel, panelBytes, nPanels, x, nIn);
      return;
    case DTYPE_Q4:
      vectorQ4(totals, panel, panelBytes, nPanels, x, nIn);
      return;
    case DTYPE_SF4:
      vectorSf4(totals, panel, panelBytes, nPanels, x, nIn);
      return;
    default:
      vectorNf4(totals, panel, panelBytes, nPanels, x, nIn);
  }
}

/** Four times 16 sums, `stride` bytes apart. */
function multiplyTile(dtype: i32, totals: usize, stride: usize, panel: usize, x: usize, nIn: i32): void {
  switch (dtype) {
    case DTYPE_Q8_0:
      tileQ8_0(totals, stride, panel, x, nIn);
      return;
    case DTYPE_Q8:
      tileQ8(totals, stride, panel, x, nIn);
      return;
    case DTYPE_Q4_0:
      tileQ4_0(totals, stride, panel, x, nIn);
      return;
    case DTYPE_Q4_1:
      tileQ4_1(totals, stride, panel, x, nIn);
      return;
    case DTYPE_Q4:
      tileQ4(totals, stride, panel, x, nIn);
      return;
    case DTYPE_SF4:
      tileSf4(totals, stride, panel, x, nIn);
      return;
    default:
      tileNf4(totals, stride, panel, x, nIn);
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
    const nTogether = chunkRows == 1 ? STREAMS * PANEL_ROWS : PANEL_ROWS;
    for (let o = 0; o < n;) {
      const panel = panels + <usize>(o / PANEL_ROWS) * panelBytes;
      const nOutputs = n - o >= nTogether ? nTogether : PANEL_ROWS;
      const isWhole = n - o >= PANEL_ROWS;
      for (let row = 0; row < chunkRows;) {
        const rows = row < inFours ? 4 : 1;
        const target = out + ((<usize>o) << 2) + <usize>(first + row) * outStride;
        const totals = isWhole ? target : last;
        const stride = isWhole ? outStride : 4 * PANEL_ROWS;
        const inputs = scratch + <usize>row * inputBytes;
        if (rows == 4) multiplyTile(dtype, totals, stride, panel, inputs, nIn);
        else multiplyRow(dtype, totals, panel, panelBytes, nOutputs / PANEL_ROWS, inputs, nIn);
        if (!isWhole) {
          for (let r = 0; r < rows; r++) {
            memory.copy(target + <usize>r * outStride, last + <usize>r * 4 * PANEL_ROWS, (<usize>(n - o)) << 2);
          }
        }
        row += rows;
      }
      o += nOutputs;
    }
  }
}
