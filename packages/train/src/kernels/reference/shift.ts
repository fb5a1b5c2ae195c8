// The token shifts of the reference kernels. The contract is in kernels.ts.

import type { Numbers } from "../kernels.ts";

export function tokenShift(
  outs: readonly Numbers[],
  shiftOut: Numbers,
  x: Numbers,
  shift: Numbers,
  mix: readonly Numbers[],
  runs: Int32Array,
  width: number,
): void {
  for (let run = 0; run + 1 < runs.length; run++) {
    const start = runs[run]! * width;
    const end = runs[run + 1]! * width;
    for (const [o, out] of outs.entries()) {
      const share = mix[o]!;
      for (let i = start; i < end; i++) {
        const c = (i - start) % width;
        const previous = i < start + width ? shift[run * width + c]! : x[i - width]!;
        out[i] = x[i]! + (previous - x[i]!) * share[c]!;
      }
    }
    for (let c = 0; c < width; c++) shiftOut[run * width + c] = x[end - width + c]!;
  }
}

export function tokenShiftBackward(
  dx: Numbers,
  dShift: Numbers | null,
  dMix: readonly (Numbers | null)[],
  dOuts: readonly Numbers[],
  x: Numbers,
  shift: Numbers,
  mix: readonly Numbers[],
  runs: Int32Array,
  width: number,
  added: number,
): void {
  for (let run = 0; run + 1 < runs.length; run++) {
    const start = runs[run]! * width;
    const end = runs[run + 1]! * width;
    for (let c = 0; c < width; c++) {
      // the gradient that reaches a row through the row after it
      let later = dShift === null ? 0 : dShift[run * width + c]!;
      for (let i = end - width + c; i >= start; i -= width) {
        const previous = i < start + width ? shift[run * width + c]! : x[i - width]!;
        const difference = previous - x[i]!;
        let value = later;
        later = 0;
        for (let o = 0; o < dOuts.length; o++) {
          const d = dOuts[o]![i]!;
          const share = mix[o]![c]!;
          value += d * (1 - share);
          later += d * share;
          const toMix = dMix[o] ?? null;
          if (toMix !== null) toMix[c] = toMix[c]! + d * difference;
        }
        dx[i] = added & 1 ? dx[i]! + value : value;
      }
      if (dShift !== null) dShift[run * width + c] = later;
    }
  }
}

export function shiftDelta(
  out: Numbers,
  shiftOut: Numbers,
  x: Numbers,
  shift: Numbers,
  runs: Int32Array,
  width: number,
): void {
  for (let run = 0; run + 1 < runs.length; run++) {
    const start = runs[run]! * width;
    const end = runs[run + 1]! * width;
    for (let i = start; i < end; i++) {
      const previous = i < start + width ? shift[run * width + i - start]! : x[i - width]!;
      out[i] = previous - x[i]!;
    }
    for (let c = 0; c < width; c++) shiftOut[run * width + c] = x[end - width + c]!;
  }
}

export function shiftDeltaBackward(
  dx: Numbers,
  dShift: Numbers | null,
  dOut: Numbers,
  runs: Int32Array,
  width: number,
  added: number,
): void {
  for (let run = 0; run + 1 < runs.length; run++) {
    const start = runs[run]! * width;
    const end = runs[run + 1]! * width;
    for (let c = 0; c < width; c++) {
      let later = dShift === null ? 0 : dShift[run * width + c]!;
      for (let i = end - width + c; i >= start; i -= width) {
        const value = later - dOut[i]!;
        later = dOut[i]!;
        dx[i] = added & 1 ? dx[i]! + value : value;
      }
      if (dShift !== null) dShift[run * width + c] = later;
    }
  }
}
