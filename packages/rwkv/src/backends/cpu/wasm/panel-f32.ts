// Products of panels with f32 activations. Every output is summed in one lane, over the inputs in increasing order, each
// term a product rounded and then added, whatever the number of rows. One row of plain weights is multiplied from the
// stored bytes; for more rows, and for blocks, a panel is decoded once for all rows.
//
// f16 becomes f32 without its exponent being corrected, 2^-112 times its value, which takes a shift and a mask. Half of
// that is made up for in the inputs, times 2^56, and half in the result, so that nothing usual leaves the range of f32.
// Weights that are subnormal in f16 would be so in f32, so that their half is made up for in them, not in the inputs.

import { DTYPE_BF16, DTYPE_F16, DTYPE_F32, PANEL_ROWS } from "../abi.ts";
import { areNormal, EXPONENTS, raisedHalves, scaledHalves, SCALED_HALVES_MASK } from "./half.ts";
import { decodePanel, F16_RESULT_SCALE } from "./panel-decode.ts";
import { kept } from "./simd.ts";

export const F16_INPUT_SCALE: f32 = 72057594037927936;
/** Its inverse. */
export const F16_INPUT_UNSCALE: f32 = 1.3877787807814457e-17;

@inline
export function addProduct(sum: v128, a: v128, b: v128): v128 {
  return f32x4.add(sum, f32x4.mul(a, b));
}

/** Panels that one row is multiplied by in turn: memory is read faster along a few streams than along one. */
export const STREAMS: i32 = 4;
/** Inputs of a panel before the turn of the next. */
const TURN_INPUTS: usize = 16;

/** Puts 16 sums in order of which the lanes hold those with even and with odd numbers, times `scale`. */
@inline
function orderPairs(sums: usize, scale: v128): void {
  const even0 = f32x4.mul(v128.load(sums), scale);
  const odd0 = f32x4.mul(v128.load(sums, 16), scale);
  const even1 = f32x4.mul(v128.load(sums, 32), scale);
  const odd1 = f32x4.mul(v128.load(sums, 48), scale);
  v128.store(sums, i32x4.shuffle(even0, odd0, 0, 4, 1, 5));
  v128.store(sums, i32x4.shuffle(even0, odd0, 2, 6, 3, 7), 16);
  v128.store(sums, i32x4.shuffle(even1, odd1, 0, 4, 1, 5), 32);
  v128.store(sums, i32x4.shuffle(even1, odd1, 2, 6, 3, 7), 48);
}

/** A vector holds eight numbers of 16 bits, in each lane that of an even output below that of the odd one behind it. */
@inline
function evenHalves(dtype: i32, halves: v128, mask: v128): v128 {
  if (dtype == DTYPE_BF16) return i32x4.shl(halves, 16);
  return scaledHalves(i32x4.shr_s(i32x4.shl(halves, 16), 3), mask);
}

@inline
function oddHalves(dtype: i32, halves: v128, mask: v128): v128 {
  return dtype == DTYPE_BF16 ? v128.and(halves, mask) : scaledHalves(i32x4.shr_s(halves, 3), mask);
}

/**
 * Some panels, panelBytes apart, times one row of n inputs, a few of them in turn.
 * @param x - of f16 times F16_INPUT_SCALE
 */
