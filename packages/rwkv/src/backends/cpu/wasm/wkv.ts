// The recurrences of RWKV-4, of RWKV-5 and 6, and of RWKV-7, per run, in f32. A part is a range of heads (of channels
// for wkv4); within it all tokens of a run pass over one head, whose state stays in the nearest cache.
// Formulas and sources: ops/ops.ts.

import { RECORD_HEADS } from "../abi.ts";
import { exp } from "./functions.ts";
import {
  addressOf,
  firstColumn,
  firstRowOf,
  nRowsOfRun,
  nRunsOf,
  operand,
  rowBytesOf,
  runAt,
  slotOf,
  widthOf,
} from "./record.ts";
import { loadTail, storeTail, sumLanes, sumLanes4 } from "./simd.ts";

@inline
function loadLanes(p: usize, n: i32): v128 {
  return n >= 4 ? v128.load(p) : loadTail(p, n);
}

@inline
function storeLanes(p: usize, v: v128, n: i32): void {
  if (n >= 4) v128.store(p, v);
  else storeTail(p, v, n);
}

export function wkv4(context: usize, record: usize, part: i32, nParts: i32): void {
  const y = operand(context, record, 0);
  const aaState = addressOf(operand(context, record, 1));
  const bbState = addressOf(operand(context, record, 2));
  const ppState = addressOf(operand(context, record, 3));
  const kTensor = operand(context, record, 4);
  const vTensor = operand(context, record, 5);
  const decays = addressOf(operand(context, record, 6));
  const firsts = addressOf(operand(context, record, 7));
  const endColumn = firstColumn(record, widthOf(y), part + 1, nParts);
  const nRuns = nRunsOf(context);
  for (let i = 0; i < nRuns; i++) {
    const run = runAt(context, i);
    const slot = slotOf(run);
    const firstRow = firstRowOf(run);
    const end = firstRow + nRowsOfRun(run);
    for (let column = firstColumn(record, widthOf(y), part, nParts); column < endColumn; column += 4) {
      const at = <usize>column << 2;
      const n = endColumn - column;
      const decay = loadLanes(decays + at, n);
      const first = loadLanes(firsts + at, n);
      let aa = loadLanes(slot + aaState + at, n);
      let bb = loadLanes(slot + bbState + at, n);
      let pp = loadLanes(slot + ppState + at, n);
      for (let row = firstRow; row < end; row++) {
        const k = loadLanes(addressOf(kTensor) + <usize>row * rowBytesOf(kTensor) + at, n);
        const v = loadLanes(addressOf(vTensor) + <usize>row * rowBytesOf(vTensor) + at, n);

        const now = f32x4.add(first, k);
        let m = f32x4.max(pp, now);
        let old = exp(f32x4.sub(pp, m));
        let fresh = exp(f32x4.sub(now, m));
        const sum = f32x4.add(f32x4.mul(old, aa), f32x4.mul(fresh, v));
        const weight = f32x4.add(f32x4.mul(old, bb), fresh);
        storeLanes(addressOf(y) + <usize>row * rowBytesOf(y) + at, f32x4.div(sum, weight), n);

        const decayed = f32x4.add(pp, decay);
        m = f32x4.max(decayed, k);
        old = exp(f32x4.sub(decayed, m));
        fresh = exp(f32x4.sub(k, m));
        aa = f32x4.add(f32x4.mul(old, aa), f32x4.mul(fresh, v));
        bb = f32x4.add(f32x4.mul(old, bb), fresh);
        pp = m;
      }
      storeLanes(slot + aaState + at, aa, n);
      storeLanes(slot + bbState + at, bb, n);
      storeLanes(slot + ppState + at, pp, n);
    }
  }
}

