// A panel of a matrix to f32, for products with many rows. The two halves of a panel, 8 outputs each, lie one after the
// other: [2][nIn][8], so that a tile of four rows by half a panel reads its weights in order. Values are those of
// core/decode.ts, of f16 those times 2^-56; f16 numbers in matrices that are kept as panels are finite (pack.ts).

import { DTYPE_BF16, DTYPE_F16, DTYPE_F32 } from "../abi.ts";
import { highBf16, loadHalves, lowBf16, scaledHalves } from "./half.ts";
import {
  FIELD_BYTES,
  fieldsBytes,
  hasMinimum,
  hasNibbles,
  levelBytes,
  nibbleBytes,
  nWords,
  WORD_BYTES,
  zeroOf,
} from "./panel-blocks.ts";

/** What sums over products with decoded f16 lack. */
export const F16_RESULT_SCALE: f32 = 72057594037927936;

function decodeF32(to: usize, panel: usize, stride: usize, n: i32, halfBytes: usize): void {
  for (let i = 0; i < n; i++, to += 32, panel += stride) {
    v128.store(to, v128.load(panel));
    v128.store(to, v128.load(panel, 16), 16);
    v128.store(to + halfBytes, v128.load(panel, 32));
    v128.store(to + halfBytes, v128.load(panel, 48), 16);
  }
}

/** 2^-56 times four f16. */
@inline
export function rescaledHalves(p: usize): v128 {
  return f32x4.mul(scaledHalves(i32x4.shl(v128.load16x4_s(p), 13)), f32x4.splat(F16_RESULT_SCALE));
}

function decodeF16(to: usize, panel: usize, stride: usize, n: i32, halfBytes: usize): void {
  for (let i = 0; i < n; i++, to += 32, panel += stride) {
    v128.store(to, rescaledHalves(panel));
    v128.store(to, rescaledHalves(panel + 8), 16);
    v128.store(to + halfBytes, rescaledHalves(panel + 16));
    v128.store(to + halfBytes, rescaledHalves(panel + 24), 16);
  }
}

function decodeBf16(to: usize, panel: usize, stride: usize, n: i32, halfBytes: usize): void {
  for (let i = 0; i < n; i++, to += 32, panel += stride) {
    const first = v128.load(panel);
    const second = v128.load(panel, 16);
    v128.store(to, lowBf16(first));
    v128.store(to, highBf16(first), 16);
    v128.store(to + halfBytes, lowBf16(second));
    v128.store(to + halfBytes, highBf16(second), 16);
  }
}

/** Byte `shift` / 8 of each lane: d * (byte - zero) + m */
@inline
function valueAt(bytes: v128, shift: i32, zero: v128, d: v128, m: v128): v128 {
  const quants = i32x4.sub(v128.and(i32x4.shr_u(bytes, shift), i32x4.splat(255)), zero);
  return f32x4.add(f32x4.mul(d, f32x4.convert_i32x4_s(quants)), m);
}

/** Four inputs of four outputs, one byte each. */
@inline
function storeFour(to: usize, bytes: v128, zero: v128, d: v128, m: v128): void {
  v128.store(to, valueAt(bytes, 0, zero, d, m));
  v128.store(to, valueAt(bytes, 8, zero, d, m), 32);
  v128.store(to, valueAt(bytes, 16, zero, d, m), 64);
  v128.store(to, valueAt(bytes, 24, zero, d, m), 96);
}

function decodeBlocks(dtype: i32, to: usize, panel: usize, n: i32, halfBytes: usize): void {
  const zero = i32x4.splat(zeroOf(dtype));
  const isPaired = hasNibbles(dtype);
  const levels = levelBytes(dtype);
  const wordsBytes = <usize>nWords(dtype) * WORD_BYTES;
  const fields = fieldsBytes(dtype);
  // Of a block that one byte of each word is from: 4 inputs of 8 outputs in f32 for each word.
  const partBytes = wordsBytes * 2;
  const end = to + ((<usize>n) << 5);
  while (to < end) {
    for (let four: usize = 0; four < 4; four++) {
      const d = loadHalves(panel + 8 * four);
      const m = hasMinimum(dtype) ? loadHalves(panel + FIELD_BYTES + 8 * four) : f32x4.splat(0);
      const words = panel + fields + 16 * four;
      let at = to + (four >> 1) * halfBytes + 16 * (four & 1);
      for (let word: usize = 0; word < wordsBytes; word += WORD_BYTES, at += 128) {
        const bytes = v128.load(words + word);
        if (isPaired) {
          storeFour(at, nibbleBytes(dtype, bytes, levels), zero, d, m);
          storeFour(at + partBytes, nibbleBytes(dtype, i8x16.shr_u(bytes, 4), levels), zero, d, m);
        } else {
          storeFour(at, bytes, zero, d, m);
        }
      }
    }
    panel += fields + wordsBytes;
    to += isPaired ? 2 * partBytes : partBytes;
  }
}

/**
 * Writes the panel's two halves of n inputs each to `to`.
 * @param stride - of plain types the bytes from one input to the next
 */
export function decodePanel(dtype: i32, to: usize, panel: usize, stride: usize, n: i32): void {
  const halfBytes = (<usize>n) << 5;
  switch (dtype) {
    case DTYPE_F32:
      decodeF32(to, panel, stride, n, halfBytes);
      return;
    case DTYPE_F16:
      decodeF16(to, panel, stride, n, halfBytes);
      return;
    case DTYPE_BF16:
      decodeBf16(to, panel, stride, n, halfBytes);
      return;
    default:
      decodeBlocks(dtype, to, panel, n, halfBytes);
  }
}
