// wkv7 for heads of a multiple of four, which leaves no vector cut short. Rows of S are independent of each other but for
// sums, so that the backward runs four of them through a whole chunk, forward and back; a vector holds columns.

import { sumLanes4 } from "../../../../rwkv/src/backends/cpu/wasm/simd.ts";
import { at, fma, fnma, isAdded, setOrAdd, splat } from "./simd.ts";

@inline const CHUNK: i32 = 16;

// Offsets in `room`, for heads of up to 128 elements: sums of a chunk's rows over rows of S, each of CHUNK * 128 floats.
@inline const SUM_BYTES: usize = 16 * 128 * 4;
@inline const DR: usize = 0;
@inline const DW: usize = SUM_BYTES;
@inline const DK: usize = 2 * SUM_BYTES;
@inline const DB: usize = 3 * SUM_BYTES;
@inline const REMOVAL: usize = 4 * SUM_BYTES;
/** kk * a. */
@inline const RATES: usize = 5 * SUM_BYTES;
/** sa of the four rows, for each row of the chunk. */
@inline const REMOVED: usize = 6 * SUM_BYTES;
/** The four rows before each row of the chunk, and after the last. */
@inline const HISTORY: usize = REMOVED + 16 * 4 * 4;
/** The gradient of S, [N, N]. */
@inline const GRADIENT: usize = HISTORY + 17 * 4 * 128 * 4;

@inline
function firstRowOf(runs: usize, run: i32): i32 {
  return load<i32>(at(runs, run));
}

/** b = kk * a of one head; `bytes` are those of a row of S. */
@inline
function rates(b: usize, kk: usize, a: usize, bytes: usize): void {
  for (let j: usize = 0; j < bytes; j += 16) v128.store(b + j, f32x4.mul(v128.load(kk + j), v128.load(a + j)));
}

/** sa = -S kk of four rows of S. */
@inline
function removedOf(s: usize, kk: usize, bytes: usize): v128 {
  let d0 = splat(0);
  let d1 = d0;
  let d2 = d0;
  let d3 = d0;
  for (let j: usize = 0; j < bytes; j += 16) {
    const kkj = v128.load(kk + j);
    d0 = fnma(v128.load(s + j), kkj, d0);
    d1 = fnma(v128.load(s + bytes + j), kkj, d1);
    d2 = fnma(v128.load(s + 2 * bytes + j), kkj, d2);
    d3 = fnma(v128.load(s + 3 * bytes + j), kkj, d3);
  }
  return sumLanes4(d0, d1, d2, d3);
}

/** S w + sa b + v k */
@inline
function updated(s: v128, w: v128, sa: v128, b: v128, v: v128, k: v128): v128 {
  return fma(s, w, fma(sa, b, f32x4.mul(v, k)));
}

/** One token forward, four rows of S from `s` on, v and y at theirs. */
@inline
function forwardRows(y: usize, s: usize, r: usize, w: usize, k: usize, v: usize, kk: usize, b: usize, bytes: usize): void {
  const removed = removedOf(s, kk, bytes);
  const sa0 = splat(f32x4.extract_lane(removed, 0));
  const sa1 = splat(f32x4.extract_lane(removed, 1));
  const sa2 = splat(f32x4.extract_lane(removed, 2));
  const sa3 = splat(f32x4.extract_lane(removed, 3));
  const v0 = v128.load32_splat(v, 0);
  const v1 = v128.load32_splat(v, 4);
  const v2 = v128.load32_splat(v, 8);
  const v3 = v128.load32_splat(v, 12);
  let y0 = splat(0);
  let y1 = y0;
  let y2 = y0;
  let y3 = y0;
  for (let j: usize = 0; j < bytes; j += 16) {
    const wj = v128.load(w + j);
    const kj = v128.load(k + j);
    const rj = v128.load(r + j);
    const bj = v128.load(b + j);
    const p = s + j;
    const s0 = updated(v128.load(p), wj, sa0, bj, v0, kj);
    v128.store(p, s0);
    y0 = fma(s0, rj, y0);
    const s1 = updated(v128.load(p + bytes), wj, sa1, bj, v1, kj);
    v128.store(p + bytes, s1);
    y1 = fma(s1, rj, y1);
    const s2 = updated(v128.load(p + 2 * bytes), wj, sa2, bj, v2, kj);
    v128.store(p + 2 * bytes, s2);
    y2 = fma(s2, rj, y2);
    const s3 = updated(v128.load(p + 3 * bytes), wj, sa3, bj, v3, kj);
    v128.store(p + 3 * bytes, s3);
    y3 = fma(s3, rj, y3);
  }
  v128.store(y, sumLanes4(y0, y1, y2, y3));
}

