// Products of panels with f32 activations. Every output is summed in one lane, over the inputs in increasing order, each
// term a product rounded and then added, whatever the number of rows. One row of plain weights is multiplied from the
// stored bytes; for more rows, and for blocks, a panel is decoded once for all rows.
//
// f16 becomes f32 without its exponent being corrected, 2^-112 times its value, which takes a shift and a mask. Half of
// that is made up for in the inputs, times 2^56, and half in the result, so that nothing usual leaves the range of f32.

import { DTYPE_BF16, DTYPE_F16, DTYPE_F32, PANEL_ROWS } from "../abi.ts";
import { scaledHalves, SCALED_HALVES_MASK } from "./half.ts";
import { decodePanel, F16_RESULT_SCALE } from "./panel-decode.ts";
import { kept } from "./simd.ts";

export const F16_INPUT_SCALE: f32 = 72057594037927936;

@inline
export function addProduct(sum: v128, a: v128, b: v128): v128 {
  return f32x4.add(sum, f32x4.mul(a, b));
}

/** Stores 16 outputs of which the lanes hold those with even and with odd numbers. */
@inline
function storePairs(out: usize, even0: v128, odd0: v128, even1: v128, odd1: v128): void {
  v128.store(out, i32x4.shuffle(even0, odd0, 0, 4, 1, 5));
  v128.store(out, i32x4.shuffle(even0, odd0, 2, 6, 3, 7), 16);
  v128.store(out, i32x4.shuffle(even1, odd1, 0, 4, 1, 5), 32);
  v128.store(out, i32x4.shuffle(even1, odd1, 2, 6, 3, 7), 48);
}

/** A panel of f32 times one row of n inputs. */
function vectorF32(out: usize, panel: usize, x: usize, n: i32): void {
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  let sum2 = sum0;
  let sum3 = sum0;
  for (const end = x + ((<usize>n) << 2); x < end; x += 4, panel += 64) {
    const input = v128.load32_splat(x);
    sum0 = addProduct(sum0, v128.load(panel), input);
    sum1 = addProduct(sum1, v128.load(panel, 16), input);
    sum2 = addProduct(sum2, v128.load(panel, 32), input);
    sum3 = addProduct(sum3, v128.load(panel, 48), input);
  }
  v128.store(out, sum0);
  v128.store(out, sum1, 16);
  v128.store(out, sum2, 32);
  v128.store(out, sum3, 48);
}

/** A vector holds eight numbers of 16 bits, in each lane that of an even output below that of the odd one behind it. */
@inline
function evenF16(halves: v128, mask: v128): v128 {
  return scaledHalves(i32x4.shr_s(i32x4.shl(halves, 16), 3), mask);
}

@inline
function oddF16(halves: v128, mask: v128): v128 {
  return scaledHalves(i32x4.shr_s(halves, 3), mask);
}

/** A panel of f16 times one row of n inputs, scaled by F16_INPUT_SCALE. */
function vectorF16(out: usize, panel: usize, x: usize, n: i32): void {
  const mask = kept(i32x4.splat(SCALED_HALVES_MASK), out);
  let even0 = f32x4.splat(0);
  let odd0 = even0;
  let even1 = even0;
  let odd1 = even0;
  for (const end = x + ((<usize>n) << 2); x < end; x += 4, panel += 32) {
    const input = v128.load32_splat(x);
    const first = v128.load(panel);
    const second = v128.load(panel, 16);
    even0 = addProduct(even0, evenF16(first, mask), input);
    odd0 = addProduct(odd0, oddF16(first, mask), input);
    even1 = addProduct(even1, evenF16(second, mask), input);
    odd1 = addProduct(odd1, oddF16(second, mask), input);
  }
  const scale = f32x4.splat(F16_RESULT_SCALE);
  storePairs(out, f32x4.mul(even0, scale), f32x4.mul(odd0, scale), f32x4.mul(even1, scale), f32x4.mul(odd1, scale));
}