/** One token, one head: columns j of S four at a time, each summed over i in increasing order. */
function stepHead6(y: usize, state: usize, r: usize, k: usize, v: usize, decay: usize, first: usize, N: i32): void {
  const rowBytes = <usize>N << 2;
  let j = 0;
  for (; j + 16 <= N; j += 16) {
    const column = <usize>j << 2;
    const v0 = v128.load(v + column, 0);
    const v1 = v128.load(v + column, 16);
    const v2 = v128.load(v + column, 32);
    const v3 = v128.load(v + column, 48);
    let y0 = f32x4.splat(0);
    let y1 = y0;
    let y2 = y0;
    let y3 = y0;
    let s = state + column;
    for (let i: usize = 0; i < rowBytes; i += 4, s += rowBytes) {
      const ri = v128.load32_splat(r + i);
      const ki = v128.load32_splat(k + i);
      const wi = v128.load32_splat(decay + i);
      const ui = v128.load32_splat(first + i);
      const s0 = v128.load(s, 0);
      const s1 = v128.load(s, 16);
      const s2 = v128.load(s, 32);
      const s3 = v128.load(s, 48);
      const kv0 = f32x4.mul(ki, v0);
      const kv1 = f32x4.mul(ki, v1);
      const kv2 = f32x4.mul(ki, v2);
      const kv3 = f32x4.mul(ki, v3);
      y0 = f32x4.add(y0, f32x4.mul(ri, f32x4.add(f32x4.mul(ui, kv0), s0)));
      y1 = f32x4.add(y1, f32x4.mul(ri, f32x4.add(f32x4.mul(ui, kv1), s1)));
      y2 = f32x4.add(y2, f32x4.mul(ri, f32x4.add(f32x4.mul(ui, kv2), s2)));
      y3 = f32x4.add(y3, f32x4.mul(ri, f32x4.add(f32x4.mul(ui, kv3), s3)));
      v128.store(s, f32x4.add(f32x4.mul(wi, s0), kv0), 0);
      v128.store(s, f32x4.add(f32x4.mul(wi, s1), kv1), 16);
      v128.store(s, f32x4.add(f32x4.mul(wi, s2), kv2), 32);
      v128.store(s, f32x4.add(f32x4.mul(wi, s3), kv3), 48);
    }
    v128.store(y + column, y0, 0);
    v128.store(y + column, y1, 16);
    v128.store(y + column, y2, 32);
    v128.store(y + column, y3, 48);
  }
  for (; j < N; j += 4) {
    const column = <usize>j << 2;
    const n = N - j;
    const vj = loadLanes(v + column, n);
    let yj = f32x4.splat(0);
    let s = state + column;
    for (let i: usize = 0; i < rowBytes; i += 4, s += rowBytes) {
      const sij = loadLanes(s, n);
      const kv = f32x4.mul(v128.load32_splat(k + i), vj);
      const sum = f32x4.add(f32x4.mul(v128.load32_splat(first + i), kv), sij);
      yj = f32x4.add(yj, f32x4.mul(v128.load32_splat(r + i), sum));
      storeLanes(s, f32x4.add(f32x4.mul(v128.load32_splat(decay + i), sij), kv), n);
    }
    storeLanes(y + column, yj, n);
  }
}

export function wkv6(context: usize, record: usize, part: i32, nParts: i32): void {
  const y = operand(context, record, 0);
  const state = addressOf(operand(context, record, 1));
  const r = operand(context, record, 2);
  const k = operand(context, record, 3);
  const v = operand(context, record, 4);
  const decay = operand(context, record, 5);
  const first = addressOf(operand(context, record, 6));
  const nHeads = load<i32>(record, RECORD_HEADS);
  const N = widthOf(y) / nHeads;
  const firstHead = firstColumn(record, widthOf(y), part, nParts) / N;
  const endHead = firstColumn(record, widthOf(y), part + 1, nParts) / N;
  const nRuns = nRunsOf(context);
  for (let i = 0; i < nRuns; i++) {
    const run = runAt(context, i);
    const firstRow = firstRowOf(run);
    const end = firstRow + nRowsOfRun(run);
    for (let head = firstHead; head < endHead; head++) {
      const at = <usize>(head * N) << 2;
      const headState = slotOf(run) + state + at * <usize>N;
      for (let row = <usize>firstRow; row < <usize>end; row++) {
        stepHead6(
          addressOf(y) + row * rowBytesOf(y) + at,
          headState,
          addressOf(r) + row * rowBytesOf(r) + at,
          addressOf(k) + row * rowBytesOf(k) + at,
          addressOf(v) + row * rowBytesOf(v) + at,
          addressOf(decay) + row * rowBytesOf(decay) + at,
          first + at,
          N,
        );
      }
    }
  }
}

