// Products of a matrix in columns with f32 activations: over the inputs that are not zero in increasing order, each term a
// product rounded and then added. A term of zero changes no such sum, so the bits are those of panel-f32.ts, and f16 is
// scaled as there.
//
// List of a row: header (columns.ts), then for each 32 inputs that are not all zero
//
//   | u32 n | u32 fields of the block | 8 unused | n x (u32 weights of an input, f32 input) |

import { DTYPE_BF16, DTYPE_F16, DTYPE_F32, DTYPE_NF4, DTYPE_Q4, DTYPE_Q4_0, DTYPE_Q4_1, DTYPE_Q8, DTYPE_Q8_0 } from "../abi.ts";
import {
  blockFields,
  columnFieldBytes,
  inputAt,
  inputBytes,
  LIST_END,
  LIST_HEADER_BYTES,
  LIST_IS_SCALED,
} from "./columns.ts";
import { loadHalves, scaledHalves } from "./half.ts";
import { hasMinimum, hasNibbles, nibbleBytes, zeroOf } from "./panel-blocks.ts";
import { F16_RESULT_SCALE } from "./panel-decode.ts";
import { addProduct, F16_INPUT_SCALE } from "./panel-f32.ts";

const RECORD_INPUTS: i32 = 32;
const FIELDS: usize = 4;
const RECORD_HEADER_BYTES: usize = 16;

/** @returns room that the list of a row takes at most */
export function listBytes(nIn: i32): usize {
  const nRecords = <usize>((nIn + RECORD_INPUTS - 1) / RECORD_INPUTS);
  return LIST_HEADER_BYTES + nRecords * RECORD_HEADER_BYTES + 8 * <usize>nIn;
}

/** Whether inputs for f16 stay within the range of f32 when scaled; those that are no numbers do. */
function canScale(x: usize, nIn: i32): bool {
  for (const end = x + ((<usize>nIn) << 2); x < end; x += 4) {
    const value = load<f32>(x);
    if (value - value == 0 && abs<f32>(value * F16_INPUT_SCALE) == f32.POSITIVE_INFINITY) return false;
  }
  return true;
}

/** Lists the inputs of the row `x` that are not zero. @returns how many are */
export function listInputs(dtype: i32, list: usize, w: usize, nPadded: i32, x: usize, nIn: i32): i32 {
  const stride = inputBytes(dtype, nPadded);
  const isScaled = dtype == DTYPE_F16 && canScale(x, nIn);
  const scale = isScaled ? F16_INPUT_SCALE : <f32>1;
  let nZeros = nIn;
  let record = list + LIST_HEADER_BYTES;
  for (let k = 0; k < nIn; k += RECORD_INPUTS) {
    let at = inputAt(dtype, w, nPadded, k);
    let entry = record + RECORD_HEADER_BYTES;
    for (const end = x + 4 * <usize>min(RECORD_INPUTS, nIn - k); x < end; x += 4, at += stride) {
      const value = load<f32>(x);
      if (value == 0) continue;
      store<usize>(entry, at);
      store<f32>(entry, value * scale, 4);
      entry += 8;
    }
    const n = (entry - record - RECORD_HEADER_BYTES) >> 3;
    if (n == 0) continue;
    nZeros -= <i32>n;
    store<usize>(record, n);
    store<usize>(record, blockFields(dtype, w, nPadded, k), FIELDS);
    record = entry;
  }
  store<usize>(list, record, LIST_END);
  store<u32>(list, isScaled ? 1 : 0, LIST_IS_SCALED);
  return nZeros;
}

/** Four weights of a plain type, given the first. f16 lacks its scale, or half of it if the inputs are not scaled. */
@inline
function plainWeights(dtype: i32, isScaled: bool, p: usize): v128 {
  if (dtype == DTYPE_F32) return v128.load(p);
  if (dtype == DTYPE_BF16) return i32x4.shl(v128.load16x4_u(p), 16);
  const halves = scaledHalves(i32x4.shl(v128.load16x4_s(p), 13));
  return isScaled ? halves : f32x4.mul(halves, f32x4.splat(F16_RESULT_SCALE));
}

