// layerNorm, groupNorm, l2NormHeads and addBonus: whatever sums over a row or a head. Sums of norms are f64, so that a
// large mean costs no digits. A part is a range of heads; of layerNorm a range of columns, for which each part sums over the
// whole row anew, which costs less than waiting for one another.
// Contracts: ops/ops.ts.

import { RECORD_HEADS, RECORD_SCALAR } from "../abi.ts";
import { addressOf, firstColumn, nRowsOf, operand, rowBytesOf, widthOf } from "./record.ts";
import { loadTail, partStart, storeTail, sumLanes } from "./simd.ts";

@inline
function upperHalf(v: v128): v128 {
  return f64x2.promote_low_f32x4(i8x16.shuffle(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
}

/** Both lanes of a f64x2, added. */
@inline
function sumHalves(v: v128): f64 {
  return f64x2.extract_lane(v, 0) + f64x2.extract_lane(v, 1);
}

/**
 * out = (x - mean) / sqrt(variance + eps) * weight + bias, the sums over n elements, of which [first, end) are written;
 * `first` is a multiple of 4, `end` too or n. out may be x.
 */
@inline
function normalize(
  out: usize,
  x: usize,
  weight: usize,
  bias: usize,
  n: i32,
  first: i32,
  end: i32,
  eps: f32,
): void {
  const nWhole = n & ~3;
  const endWhole = x + (<usize>nWhole << 2);
  let sums = f64x2.splat(0);
  for (let p = x; p < endWhole; p += 16) {
    const v = v128.load(p);
    sums = f64x2.add(sums, f64x2.add(f64x2.promote_low_f32x4(v), upperHalf(v)));
  }
  let sum = sumHalves(sums);
  for (let i = nWhole; i < n; i++) sum += <f64>load<f32>(x + (<usize>i << 2));
  const mean = sum / <f64>n;

  const means = f64x2.splat(mean);
  let squares = f64x2.splat(0);
  for (let p = x; p < endWhole; p += 16) {
    const v = v128.load(p);
    const low = f64x2.sub(f64x2.promote_low_f32x4(v), means);
    const high = f64x2.sub(upperHalf(v), means);
    squares = f64x2.add(squares, f64x2.add(f64x2.mul(low, low), f64x2.mul(high, high)));
  }
  let square = sumHalves(squares);
  for (let i = nWhole; i < n; i++) {
    const difference = <f64>load<f32>(x + (<usize>i << 2)) - mean;
    square += difference * difference;
  }
  const scale = 1.0 / Math.sqrt(square / <f64>n + <f64>eps);

  const scales = f64x2.splat(scale);
  const endVectors = min(end, nWhole);
  for (let i = first; i < endVectors; i += 4) {
    const at = <usize>i << 2;
    const v = v128.load(x + at);
    const low = f64x2.mul(f64x2.sub(f64x2.promote_low_f32x4(v), means), scales);
    const high = f64x2.mul(f64x2.sub(upperHalf(v), means), scales);
    const unit = i32x4.shuffle(f32x4.demote_f64x2_zero(low), f32x4.demote_f64x2_zero(high), 0, 1, 4, 5);
    v128.store(out + at, f32x4.add(f32x4.mul(unit, v128.load(weight + at)), v128.load(bias + at)));
  }
  for (let i = endVectors; i < end; i++) {
    const at = <usize>i << 2;
    const unit = <f32>((<f64>load<f32>(x + at) - mean) * scale);
    store<f32>(out + at, unit * load<f32>(weight + at) + load<f32>(bias + at));
  }
}

export function layerNorm(context: usize, record: usize, part: i32, nParts: i32): void {
  const out = operand(context, record, 0);
  const x = operand(context, record, 1);
  const weight = addressOf(operand(context, record, 2));
  const bias = addressOf(operand(context, record, 3));
  const eps = load<f32>(record, RECORD_SCALAR);
  const nRows = nRowsOf(context, record);
  const width = widthOf(x);
  // In place, a part would overwrite what another has yet to sum over: then it is a range of rows.
  const isInPlace = addressOf(out) == addressOf(x);
  const firstRow = isInPlace ? partStart(nRows, 1, part, nParts) : 0;
  const endRow = isInPlace ? partStart(nRows, 1, part + 1, nParts) : nRows;
  const first = isInPlace ? 0 : firstColumn(record, width, part, nParts);
  const end = isInPlace ? width : firstColumn(record, width, part + 1, nParts);
  if (first == end) return;
  for (let row = firstRow; row < endRow; row++) {
    const to = addressOf(out) + <usize>row * rowBytesOf(out);
    normalize(to, addressOf(x) + <usize>row * rowBytesOf(x), weight, bias, width, first, end, eps);
  }
}

export function groupNorm(context: usize, record: usize, part: i32, nParts: i32): void {
  const out = operand(context, record, 0);
  const x = operand(context, record, 1);
  const weight = addressOf(operand(context, record, 2));
  const bias = addressOf(operand(context, record, 3));
  const eps = load<f32>(record, RECORD_SCALAR);
  const nHeads = load<i32>(record, RECORD_HEADS);
  const headSize = widthOf(x) / nHeads;
  const firstHead = firstColumn(record, headSize * nHeads, part, nParts) / headSize;
  const endHead = firstColumn(record, headSize * nHeads, part + 1, nParts) / headSize;
  const nRows = nRowsOf(context, record);
  for (let row = 0; row < nRows; row++) {
    const to = addressOf(out) + <usize>row * rowBytesOf(out);
    const from = addressOf(x) + <usize>row * rowBytesOf(x);
    for (let head = firstHead; head < endHead; head++) {
      const at = <usize>(head * headSize) << 2;
      normalize(to + at, from + at, weight + at, bias + at, headSize, 0, headSize, eps);
    }
  }
}

/** out = u / max(|u|, eps), u = x * scale, over n elements; out may be x. */
function normalizeLength(out: usize, x: usize, scale: usize, n: i32, eps: f32): void {
  const nWhole = n & ~3;
  let squares = f32x4.splat(0);
  for (let i = 0; i < nWhole; i += 4) {
    const at = <usize>i << 2;
    const u = f32x4.mul(v128.load(x + at), v128.load(scale + at));
    squares = f32x4.add(squares, f32x4.mul(u, u));
  }
  const tail = <usize>nWhole << 2;
  const nTail = n - nWhole;
  if (nTail > 0) {
    const u = f32x4.mul(loadTail(x + tail, nTail), loadTail(scale + tail, nTail));
    squares = f32x4.add(squares, f32x4.mul(u, u));
  }
  const length = f32x4.splat(max(sqrt(f32x4.extract_lane(sumLanes(squares), 0)), eps));
  for (let i = 0; i < nWhole; i += 4) {
    const at = <usize>i << 2;
    v128.store(out + at, f32x4.div(f32x4.mul(v128.load(x + at), v128.load(scale + at)), length));
  }
  if (nTail > 0) {
    const u = f32x4.mul(loadTail(x + tail, nTail), loadTail(scale + tail, nTail));
    storeTail(out + tail, f32x4.div(u, length), nTail);
  }
}

export function l2NormHeads(context: usize, record: usize, part: i32, nParts: i32): void {
  const out = operand(context, record, 0);
  const x = operand(context, record, 1);
  const scale = addressOf(operand(context, record, 2));
  const eps = load<f32>(record, RECORD_SCALAR);
  const nHeads = load<i32>(record, RECORD_HEADS);
  const headSize = widthOf(x) / nHeads;
  const firstHead = firstColumn(record, headSize * nHeads, part, nParts) / headSize;
  const endHead = firstColumn(record, headSize * nHeads, part + 1, nParts) / headSize;
  const nRows = nRowsOf(context, record);
  for (let row = 0; row < nRows; row++) {
    const to = addressOf(out) + <usize>row * rowBytesOf(out);
    const from = addressOf(x) + <usize>row * rowBytesOf(x);
    for (let head = firstHead; head < endHead; head++) {
      const at = <usize>(head * headSize) << 2;
      normalizeLength(to + at, from + at, scale + at, headSize, eps);
    }
  }
}

/** y += (sum of r * k * rK) * v over n elements. */
function addBonusSpan(y: usize, r: usize, k: usize, v: usize, rK: usize, n: i32): void {
  const nWhole = n & ~3;
  const tail = <usize>nWhole << 2;
  const nTail = n - nWhole;
  let sums = f32x4.splat(0);
  for (let at: usize = 0; at < tail; at += 16) {
    const rk = f32x4.mul(v128.load(r + at), v128.load(k + at));
    sums = f32x4.add(sums, f32x4.mul(rk, v128.load(rK + at)));
  }
  if (nTail > 0) {
    const rk = f32x4.mul(loadTail(r + tail, nTail), loadTail(k + tail, nTail));
    sums = f32x4.add(sums, f32x4.mul(rk, loadTail(rK + tail, nTail)));
  }
  const bonus = f32x4.splat(f32x4.extract_lane(sumLanes(sums), 0));
  for (let at: usize = 0; at < tail; at += 16) {
    v128.store(y + at, f32x4.add(v128.load(y + at), f32x4.mul(bonus, v128.load(v + at))));
  }
  if (nTail > 0) {
    const added = f32x4.mul(bonus, loadTail(v + tail, nTail));
    storeTail(y + tail, f32x4.add(loadTail(y + tail, nTail), added), nTail);
  }
}

export function addBonus(context: usize, record: usize, part: i32, nParts: i32): void {
  const y = operand(context, record, 0);
  const r = operand(context, record, 1);
  const k = operand(context, record, 2);
  const v = operand(context, record, 3);
  const rK = addressOf(operand(context, record, 4));
  const nHeads = load<i32>(record, RECORD_HEADS);
  const headSize = widthOf(y) / nHeads;
  const firstHead = firstColumn(record, headSize * nHeads, part, nParts) / headSize;
  const endHead = firstColumn(record, headSize * nHeads, part + 1, nParts) / headSize;
  const nRows = nRowsOf(context, record);
  for (let row = 0; row < nRows; row++) {
    for (let head = firstHead; head < endHead; head++) {
      const at = <usize>(head * headSize) << 2;
      addBonusSpan(
        addressOf(y) + <usize>row * rowBytesOf(y) + at,
        addressOf(r) + <usize>row * rowBytesOf(r) + at,
        addressOf(k) + <usize>row * rowBytesOf(k) + at,
        addressOf(v) + <usize>row * rowBytesOf(v) + at,
        rK + at,
        headSize,
      );
    }
  }
}
