// Norms of the reference kernels: whatever sums over a row or a head. The contract is in kernels.ts.

import type { Numbers } from "../kernels.ts";

export function norm(
  out: Numbers,
  stats: Numbers,
  x: Numbers,
  weight: Numbers,
  bias: Numbers,
  rows: number,
  width: number,
  groups: number,
  eps: number,
): void {
  const groupElements = width / groups;
  for (let group = 0; group < rows * groups; group++) {
    const start = group * groupElements;
    const channel = (group % groups) * groupElements;
    let sum = 0;
    for (let i = 0; i < groupElements; i++) sum += x[start + i]!;
    const mean = sum / groupElements;
    let squares = 0;
    for (let i = 0; i < groupElements; i++) squares += (x[start + i]! - mean) ** 2;
    const inverse = 1 / Math.sqrt(squares / groupElements + eps);
    stats[2 * group] = mean;
    stats[2 * group + 1] = inverse;
    for (let i = 0; i < groupElements; i++) {
      out[start + i] = (x[start + i]! - mean) * inverse * weight[channel + i]! + bias[channel + i]!;
    }
  }
}

export function normBackward(
  dx: Numbers,
  dWeight: Numbers | null,
  dBias: Numbers | null,
  dOut: Numbers,
  x: Numbers,
  stats: Numbers,
  weight: Numbers,
  rows: number,
  width: number,
  groups: number,
  added: number,
): void {
  const groupElements = width / groups;
  for (let group = 0; group < rows * groups; group++) {
    const start = group * groupElements;
    const channel = (group % groups) * groupElements;
    const mean = stats[2 * group]!;
    const inverse = stats[2 * group + 1]!;
    let gSum = 0;
    let guSum = 0;
    for (let i = 0; i < groupElements; i++) {
      const d = dOut[start + i]!;
      const u = (x[start + i]! - mean) * inverse;
      const g = d * weight[channel + i]!;
      gSum += g;
      guSum += g * u;
      if (dWeight !== null) dWeight[channel + i] = dWeight[channel + i]! + d * u;
      if (dBias !== null) dBias[channel + i] = dBias[channel + i]! + d;
    }
    const gMean = gSum / groupElements;
    const guMean = guSum / groupElements;
    for (let i = 0; i < groupElements; i++) {
      const u = (x[start + i]! - mean) * inverse;
      const value = inverse * (dOut[start + i]! * weight[channel + i]! - gMean - u * guMean);
      dx[start + i] = added & 1 ? dx[start + i]! + value : value;
    }
  }
}

export function l2NormHeads(
  out: Numbers,
  inverses: Numbers,
  x: Numbers,
  scale: Numbers,
  rows: number,
  width: number,
  heads: number,
  eps: number,
): void {
  const N = width / heads;
  for (let head = 0; head < rows * heads; head++) {
    const start = head * N;
    const channel = (head % heads) * N;
    let squares = 0;
    for (let i = 0; i < N; i++) squares += (x[start + i]! * scale[channel + i]!) ** 2;
    const inverse = 1 / Math.max(Math.sqrt(squares), eps);
    inverses[head] = inverse;
    for (let i = 0; i < N; i++) out[start + i] = x[start + i]! * scale[channel + i]! * inverse;
  }
}

export function l2NormHeadsBackward(
  dx: Numbers,
  dScale: Numbers | null,
  dOut: Numbers,
  out: Numbers,
  inverses: Numbers,
  x: Numbers,
  scale: Numbers,
  rows: number,
  width: number,
  heads: number,
  eps: number,
  added: number,
): void {
  const N = width / heads;
  // as the forward pass stored it for a length of at most eps
  const limit = inverses instanceof Float32Array ? Math.fround(1 / eps) : 1 / eps;
  for (let head = 0; head < rows * heads; head++) {
    const start = head * N;
    const channel = (head % heads) * N;
    const inverse = inverses[head]!;
    let along = 0;
    if (inverse < limit) for (let i = 0; i < N; i++) along += dOut[start + i]! * out[start + i]!;
    for (let i = 0; i < N; i++) {
      const du = inverse * (dOut[start + i]! - out[start + i]! * along);
      const value = du * scale[channel + i]!;
      dx[start + i] = added & 1 ? dx[start + i]! + value : value;
      if (dScale !== null) dScale[channel + i] = dScale[channel + i]! + du * x[start + i]!;
    }
  }
}

export function addBonus(
  out: Numbers,
  y: Numbers,
  r: Numbers,
  k: Numbers,
  v: Numbers,
  rK: Numbers,
  rows: number,
  width: number,
  heads: number,
): void {
  const N = width / heads;
  for (let head = 0; head < rows * heads; head++) {
    const start = head * N;
    const channel = (head % heads) * N;
    let bonus = 0;
    for (let i = 0; i < N; i++) bonus += r[start + i]! * k[start + i]! * rK[channel + i]!;
    for (let i = 0; i < N; i++) out[start + i] = y[start + i]! + bonus * v[start + i]!;
  }
}

export function addBonusBackward(
  dr: Numbers,
  dk: Numbers,
  dv: Numbers,
  dRK: Numbers | null,
  dOut: Numbers,
  r: Numbers,
  k: Numbers,
  v: Numbers,
  rK: Numbers,
  rows: number,
  width: number,
  heads: number,
  added: number,
): void {
  const N = width / heads;
  for (let head = 0; head < rows * heads; head++) {
    const start = head * N;
    const channel = (head % heads) * N;
    let bonus = 0;
    let g = 0;
    for (let i = 0; i < N; i++) {
      bonus += r[start + i]! * k[start + i]! * rK[channel + i]!;
      g += dOut[start + i]! * v[start + i]!;
    }
    for (let i = 0; i < N; i++) {
      const at = start + i;
      const rt = r[at]!;
      const kt = k[at]!;
      const weight = rK[channel + i]!;
      const toR = g * kt * weight;
      const toK = g * rt * weight;
      const toV = bonus * dOut[at]!;
      dr[at] = added & 1 ? dr[at]! + toR : toR;
      dk[at] = added & 2 ? dk[at]! + toK : toK;
      dv[at] = added & 4 ? dv[at]! + toV : toV;
      if (dRK !== null) dRK[channel + i] = dRK[channel + i]! + g * rt * kt;
    }
  }
}
