// wkv6 of the reference kernels, head by head. The contract is in kernels.ts; the backward computes the states of a
// chunk again from its checkpoint.

import { WKV_CHUNK, type Numbers } from "../kernels.ts";

export function wkv6(
  y: Numbers,
  stateOut: Numbers,
  checkpoints: Numbers,
  r: Numbers,
  k: Numbers,
  v: Numbers,
  decay: Numbers,
  first: Numbers,
  state: Numbers,
  runs: Int32Array,
  width: number,
  heads: number,
  isDecayPerRow: boolean,
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
        y.fill(0, row, row + N);
        for (let i = 0; i < N; i++) {
          const ri = r[row + i]!;
          const ki = k[row + i]!;
          const fi = first[h * N + i]!;
          const wi = decay[isDecayPerRow ? row + i : h * N + i]!;
          for (let j = 0; j < N; j++) {
            const kv = ki * v[row + j]!;
            y[row + j] = y[row + j]! + ri * (fi * kv + S[i * N + j]!);
            S[i * N + j] = wi * S[i * N + j]! + kv;
          }
        }
      }
      stateOut.set(S, at);
    }
    firstChunk += Math.ceil((end - start) / WKV_CHUNK);
  }
}

export function wkv6Backward(
  dr: Numbers,
  dk: Numbers,
  dv: Numbers,
  dDecay: Numbers | null,
  dFirst: Numbers | null,
  dState: Numbers | null,
  dy: Numbers,
  r: Numbers,
  k: Numbers,
  v: Numbers,
  decay: Numbers,
  first: Numbers,
  checkpoints: Numbers,
  runs: Int32Array,
  width: number,
  heads: number,
  isDecayPerRow: boolean,
  added: number,
): void {
  const N = width / heads;
  const size = N * N;
  const states = new Float64Array(WKV_CHUNK * size);
  const G = new Float64Array(size);
  const dvRow = new Float64Array(N);
  const isDecayAdded = !isDecayPerRow || (added & 8) !== 0;
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
        for (let t = from; t + 1 < to; t++) {
          const row = t * width + h * N;
          const S = (t - from) * size;
          for (let i = 0; i < N; i++) {
            const wi = decay[isDecayPerRow ? row + i : h * N + i]!;
            for (let j = 0; j < N; j++) {
              states[S + size + i * N + j] = wi * states[S + i * N + j]! + k[row + i]! * v[row + j]!;
            }
          }
        }
        for (let t = to - 1; t >= from; t--) {
          const row = t * width + h * N;
          const S = (t - from) * size;
          let b = 0;
          let g = 0;
          for (let i = 0; i < N; i++) {
            b += r[row + i]! * first[h * N + i]! * k[row + i]!;
            g += dy[row + i]! * v[row + i]!;
          }
          for (let j = 0; j < N; j++) dvRow[j] = b * dy[row + j]!;
          for (let i = 0; i < N; i++) {
            const ri = r[row + i]!;
            const ki = k[row + i]!;
            const fi = first[h * N + i]!;
            const wi = decay[isDecayPerRow ? row + i : h * N + i]!;
            let toR = fi * ki * g;
            let toK = fi * ri * g;
            let toDecay = 0;
            for (let j = 0; j < N; j++) {
              const gij = G[i * N + j]!;
              const sij = states[S + i * N + j]!;
              toR += sij * dy[row + j]!;
              toK += gij * v[row + j]!;
              toDecay += gij * sij;
              dvRow[j] = dvRow[j]! + gij * ki;
              G[i * N + j] = wi * gij + ri * dy[row + j]!;
            }
            dr[row + i] = added & 1 ? dr[row + i]! + toR : toR;
            dk[row + i] = added & 2 ? dk[row + i]! + toK : toK;
            if (dFirst !== null) dFirst[h * N + i] = dFirst[h * N + i]! + ri * ki * g;
            if (dDecay !== null) {
              const d = isDecayPerRow ? row + i : h * N + i;
              dDecay[d] = isDecayAdded ? dDecay[d]! + toDecay : toDecay;
            }
          }
          for (let j = 0; j < N; j++) dv[row + j] = added & 4 ? dv[row + j]! + dvRow[j]! : dvRow[j]!;
        }
      }
      dState?.set(G, at);
    }
    firstChunk += nChunks;
  }
}