/** A panel of bf16 times one row of n inputs. */
function vectorBf16(out: usize, panel: usize, x: usize, n: i32): void {
  const mask = kept(i32x4.splat(0xffff0000), out);
  let even0 = f32x4.splat(0);
  let odd0 = even0;
  let even1 = even0;
  let odd1 = even0;
  for (const end = x + ((<usize>n) << 2); x < end; x += 4, panel += 32) {
    const input = v128.load32_splat(x);
    const first = v128.load(panel);
    const second = v128.load(panel, 16);
    even0 = addProduct(even0, i32x4.shl(first, 16), input);
    odd0 = addProduct(odd0, v128.and(first, mask), input);
    even1 = addProduct(even1, i32x4.shl(second, 16), input);
    odd1 = addProduct(odd1, v128.and(second, mask), input);
  }
  storePairs(out, even0, odd0, even1, odd1);
}

/** Both halves of a decoded panel times one row, for `scale` times the sums. */
function vectorDecoded(out: usize, halves: usize, x: usize, n: i32, scale: f32): void {
  const halfBytes = (<usize>n) << 5;
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  let sum2 = sum0;
  let sum3 = sum0;
  for (const end = x + ((<usize>n) << 2); x < end; x += 4, halves += 32) {
    const input = v128.load32_splat(x);
    const second = halves + halfBytes;
    sum0 = addProduct(sum0, v128.load(halves), input);
    sum1 = addProduct(sum1, v128.load(halves, 16), input);
    sum2 = addProduct(sum2, v128.load(second), input);
    sum3 = addProduct(sum3, v128.load(second, 16), input);
  }
  const factor = f32x4.splat(scale);
  v128.store(out, f32x4.mul(sum0, factor));
  v128.store(out, f32x4.mul(sum1, factor), 16);
  v128.store(out, f32x4.mul(sum2, factor), 32);
  v128.store(out, f32x4.mul(sum3, factor), 48);
}

@inline
function storeEight(out: usize, a: v128, b: v128, scale: v128): void {
  v128.store(out, f32x4.mul(a, scale));
  v128.store(out, f32x4.mul(b, scale), 16);
}

/** Half a decoded panel times four rows: eight chains of additions, in registers that every engine has. */
function tileDecoded(out: usize, outStride: usize, half: usize, x: usize, xStride: usize, n: i32, scale: f32): void {
  let x1 = x + xStride;
  let x2 = x1 + xStride;
  let x3 = x2 + xStride;
  let sum0a = f32x4.splat(0);
  let sum0b = sum0a;
  let sum1a = sum0a;
  let sum1b = sum0a;
  let sum2a = sum0a;
  let sum2b = sum0a;
  let sum3a = sum0a;
  let sum3b = sum0a;
  for (const end = x + ((<usize>n) << 2); x < end; x += 4, x1 += 4, x2 += 4, x3 += 4, half += 32) {
    const a = v128.load(half);
    const b = v128.load(half, 16);
    const input0 = v128.load32_splat(x);
    sum0a = addProduct(sum0a, a, input0);
    sum0b = addProduct(sum0b, b, input0);
    const input1 = v128.load32_splat(x1);
    sum1a = addProduct(sum1a, a, input1);
    sum1b = addProduct(sum1b, b, input1);
    const input2 = v128.load32_splat(x2);
    sum2a = addProduct(sum2a, a, input2);
    sum2b = addProduct(sum2b, b, input2);
    const input3 = v128.load32_splat(x3);
    sum3a = addProduct(sum3a, a, input3);
    sum3b = addProduct(sum3b, b, input3);
  }
  const factor = f32x4.splat(scale);
  storeEight(out, sum0a, sum0b, factor);
  storeEight(out + outStride, sum1a, sum1b, factor);
  storeEight(out + 2 * outStride, sum2a, sum2b, factor);
  storeEight(out + 3 * outStride, sum3a, sum3b, factor);
}