/** Adds a list to outputs of a plain type, as addBlocks. */
@inline
function addPlain(dtype: i32, isScaled: bool, totals: usize, list: usize, first: i32, n: i32): void {
  const shift: usize = dtype == DTYPE_F32 ? 2 : 1;
  const listEnd = load<usize>(list, LIST_END);
  memory.fill(totals, 0, (<usize>n) << 2);
  for (let record = list + LIST_HEADER_BYTES; record < listEnd; ) {
    const entries = record + RECORD_HEADER_BYTES;
    const end = entries + 8 * load<usize>(record);
    for (let o: usize = 0; o < <usize>n; o += 16) {
      const to = totals + 4 * o;
      const at = (<usize>first + o) << shift;
      let sum0 = v128.load(to);
      let sum1 = v128.load(to, 16);
      let sum2 = v128.load(to, 32);
      let sum3 = v128.load(to, 48);
      for (let entry = entries; entry < end; entry += 8) {
        const weights = load<usize>(entry) + at;
        const input = v128.load32_splat(entry, 4);
        sum0 = addProduct(sum0, plainWeights(dtype, isScaled, weights), input);
        sum1 = addProduct(sum1, plainWeights(dtype, isScaled, weights + (4 << shift)), input);
        sum2 = addProduct(sum2, plainWeights(dtype, isScaled, weights + (8 << shift)), input);
        sum3 = addProduct(sum3, plainWeights(dtype, isScaled, weights + (12 << shift)), input);
      }
      v128.store(to, sum0);
      v128.store(to, sum1, 16);
      v128.store(to, sum2, 32);
      v128.store(to, sum3, 48);
    }
    record = end;
  }
  if (dtype != DTYPE_F16) return;
  const scale = f32x4.splat(F16_RESULT_SCALE);
  for (const end = totals + ((<usize>n) << 2); totals < end; totals += 16) {
    v128.store(totals, f32x4.mul(v128.load(totals), scale));
  }
}

/** d * (byte - zero) + m of four bytes, each in a lane. */
@inline
function weightsOf(dtype: i32, quants: v128, zero: v128, d: v128, m: v128): v128 {
  const product = f32x4.mul(d, f32x4.convert_i32x4_s(i32x4.sub(quants, zero)));
  return hasMinimum(dtype) ? f32x4.add(product, m) : product;
}

@inline
function minimums(dtype: i32, fields: usize, fieldBytes: usize): v128 {
  return hasMinimum(dtype) ? loadHalves(fields + fieldBytes) : f32x4.splat(0);
}

/** Adds the inputs [entries, end) to 16 outputs. @param shift - 4 for those of the high nibbles at `at` */
@inline
function addSixteen(
  dtype: i32,
  shift: i32,
  to: usize,
  entries: usize,
  end: usize,
  at: usize,
  fields: usize,
  fieldBytes: usize,
): void {
  const zero = i32x4.splat(zeroOf(dtype));
  const d0 = loadHalves(fields);
  const d1 = loadHalves(fields + 8);
  const d2 = loadHalves(fields + 16);
  const d3 = loadHalves(fields + 24);
  const m0 = minimums(dtype, fields, fieldBytes);
  const m1 = minimums(dtype, fields + 8, fieldBytes);
  const m2 = minimums(dtype, fields + 16, fieldBytes);
  const m3 = minimums(dtype, fields + 24, fieldBytes);
  let sum0 = v128.load(to);
  let sum1 = v128.load(to, 16);
  let sum2 = v128.load(to, 32);
  let sum3 = v128.load(to, 48);
  for (let entry = entries; entry < end; entry += 8) {
    const stored = v128.load(load<usize>(entry) + at);
    const bytes = hasNibbles(dtype) ? nibbleBytes(dtype, i8x16.shr_u(stored, shift)) : stored;
    const input = v128.load32_splat(entry, 4);
    const low = i16x8.extend_low_i8x16_u(bytes);
    const high = i16x8.extend_high_i8x16_u(bytes);
    sum0 = addProduct(sum0, weightsOf(dtype, i32x4.extend_low_i16x8_u(low), zero, d0, m0), input);
    sum1 = addProduct(sum1, weightsOf(dtype, i32x4.extend_high_i16x8_u(low), zero, d1, m1), input);
    sum2 = addProduct(sum2, weightsOf(dtype, i32x4.extend_low_i16x8_u(high), zero, d2, m2), input);
    sum3 = addProduct(sum3, weightsOf(dtype, i32x4.extend_high_i16x8_u(high), zero, d3, m3), input);
  }
  v128.store(to, sum0);
  v128.store(to, sum1, 16);
  v128.store(to, sum2, 32);
  v128.store(to, sum3, 48);
}

