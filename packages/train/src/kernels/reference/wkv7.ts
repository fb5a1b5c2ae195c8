// wkv7 of the reference kernels, head by head. The contract is in kernels.ts; the backward computes the states of a
// chunk again from its checkpoint. Dividing by w to go back instead would lose precision.

import { WKV_CHUNK, type Numbers } from "../kernels.ts";

/** S at `to` becomes the state after one row, from that at `from`; the two may be one. */
function advance(
  states: Float64Array,
  to: number,
  from: number,
  row: number,
  N: number,
  w: Numbers,
  k: Numbers,
  v: Numbers,
  kk: Numbers,
  a: Numbers,
): void {
  for (let i = 0; i < N; i++) {
    let sa = 0;
    for (let j = 0; j < N; j++) sa -= states[from + i * N + j]! * kk[row + j]!;
    for (let j = 0; j < N; j++) {
      states[to + i * N + j] =
        states[from + i * N + j]! * w[row + j]! + sa * kk[row + j]! * a[row + j]! + v[row + i]! * k[row + j]!;
    }
  }
}

export function wkv7(
  y: Numbers,
  stateOut: Numbers,
  checkpoints: Numbers,
  r: Numbers,
  w: Numbers,
  k: Numbers,
  v: Numbers,
  kk: Numbers,
  a: Numbers,
  state: Numbers,
  runs: Int32Array,
  width: number,
  heads: number,
): void {
  const N = width / heads;
  const S = new Float64Array(N * N);
  let firstChunk = 0;
  for (let run = 0; run + 1 < runs.length; run++) {
    const start = runs[run]!;
    const end = runs[run + 1]!;
    for (let h = 0; h < heads; h++) {
      const at = (run * heads + h) * N * N;
      S.set(state.subarray(at, at + N * N));
      for (let t = start; t < end; t++) {
        if ((t - start) % WKV_CHUNK === 0) {
          checkpoints.set(S, ((firstChunk + (t - start) / WKV_CHUNK) * heads + h) * N * N);
        }
        const row = t * width + h * N;
        advance(S, 0, 0, row, N, w, k, v, kk, a);
        for (let i = 0; i < N; i++) {
          let sum = 0;
          for (let j = 0; j < N; j++) sum += S[i * N + j]! * r[row + j]!;
          y[row + i] = sum;
        }
      }
      stateOut.set(S, at);
    }
    firstChunk += Math.ceil((end - start) / WKV_CHUNK);
  }
}

export function wkv7Backward(
  dr: Numbers,
  dw: Numbers,
  dk: Numbers,
  dv: Numbers,
  dkk: Numbers,
  da: Numbers,
  dState: Numbers | null,
  dy: Numbers,
  r: Numbers,
  w: Numbers,
  k: Numbers,
  v: Numbers,
  kk: Numbers,
  a: Numbers,
  checkpoints: Numbers,
  runs: Int32Array,
  width: number,
  heads: number,
  added: number,
): void {
  const N = width / heads;
  const size = N * N;
  const states = new Float64Array((WKV_CHUNK + 1) * size); // before each row of a chunk, and after the last
  const G = new Float64Array(size);
  const sa = new Float64Array(N);
  const dsa = new Float64Array(N);
  const put = (out: Numbers, at: number, value: number, bit: number): void => {
    out[at] = added & bit ? out[at]! + value : value;
  };
  let firstChunk = 0;
  for (let run = 0; run + 1 < runs.length; run++) {
    const start = runs[run]!;
    const end = runs[run + 1]!;
    const nChunks = Math.ceil((end - start) / WKV_CHUNK);
    for (let h = 0; h < heads; h++) {
      const at = (run * heads + h) * size;
      if (dState === null) G.fill(0);
      else G.set(dState.subarray(at, at + size));
      for (let chunk = nChunks - 1; chunk >= 0; chunk--) {
        const from = start + chunk * WKV_CHUNK;
        const to = Math.min(from + WKV_CHUNK, end);
        const kept = ((firstChunk + chunk) * heads + h) * size;
        states.set(checkpoints.subarray(kept, kept + size));
        for (let t = from; t < to; t++) {
          const S = (t - from) * size;
          advance(states, S + size, S, t * width + h * N, N, w, k, v, kk, a);
        }
        for (let t = to - 1; t >= from; t--) {
          const row = t * width + h * N;
          const before = (t - from) * size;
          const after = before + size;
          for (let i = 0; i < N; i++) {
            for (let j = 0; j < N; j++) G[i * N + j] = G[i * N + j]! + dy[row + i]! * r[row + j]!;
          }
          sa.fill(0);
          dsa.fill(0);
          for (let i = 0; i < N; i++) {
            let toV = 0;
            for (let j = 0; j < N; j++) {
              const g = G[i * N + j]!;
              toV += g * k[row + j]!;
              dsa[i] = dsa[i]! + g * kk[row + j]! * a[row + j]!;
              sa[i] = sa[i]! - states[before + i * N + j]! * kk[row + j]!;
            }
            put(dv, row + i, toV, 8);
          }
          for (let j = 0; j < N; j++) {
            let [toR, toW, toK, toB, toKk] = [0, 0, 0, 0, 0];
            for (let i = 0; i < N; i++) {
              const g = G[i * N + j]!;
              const s = states[before + i * N + j]!;
              toR += states[after + i * N + j]! * dy[row + i]!;
              toW += g * s;
              toK += g * v[row + i]!;
              toB += g * sa[i]!;
              toKk -= s * dsa[i]!;
            }
            put(dr, row + j, toR, 1);
            put(dw, row + j, toW, 2);
            put(dk, row + j, toK, 4);
            put(dkk, row + j, toKk + toB * a[row + j]!, 16);
            put(da, row + j, toB * kk[row + j]!, 32);
          }
          for (let i = 0; i < N; i++) {
            for (let j = 0; j < N; j++) {
              G[i * N + j] = G[i * N + j]! * w[row + j]! - dsa[i]! * kk[row + j]!;
            }
          }
        }
      }
      dState?.set(G, at);
    }
    firstChunk += nChunks;
  }
}