export function wkv7(
  y: usize,
  stateOut: usize,
  checkpoints: usize,
  r: usize,
  w: usize,
  k: usize,
  v: usize,
  kk: usize,
  a: usize,
  state: usize,
  runs: usize,
  nRuns: i32,
  width: i32,
  nHeads: i32,
  room: usize,
): void {
  const N = width / nHeads;
  const bytes = <usize>N << 2;
  const stateBytes = bytes * <usize>N;
  const b = room + RATES;
  memory.copy(stateOut, state, <usize>(nRuns * nHeads) * stateBytes);
  let firstChunk = 0;
  for (let run = 0; run < nRuns; run++) {
    const first = firstRowOf(runs, run);
    const end = firstRowOf(runs, run + 1);
    for (let head = 0; head < nHeads; head++) {
      const s = stateOut + <usize>(run * nHeads + head) * stateBytes;
      for (let row = first; row < end; row++) {
        const t = row - first;
        if (t % CHUNK == 0) {
          const kept = (firstChunk + t / CHUNK) * nHeads + head;
          memory.copy(checkpoints + <usize>kept * stateBytes, s, stateBytes);
        }
        const here = <usize>(row * width + head * N) << 2;
        rates(b, kk + here, a + here, bytes);
        for (let i: usize = 0; i < bytes; i += 16) {
          forwardRows(y + here + i, s + i * <usize>N, r + here, w + here, k + here, v + here + i, kk + here, b, bytes);
        }
      }
    }
    firstChunk += (end - first + CHUNK - 1) / CHUNK;
  }
}

/** One token forward again, four rows of S from `s` to the four behind them: leaves sa and adds to dr = S^T dy. */
@inline
function againRows(
  s: usize,
  removed: usize,
  dr: usize,
  w: usize,
  k: usize,
  v: usize,
  kk: usize,
  b: usize,
  dy: usize,
  bytes: usize,
): void {
  const sa = removedOf(s, kk, bytes);
  v128.store(removed, sa);
  const sa0 = splat(f32x4.extract_lane(sa, 0));
  const sa1 = splat(f32x4.extract_lane(sa, 1));
  const sa2 = splat(f32x4.extract_lane(sa, 2));
  const sa3 = splat(f32x4.extract_lane(sa, 3));
  const v0 = v128.load32_splat(v, 0);
  const v1 = v128.load32_splat(v, 4);
  const v2 = v128.load32_splat(v, 8);
  const v3 = v128.load32_splat(v, 12);
  const next = s + 4 * bytes;
  for (let j: usize = 0; j < bytes; j += 16) {
    const wj = v128.load(w + j);
    const kj = v128.load(k + j);
    const bj = v128.load(b + j);
    const s0 = updated(v128.load(s + j), wj, sa0, bj, v0, kj);
    v128.store(next + j, s0);
    let sum = fma(s0, v128.load32_splat(dy, 0), v128.load(dr + j));
    const s1 = updated(v128.load(s + bytes + j), wj, sa1, bj, v1, kj);
    v128.store(next + bytes + j, s1);
    sum = fma(s1, v128.load32_splat(dy, 4), sum);
    const s2 = updated(v128.load(s + 2 * bytes + j), wj, sa2, bj, v2, kj);
    v128.store(next + 2 * bytes + j, s2);
    sum = fma(s2, v128.load32_splat(dy, 8), sum);
    const s3 = updated(v128.load(s + 3 * bytes + j), wj, sa3, bj, v3, kj);
    v128.store(next + 3 * bytes + j, s3);
    v128.store(dr + j, fma(s3, v128.load32_splat(dy, 12), sum));
  }
}

