// The recurrences of RWKV-4, of RWKV-5 and 6, and of RWKV-7, token by token. The formula of each is in ops/ops.ts; the
// names here are its letters. States are stored after every token, so that the cutting of a prompt changes no bit.

import type { OpArguments } from "../../ops/signature.ts";
import { rowElements } from "../../ops/tensor.ts";
import type { StepData } from "./step-data.ts";

export function wkv4(step: StepData, call: OpArguments["wkv4"]): void {
  const y = step.values(call.y);
  const k = step.values(call.k);
  const v = step.values(call.v);
  const decay = step.values(call.decay);
  const first = step.values(call.first);
  const width = rowElements(call.y);
  for (const run of step.runs) {
    const aa = step.state(call.aa, run);
    const bb = step.state(call.bb, run);
    const pp = step.state(call.pp, run);
    for (let t = run.start; t < run.end; t++) {
      for (let c = 0; c < width; c++) {
        const kt = k[t * width + c]!;
        const vt = v[t * width + c]!;

        const now = first[c]! + kt;
        let m = Math.max(pp[c]!, now);
        let old = Math.exp(pp[c]! - m);
        let fresh = Math.exp(now - m);
        y[t * width + c] = (old * aa[c]! + fresh * vt) / (old * bb[c]! + fresh);

        const decayed = pp[c]! + decay[c]!;
        m = Math.max(decayed, kt);
        old = Math.exp(decayed - m);
        fresh = Math.exp(kt - m);
        aa[c] = old * aa[c]! + fresh * vt;
        bb[c] = old * bb[c]! + fresh;
        pp[c] = m;
      }
    }
  }
}

export function wkv6(step: StepData, call: OpArguments["wkv6"]): void {
  const y = step.values(call.y);
  const r = step.values(call.r);
  const k = step.values(call.k);
  const v = step.values(call.v);
  const decay = step.values(call.decay); // [T, A], or [A] for every token
  const first = step.values(call.first);
  const [H, N] = call.wkv.shape as readonly [number, number, number];
  for (const run of step.runs) {
    const S = step.state(call.wkv, run);
    for (let t = run.start; t < run.end; t++) {
      for (let h = 0; h < H; h++) {
        const row = (t * H + h) * N;
        for (let j = 0; j < N; j++) {
          const vj = v[row + j]!;
          let sum = 0;
          for (let i = 0; i < N; i++) {
            const s = (h * N + i) * N + j;
            const kv = k[row + i]! * vj;
            sum += r[row + i]! * (first[h * N + i]! * kv + S[s]!);
            S[s] = decay[(row + i) % decay.length]! * S[s]! + kv;
          }
          y[row + j] = sum;
        }
      }
    }
  }
}

export function wkv7(step: StepData, call: OpArguments["wkv7"]): void {
  const y = step.values(call.y);
  const r = step.values(call.r);
  const w = step.values(call.w);
  const k = step.values(call.k);
  const v = step.values(call.v);
  const kk = step.values(call.kk);
  const a = step.values(call.a);
  const [H, N] = call.wkv.shape as readonly [number, number, number];
  for (const run of step.runs) {
    const S = step.state(call.wkv, run);
    for (let t = run.start; t < run.end; t++) {
      for (let h = 0; h < H; h++) {
        const row = (t * H + h) * N;
        for (let i = 0; i < N; i++) {
          const s = (h * N + i) * N;
          let removed = 0; // what the undecayed state holds under the removal key
          for (let j = 0; j < N; j++) removed += S[s + j]! * kk[row + j]!;

          const vi = v[row + i]!;
          let sum = 0;
          for (let j = 0; j < N; j++) {
            S[s + j] = S[s + j]! * w[row + j]! - removed * kk[row + j]! * a[row + j]! + vi * k[row + j]!;
            sum += S[s + j]! * r[row + j]!;
          }
          y[row + i] = sum;
        }
      }
    }
  }
}