/**
 * One token, one head: rows i of S four at a time, so that the vectors are read once for four rows. Sums over j are in
 * four lanes, lane l taking j mod 4 = l in increasing order.
 */
function stepHead7(y: usize, state: usize, r: usize, w: usize, k: usize, v: usize, kk: usize, a: usize, N: i32): void {
  const rowBytes = <usize>N << 2;
  const tail = <usize>(N & ~3) << 2;
  const nTail = N & 3;
  let i = 0;
  for (; i + 4 <= N; i += 4) {
    const s0 = state + <usize>i * rowBytes;
    const s1 = s0 + rowBytes;
    const s2 = s1 + rowBytes;
    const s3 = s2 + rowBytes;
    let d0 = f32x4.splat(0);
    let d1 = d0;
    let d2 = d0;
    let d3 = d0;
    for (let j: usize = 0; j < tail; j += 16) {
      const kkj = v128.load(kk + j);
      d0 = f32x4.add(d0, f32x4.mul(v128.load(s0 + j), kkj));
      d1 = f32x4.add(d1, f32x4.mul(v128.load(s1 + j), kkj));
      d2 = f32x4.add(d2, f32x4.mul(v128.load(s2 + j), kkj));
      d3 = f32x4.add(d3, f32x4.mul(v128.load(s3 + j), kkj));
    }
    if (nTail > 0) {
      const kkj = loadTail(kk + tail, nTail);
      d0 = f32x4.add(d0, f32x4.mul(loadTail(s0 + tail, nTail), kkj));
      d1 = f32x4.add(d1, f32x4.mul(loadTail(s1 + tail, nTail), kkj));
      d2 = f32x4.add(d2, f32x4.mul(loadTail(s2 + tail, nTail), kkj));
      d3 = f32x4.add(d3, f32x4.mul(loadTail(s3 + tail, nTail), kkj));
    }
    // What the undecayed state holds under the removal key.
    const removed = sumLanes4(d0, d1, d2, d3);
    const removed0 = f32x4.splat(f32x4.extract_lane(removed, 0));
    const removed1 = f32x4.splat(f32x4.extract_lane(removed, 1));
    const removed2 = f32x4.splat(f32x4.extract_lane(removed, 2));
    const removed3 = f32x4.splat(f32x4.extract_lane(removed, 3));
    const at = <usize>i << 2;
    const v0 = v128.load32_splat(v + at, 0);
    const v1 = v128.load32_splat(v + at, 4);
    const v2 = v128.load32_splat(v + at, 8);
    const v3 = v128.load32_splat(v + at, 12);

    let y0 = f32x4.splat(0);
    let y1 = y0;
    let y2 = y0;
    let y3 = y0;
    for (let j: usize = 0; j < tail; j += 16) {
      const wj = v128.load(w + j);
      const kj = v128.load(k + j);
      const rj = v128.load(r + j);
      const kka = f32x4.mul(v128.load(kk + j), v128.load(a + j));
      const t0 = updated7(v128.load(s0 + j), wj, removed0, kka, v0, kj);
      v128.store(s0 + j, t0);
      y0 = f32x4.add(y0, f32x4.mul(t0, rj));
      const t1 = updated7(v128.load(s1 + j), wj, removed1, kka, v1, kj);
      v128.store(s1 + j, t1);
      y1 = f32x4.add(y1, f32x4.mul(t1, rj));
      const t2 = updated7(v128.load(s2 + j), wj, removed2, kka, v2, kj);
      v128.store(s2 + j, t2);
      y2 = f32x4.add(y2, f32x4.mul(t2, rj));
      const t3 = updated7(v128.load(s3 + j), wj, removed3, kka, v3, kj);
      v128.store(s3 + j, t3);
      y3 = f32x4.add(y3, f32x4.mul(t3, rj));
    }
    if (nTail > 0) {
      const wj = loadTail(w + tail, nTail);
      const kj = loadTail(k + tail, nTail);
      const rj = loadTail(r + tail, nTail);
      const kka = f32x4.mul(loadTail(kk + tail, nTail), loadTail(a + tail, nTail));
      const t0 = updated7(loadTail(s0 + tail, nTail), wj, removed0, kka, v0, kj);
      storeTail(s0 + tail, t0, nTail);
      y0 = f32x4.add(y0, f32x4.mul(t0, rj));
      const t1 = updated7(loadTail(s1 + tail, nTail), wj, removed1, kka, v1, kj);
      storeTail(s1 + tail, t1, nTail);
      y1 = f32x4.add(y1, f32x4.mul(t1, rj));
      const t2 = updated7(loadTail(s2 + tail, nTail), wj, removed2, kka, v2, kj);
      storeTail(s2 + tail, t2, nTail);
      y2 = f32x4.add(y2, f32x4.mul(t2, rj));
      const t3 = updated7(loadTail(s3 + tail, nTail), wj, removed3, kka, v3, kj);
      storeTail(s3 + tail, t3, nTail);
      y3 = f32x4.add(y3, f32x4.mul(t3, rj));
    }
    v128.store(y + at, sumLanes4(y0, y1, y2, y3));
  }
  for (; i < N; i++) {
    const at = <usize>i << 2;
    store<f32>(y + at, stepRow7(state + <usize>i * rowBytes, load<f32>(v + at), r, w, k, kk, a, N));
  }
}