/** One token back: the first half, which adds dy r^T to the gradient. @returns dsa; leaves dv */
@inline
function backOutputs(
  g: usize,
  dv: usize,
  dk: usize,
  db: usize,
  removed: usize,
  r: usize,
  k: usize,
  v: usize,
  b: usize,
  dy: usize,
  bytes: usize,
  addToV: bool,
): v128 {
  let v0 = splat(0);
  let v1 = v0;
  let v2 = v0;
  let v3 = v0;
  let a0 = v0;
  let a1 = v0;
  let a2 = v0;
  let a3 = v0;
  for (let j: usize = 0; j < bytes; j += 16) {
    const rj = v128.load(r + j);
    const kj = v128.load(k + j);
    const bj = v128.load(b + j);
    let toK = v128.load(dk + j);
    let toB = v128.load(db + j);
    let gij = fma(v128.load32_splat(dy, 0), rj, v128.load(g + j));
    v128.store(g + j, gij);
    v0 = fma(gij, kj, v0);
    a0 = fma(gij, bj, a0);
    toK = fma(gij, v128.load32_splat(v, 0), toK);
    toB = fma(gij, v128.load32_splat(removed, 0), toB);
    gij = fma(v128.load32_splat(dy, 4), rj, v128.load(g + bytes + j));
    v128.store(g + bytes + j, gij);
    v1 = fma(gij, kj, v1);
    a1 = fma(gij, bj, a1);
    toK = fma(gij, v128.load32_splat(v, 4), toK);
    toB = fma(gij, v128.load32_splat(removed, 4), toB);
    gij = fma(v128.load32_splat(dy, 8), rj, v128.load(g + 2 * bytes + j));
    v128.store(g + 2 * bytes + j, gij);
    v2 = fma(gij, kj, v2);
    a2 = fma(gij, bj, a2);
    toK = fma(gij, v128.load32_splat(v, 8), toK);
    toB = fma(gij, v128.load32_splat(removed, 8), toB);
    gij = fma(v128.load32_splat(dy, 12), rj, v128.load(g + 3 * bytes + j));
    v128.store(g + 3 * bytes + j, gij);
    v3 = fma(gij, kj, v3);
    a3 = fma(gij, bj, a3);
    v128.store(dk + j, fma(gij, v128.load32_splat(v, 12), toK));
    v128.store(db + j, fma(gij, v128.load32_splat(removed, 12), toB));
  }
  setOrAdd(dv, sumLanes4(v0, v1, v2, v3), 4, addToV);
  return sumLanes4(a0, a1, a2, a3);
}

/** The second half, which takes the gradient to the state `s` before the token. */
@inline
function backState(g: usize, s: usize, dsa: v128, dw: usize, removal: usize, w: usize, kk: usize, bytes: usize): void {
  const a0 = splat(f32x4.extract_lane(dsa, 0));
  const a1 = splat(f32x4.extract_lane(dsa, 1));
  const a2 = splat(f32x4.extract_lane(dsa, 2));
  const a3 = splat(f32x4.extract_lane(dsa, 3));
  for (let j: usize = 0; j < bytes; j += 16) {
    const wj = v128.load(w + j);
    const kkj = v128.load(kk + j);
    let toW = v128.load(dw + j);
    let toKk = v128.load(removal + j);
    let before = v128.load(s + j);
    let gij = v128.load(g + j);
    toW = fma(gij, before, toW);
    toKk = fma(before, a0, toKk);
    v128.store(g + j, fnma(a0, kkj, f32x4.mul(gij, wj)));
    before = v128.load(s + bytes + j);
    gij = v128.load(g + bytes + j);
    toW = fma(gij, before, toW);
    toKk = fma(before, a1, toKk);
    v128.store(g + bytes + j, fnma(a1, kkj, f32x4.mul(gij, wj)));
    before = v128.load(s + 2 * bytes + j);
    gij = v128.load(g + 2 * bytes + j);
    toW = fma(gij, before, toW);
    toKk = fma(before, a2, toKk);
    v128.store(g + 2 * bytes + j, fnma(a2, kkj, f32x4.mul(gij, wj)));
    before = v128.load(s + 3 * bytes + j);
    gij = v128.load(g + 3 * bytes + j);
    v128.store(dw + j, fma(gij, before, toW));
    v128.store(removal + j, fma(before, a3, toKk));
    v128.store(g + 3 * bytes + j, fnma(a3, kkj, f32x4.mul(gij, wj)));
  }
}