/**
 * Adds a list to outputs.
 * @param totals - of outputs [first, first + n), whole segments
 */
@inline
function addBlocks(dtype: i32, totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  const fieldBytes = columnFieldBytes(nPadded);
  const listEnd = load<usize>(list, LIST_END);
  memory.fill(totals, 0, (<usize>n) << 2);
  for (let record = list + LIST_HEADER_BYTES; record < listEnd; ) {
    const entries = record + RECORD_HEADER_BYTES;
    const end = entries + 8 * load<usize>(record);
    const fields = load<usize>(record, FIELDS) + ((<usize>first) << 1);
    for (let o: usize = 0; o < <usize>n; o += 16) {
      let at = <usize>first + o;
      let shift = 0;
      if (hasNibbles(dtype)) {
        // Outputs 32 to 63 of a segment are the high nibbles of its 32 bytes.
        const within = o & 63;
        at = ((at - within) >> 1) + (within & 31);
        shift = within < 32 ? 0 : 4;
      }
      addSixteen(dtype, shift, totals + 4 * o, entries, end, at, fields + 2 * o, fieldBytes);
    }
    record = end;
  }
}

// One function for each type, so that an engine optimises each on its own.

function addF16(totals: usize, list: usize, first: i32, n: i32): void {
  addPlain(DTYPE_F16, true, totals, list, first, n);
}

function addUnscaledF16(totals: usize, list: usize, first: i32, n: i32): void {
  addPlain(DTYPE_F16, false, totals, list, first, n);
}

function addBf16(totals: usize, list: usize, first: i32, n: i32): void {
  addPlain(DTYPE_BF16, true, totals, list, first, n);
}

function addF32(totals: usize, list: usize, first: i32, n: i32): void {
  addPlain(DTYPE_F32, true, totals, list, first, n);
}

function addQ8_0(totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  addBlocks(DTYPE_Q8_0, totals, list, first, n, nPadded);
}

function addQ8(totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  addBlocks(DTYPE_Q8, totals, list, first, n, nPadded);
}

function addQ4_0(totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  addBlocks(DTYPE_Q4_0, totals, list, first, n, nPadded);
}

function addQ4_1(totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  addBlocks(DTYPE_Q4_1, totals, list, first, n, nPadded);
}

function addQ4(totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  addBlocks(DTYPE_Q4, totals, list, first, n, nPadded);
}

function addNf4(totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  addBlocks(DTYPE_NF4, totals, list, first, n, nPadded);
}

/** Sums of outputs [first, first + n), whole segments, over a list of inputs. */
export function sumInputs(dtype: i32, totals: usize, list: usize, first: i32, n: i32, nPadded: i32): void {
  switch (dtype) {
    case DTYPE_F16:
      if (load<u32>(list, LIST_IS_SCALED)) addF16(totals, list, first, n);
      else addUnscaledF16(totals, list, first, n);
      break;
    case DTYPE_BF16:
      addBf16(totals, list, first, n);
      break;
    case DTYPE_F32:
      addF32(totals, list, first, n);
      break;
    case DTYPE_Q8_0:
      addQ8_0(totals, list, first, n, nPadded);
      break;
    case DTYPE_Q8:
      addQ8(totals, list, first, n, nPadded);
      break;
    case DTYPE_Q4_0:
      addQ4_0(totals, list, first, n, nPadded);
      break;
    case DTYPE_Q4_1:
      addQ4_1(totals, list, first, n, nPadded);
      break;
    case DTYPE_Q4:
      addQ4(totals, list, first, n, nPadded);
      break;
    default:
      addNf4(totals, list, first, n, nPadded);
  }
}