/** S w - removed (kk a) + v k */
@inline
function updated7(s: v128, w: v128, removed: v128, kka: v128, v: v128, k: v128): v128 {
  return f32x4.add(f32x4.sub(f32x4.mul(s, w), f32x4.mul(removed, kka)), f32x4.mul(v, k));
}

/** One row of the state, for head sizes that are no multiple of 4. @returns its element of y */
function stepRow7(state: usize, value: f32, r: usize, w: usize, k: usize, kk: usize, a: usize, N: i32): f32 {
  let sums = f32x4.splat(0);
  for (let j = 0; j < N; j += 4) {
    const at = <usize>j << 2;
    sums = f32x4.add(sums, f32x4.mul(loadLanes(state + at, N - j), loadLanes(kk + at, N - j)));
  }
  const removed = f32x4.splat(f32x4.extract_lane(sumLanes(sums), 0));
  const v = f32x4.splat(value);
  sums = f32x4.splat(0);
  for (let j = 0; j < N; j += 4) {
    const at = <usize>j << 2;
    const n = N - j;
    const kka = f32x4.mul(loadLanes(kk + at, n), loadLanes(a + at, n));
    const t = updated7(loadLanes(state + at, n), loadLanes(w + at, n), removed, kka, v, loadLanes(k + at, n));
    storeLanes(state + at, t, n);
    sums = f32x4.add(sums, f32x4.mul(t, loadLanes(r + at, n)));
  }
  return f32x4.extract_lane(sumLanes(sums), 0);
}

export function wkv7(context: usize, record: usize, part: i32, nParts: i32): void {
  const y = operand(context, record, 0);
  const state = addressOf(operand(context, record, 1));
  const r = operand(context, record, 2);
  const w = operand(context, record, 3);
  const k = operand(context, record, 4);
  const v = operand(context, record, 5);
  const kk = operand(context, record, 6);
  const a = operand(context, record, 7);
  const nHeads = load<i32>(record, RECORD_HEADS);
  const N = widthOf(y) / nHeads;
  const firstHead = firstColumn(record, widthOf(y), part, nParts) / N;
  const endHead = firstColumn(record, widthOf(y), part + 1, nParts) / N;
  const nRuns = nRunsOf(context);
  for (let i = 0; i < nRuns; i++) {
    const run = runAt(context, i);
    const firstRow = firstRowOf(run);
    const end = firstRow + nRowsOfRun(run);
    for (let head = firstHead; head < endHead; head++) {
      const at = <usize>(head * N) << 2;
      const headState = slotOf(run) + state + at * <usize>N;
      for (let row = <usize>firstRow; row < <usize>end; row++) {
        stepHead7(
          addressOf(y) + row * rowBytesOf(y) + at,
          headState,
          addressOf(r) + row * rowBytesOf(r) + at,
          addressOf(w) + row * rowBytesOf(w) + at,
          addressOf(k) + row * rowBytesOf(k) + at,
          addressOf(v) + row * rowBytesOf(v) + at,
          addressOf(kk) + row * rowBytesOf(kk) + at,
          addressOf(a) + row * rowBytesOf(a) + at,
          N,
        );
      }
    }
  }
}