export function wkv7Backward(
  dr: usize,
  dw: usize,
  dk: usize,
  dv: usize,
  dkk: usize,
  da: usize,
  dState: usize,
  dy: usize,
  r: usize,
  w: usize,
  k: usize,
  v: usize,
  kk: usize,
  a: usize,
  checkpoints: usize,
  runs: usize,
  nRuns: i32,
  width: i32,
  nHeads: i32,
  added: i32,
  room: usize,
): void {
  const N = width / nHeads;
  const bytes = <usize>N << 2;
  const stateBytes = bytes * <usize>N;
  const gradient = room + GRADIENT;
  let firstChunk = 0;
  for (let run = 0; run < nRuns; run++) {
    const first = firstRowOf(runs, run);
    const end = firstRowOf(runs, run + 1);
    const nChunks = (end - first + CHUNK - 1) / CHUNK;
    for (let head = 0; head < nHeads; head++) {
      const dHead: usize = dState == 0 ? <usize>0 : dState + <usize>(run * nHeads + head) * stateBytes;
      if (dHead == 0) memory.fill(gradient, 0, stateBytes);
      else memory.copy(gradient, dHead, stateBytes);
      for (let chunk = nChunks - 1; chunk >= 0; chunk--) {
        const firstRow = first + chunk * CHUNK;
        const nRows = min(CHUNK, end - firstRow);
        const start = <usize>(firstRow * width + head * N) << 2;
        const rowBytes = <usize>width << 2;
        const kept = checkpoints + <usize>((firstChunk + chunk) * nHeads + head) * stateBytes;
        memory.fill(room, 0, RATES);
        for (let t = 0; t < nRows; t++) {
          const here = start + <usize>t * rowBytes;
          rates(room + RATES + <usize>t * bytes, kk + here, a + here, bytes);
        }
        for (let i: usize = 0; i < bytes; i += 16) {
          memory.copy(room + HISTORY, kept + i * <usize>N, 4 * bytes);
          for (let t = 0; t < nRows; t++) {
            const here = start + <usize>t * rowBytes;
            const own = <usize>t * bytes;
            againRows(
              room + HISTORY + 4 * own,
              room + REMOVED + <usize>t * 16,
              room + DR + own,
              w + here,
              k + here,
              v + here + i,
              kk + here,
              room + RATES + own,
              dy + here + i,
              bytes,
            );
          }
          const g = gradient + i * <usize>N;
          for (let t = nRows - 1; t >= 0; t--) {
            const here = start + <usize>t * rowBytes;
            const own = <usize>t * bytes;
            const dsa = backOutputs(
              g,
              dv + here + i,
              room + DK + own,
              room + DB + own,
              room + REMOVED + <usize>t * 16,
              r + here,
              k + here,
              v + here + i,
              room + RATES + own,
              dy + here + i,
              bytes,
              isAdded(added, 3),
            );
            backState(g, room + HISTORY + 4 * own, dsa, room + DW + own, room + REMOVAL + own, w + here, kk + here, bytes);
          }
        }
        for (let t = 0; t < nRows; t++) {
          const here = start + <usize>t * rowBytes;
          const own = room + <usize>t * bytes;
          for (let j: usize = 0; j < bytes; j += 16) {
            const toB = v128.load(own + DB + j);
            const toKk = f32x4.sub(f32x4.mul(toB, v128.load(a + here + j)), v128.load(own + REMOVAL + j));
            setOrAdd(dr + here + j, v128.load(own + DR + j), 4, isAdded(added, 0));
            setOrAdd(dw + here + j, v128.load(own + DW + j), 4, isAdded(added, 1));
            setOrAdd(dk + here + j, v128.load(own + DK + j), 4, isAdded(added, 2));
            setOrAdd(dkk + here + j, toKk, 4, isAdded(added, 4));
            setOrAdd(da + here + j, f32x4.mul(toB, v128.load(kk + here + j)), 4, isAdded(added, 5));
          }
        }
      }
      if (dHead != 0) memory.copy(dHead, gradient, stateBytes);
    }
    firstChunk += nChunks;
  }
}