/** @returns false if an input leaves the range of f32 */
function scaleInputs(to: usize, x: usize, n: i32): bool {
  let most: f32 = 0;
  for (let i = 0; i < n; i++) {
    const value = load<f32>(x + ((<usize>i) << 2)) * F16_INPUT_SCALE;
    most += value - value; // 0, or NaN for NaN and infinity
    store<f32>(to + ((<usize>i) << 2), value);
  }
  return most == 0;
}

/** @returns false if one row has no kernel of its own in that type, or has inputs that it cannot take */
function multiplyVector(
  dtype: i32,
  out: usize,
  panels: usize,
  panelBytes: usize,
  n: i32,
  x: usize,
  nIn: i32,
  scratch: usize,
  last: usize,
): bool {
  if (dtype == DTYPE_F16) {
    if (!scaleInputs(scratch, x, nIn)) return false;
    x = scratch;
  } else if (dtype != DTYPE_F32 && dtype != DTYPE_BF16) {
    return false;
  }
  for (let o = 0; o < n; o += PANEL_ROWS, panels += panelBytes, out += 4 * PANEL_ROWS) {
    const to = n - o < PANEL_ROWS ? last : out;
    if (dtype == DTYPE_F16) vectorF16(to, panels, x, nIn);
    else if (dtype == DTYPE_BF16) vectorBf16(to, panels, x, nIn);
    else vectorF32(to, panels, x, nIn);
    if (to != out) memory.copy(out, to, (<usize>(n - o)) << 2);
  }
  return true;
}

/** Bytes from one input to the next in a panel of a plain type. */
@inline
function inputBytes(dtype: i32): usize {
  return dtype == DTYPE_F32 ? 4 * PANEL_ROWS : 2 * PANEL_ROWS;
}

/**
 * n outputs of nRows rows.
 * @param scratch - room for a decoded panel
 * @param last - room for 16 outputs of four rows
 */
export function multiplyPanelsF32(
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
  if (nRows == 1 && multiplyVector(dtype, out, panels, panelBytes, n, x, nIn, scratch, last)) return;
  multiplyDecoded(
    dtype,
    out,
    outStride,
    panels,
    panelBytes,
    inputBytes(dtype),
    n,
    x,
    xStride,
    nRows,
    nIn,
    scratch,
    last,
  );
}

/**
 * As `multiplyPanelsF32`, decoding 16 outputs for all rows.
 * @param panels - the weights of the first 16 outputs and of the first input
 * @param panelBytes - from there to the next 16 outputs
 * @param stride - of plain types the bytes from one input to the next
 */
export function multiplyDecoded(
  dtype: i32,
  out: usize,
  outStride: usize,
  panels: usize,
  panelBytes: usize,
  stride: usize,
  n: i32,
  x: usize,
  xStride: usize,
  nRows: i32,
  nIn: i32,
  scratch: usize,
  last: usize,
): void {
  const scale: f32 = dtype == DTYPE_F16 ? F16_RESULT_SCALE : 1;
  const second = scratch + ((<usize>nIn) << 5);
  for (let o = 0; o < n; o += PANEL_ROWS, panels += panelBytes, out += 4 * PANEL_ROWS) {
    decodePanel(dtype, scratch, panels, stride, nIn);
    const isWhole = n - o >= PANEL_ROWS;
    const toStride = isWhole ? outStride : 4 * PANEL_ROWS;
    for (let row = 0; row < nRows;) {
      const rows = nRows - row < 4 ? 1 : 4;
      const from = x + <usize>row * xStride;
      const target = out + <usize>row * outStride;
      const to = isWhole ? target : last;
      if (rows == 4) {
        tileDecoded(to, toStride, scratch, from, xStride, nIn, scale);
        tileDecoded(to + 32, toStride, second, from, xStride, nIn, scale);
      } else {
        vectorDecoded(to, scratch, from, nIn, scale);
      }
      if (!isWhole) {
        for (let r = 0; r < rows; r++) {
          memory.copy(target + <usize>r * outStride, last + <usize>r * 4 * PANEL_ROWS, (<usize>(n - o)) << 2);
        }
      }
      row += rows;
    }
  }
}