@inline
function vector(dtype: i32, out: usize, panel: usize, panelBytes: usize, nPanels: i32, x: usize, n: i32): void {
  const mask = kept(i32x4.splat(dtype == DTYPE_BF16 ? 0xffff0000 : SCALED_HALVES_MASK), out);
  const exponents = kept(i16x8.splat(EXPONENTS), out);
  const outEnd = out + <usize>nPanels * 4 * PANEL_ROWS;
  memory.fill(out, 0, outEnd - out);
  for (const end = x + ((<usize>n) << 2); x < end; x += 4 * TURN_INPUTS) {
    const turnEnd = min(x + 4 * TURN_INPUTS, end);
    let weights = panel;
    for (let to = out; to < outEnd; to += 4 * PANEL_ROWS, weights += panelBytes) {
      let sum0 = v128.load(to);
      let sum1 = v128.load(to, 16);
      let sum2 = v128.load(to, 32);
      let sum3 = v128.load(to, 48);
      let at = weights;
      let from = x;
      while (true) {
        for (; from < turnEnd; from += 4, at += inputBytes(dtype)) {
          const input = v128.load32_splat(from);
          const first = v128.load(at);
          const second = v128.load(at, 16);
          if (dtype == DTYPE_F32) {
            sum0 = addProduct(sum0, first, input);
            sum1 = addProduct(sum1, second, input);
            sum2 = addProduct(sum2, v128.load(at, 32), input);
            sum3 = addProduct(sum3, v128.load(at, 48), input);
          } else {
            if (dtype == DTYPE_F16 && !areNormal(first, second, exponents)) break;
            sum0 = addProduct(sum0, evenHalves(dtype, first, mask), input);
            sum1 = addProduct(sum1, oddHalves(dtype, first, mask), input);
            sum2 = addProduct(sum2, evenHalves(dtype, second, mask), input);
            sum3 = addProduct(sum3, oddHalves(dtype, second, mask), input);
          }
        }
        if (dtype != DTYPE_F16 || from >= turnEnd) break;
        // Behind the inner loop, which would have too few registers with it.
        const input = f32x4.mul(v128.load32_splat(from), f32x4.splat(F16_INPUT_UNSCALE));
        const first = v128.load(at);
        const second = v128.load(at, 16);
        sum0 = addProduct(sum0, raisedHalves(evenHalves(dtype, first, mask)), input);
        sum1 = addProduct(sum1, raisedHalves(oddHalves(dtype, first, mask)), input);
        sum2 = addProduct(sum2, raisedHalves(evenHalves(dtype, second, mask)), input);
        sum3 = addProduct(sum3, raisedHalves(oddHalves(dtype, second, mask)), input);
        from += 4;
        at += inputBytes(dtype);
      }
      v128.store(to, sum0);
      v128.store(to, sum1, 16);
      v128.store(to, sum2, 32);
      v128.store(to, sum3, 48);
    }
    panel += TURN_INPUTS * inputBytes(dtype);
  }
  if (dtype == DTYPE_F32) return;
  const scale = f32x4.splat(dtype == DTYPE_F16 ? F16_RESULT_SCALE : 1);
  for (; out < outEnd; out += 4 * PANEL_ROWS) orderPairs(out, scale);
}

// One function for each type, so that an engine optimises each on its own.

function vectorF32(out: usize, panel: usize, panelBytes: usize, nPanels: i32, x: usize, n: i32): void {
  vector(DTYPE_F32, out, panel, panelBytes, nPanels, x, n);
}

function vectorF16(out: usize, panel: usize, panelBytes: usize, nPanels: i32, x: usize, n: i32): void {
  vector(DTYPE_F16, out, panel, panelBytes, nPanels, x, n);
}

function vectorBf16(out: usize, panel: usize, panelBytes: usize, nPanels: i32, x: usize, n: i32): void {
  vector(DTYPE_BF16, out, panel, panelBytes, nPanels, x, n);
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
  for (let o = 0; o < n;) {
    const nPanels = n - o >= STREAMS * PANEL_ROWS ? STREAMS : 1;
    const to = n - o < PANEL_ROWS ? last : out;
    if (dtype == DTYPE_F16) vectorF16(to, panels, panelBytes, nPanels, x, nIn);
    else if (dtype == DTYPE_BF16) vectorBf16(to, panels, panelBytes, nPanels, x, nIn);
    else vectorF32(to, panels, panelBytes, nPanels, x, nIn);
    if (to != out) memory.copy(out, to, (<usize>(n - o)) << 2);
    o += nPanels * PANEL_ROWS;
    panels += <usize>nPanels * panelBytes;
    out += <usize>nPanels * 4 * PANEL_ROWS;
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
