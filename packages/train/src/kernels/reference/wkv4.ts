// wkv4 of the reference kernels, channel by channel. The contract is in kernels.ts; the backward runs forward again and
// keeps aa, bb and pp before each row of one channel.

import type { Numbers } from "../kernels.ts";

export function wkv4(
  y: Numbers,
  aaOut: Numbers,
  bbOut: Numbers,
  ppOut: Numbers,
  k: Numbers,
  v: Numbers,
  decay: Numbers,
  first: Numbers,
  aa: Numbers,
  bb: Numbers,
  pp: Numbers,
  runs: Int32Array,
  width: number,
): void {
  for (let run = 0; run + 1 < runs.length; run++) {
    for (let c = 0; c < width; c++) {
      const s = run * width + c;
      let [a, b, p] = [aa[s]!, bb[s]!, pp[s]!];
      for (let t = runs[run]!; t < runs[run + 1]!; t++) {
        const kt = k[t * width + c]!;
        const vt = v[t * width + c]!;
        const now = first[c]! + kt;
        const m = Math.max(p, now);
        const old = Math.exp(p - m);
        const fresh = Math.exp(now - m);
        y[t * width + c] = (old * a + fresh * vt) / (old * b + fresh);

        const next = Math.max(p + decay[c]!, kt);
        const kept = Math.exp(p + decay[c]! - next);
        const added = Math.exp(kt - next);
        a = kept * a + added * vt;
        b = kept * b + added;
        p = next;
      }
      aaOut[s] = a;
      bbOut[s] = b;
      ppOut[s] = p;
    }
  }
}

export function wkv4Backward(
  dk: Numbers,
  dv: Numbers,
  dDecay: Numbers | null,
  dFirst: Numbers | null,
  dAa: Numbers | null,
  dBb: Numbers | null,
  dy: Numbers,
  k: Numbers,
  v: Numbers,
  decay: Numbers,
  first: Numbers,
  aa: Numbers,
  bb: Numbers,
  pp: Numbers,
  runs: Int32Array,
  width: number,
  added: number,
): void {
  let longest = 0;
  for (let run = 0; run + 1 < runs.length; run++) longest = Math.max(longest, runs[run + 1]! - runs[run]!);
  const states = new Float64Array(3 * (longest + 1));
  for (let run = 0; run + 1 < runs.length; run++) {
    const nRows = runs[run + 1]! - runs[run]!;
    for (let c = 0; c < width; c++) {
      const s = run * width + c;
      states.set([aa[s]!, bb[s]!, pp[s]!]);
      for (let t = 0; t < nRows; t++) {
        const at = (runs[run]! + t) * width + c;
        const p = states[3 * t + 2]!;
        const next = Math.max(p + decay[c]!, k[at]!);
        const kept = Math.exp(p + decay[c]! - next);
        const fresh = Math.exp(k[at]! - next);
        states[3 * t + 3] = kept * states[3 * t]! + fresh * v[at]!;
        states[3 * t + 4] = kept * states[3 * t + 1]! + fresh;
        states[3 * t + 5] = next;
      }

      let toA = dAa === null ? 0 : dAa[s]!;
      let toB = dBb === null ? 0 : dBb[s]!;
      let toDecay = 0;
      let toFirst = 0;
      for (let t = nRows - 1; t >= 0; t--) {
        const at = (runs[run]! + t) * width + c;
        const a = states[3 * t]!;
        const b = states[3 * t + 1]!;
        const p = states[3 * t + 2]!;
        const kt = k[at]!;
        const vt = v[at]!;
        const now = first[c]! + kt;
        const m = Math.max(p, now);
        const old = Math.exp(p - m);
        const fresh = Math.exp(now - m);
        const q = 1 / (old * b + fresh);
        const y = (old * a + fresh * vt) * q;
        const next = states[3 * t + 5]!;
        const kept = Math.exp(p + decay[c]! - next);
        const joined = Math.exp(kt - next);

        const d = dy[at]!;
        const toNow = d * fresh * q * (vt - y);
        const toV = d * fresh * q + toA * joined;
        const toK = toNow + joined * (toA * vt + toB);
        toFirst += toNow;
        toDecay += kept * (toA * a + toB * b);
        toA = d * old * q + kept * toA;
        toB = -d * old * q * y + kept * toB;
        dk[at] = added & 1 ? dk[at]! + toK : toK;
        dv[at] = added & 2 ? dv[at]! + toV : toV;
      }
      if (dDecay !== null) dDecay[c] = dDecay[c]! + toDecay;
      if (dFirst !== null) dFirst[c] = dFirst[c]! + toFirst;
      if (dAa !== null) dAa[s] = toA;
      if (dBb !== null) dBb[s] = toB;
    }
  }
}
