// Element-wise operations of the reference kernels. The contract is in kernels.ts.

import type { Activation } from "rwkv/ops";
import type { Numbers } from "../kernels.ts";

export function addMul(
  out: Numbers,
  x: Numbers,
  a: Numbers,
  b: Numbers,
  nElements: number,
  bElements: number,
): void {
  for (let i = 0; i < nElements; i++) out[i] = x[i]! + a[i]! * b[i % bElements]!;
}

export function addMulBackward(
  da: Numbers,
  db: Numbers | null,
  dOut: Numbers,
  a: Numbers,
  b: Numbers,
  nElements: number,
  bElements: number,
  added: number,
): void {
  const isAdded = bElements < nElements || (added & 2) !== 0;
  for (let i = 0; i < nElements; i++) {
    const d = dOut[i]!;
    const toA = d * b[i % bElements]!;
    da[i] = added & 1 ? da[i]! + toA : toA;
    if (db !== null) db[i % bElements] = (isAdded ? db[i % bElements]! : 0) + d * a[i]!;
  }
}

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));
const DECAY7_RATE = Math.exp(-0.5);

const FUNCTIONS: Readonly<Record<Activation, (x: number) => number>> = {
  none: (x) => x,
  sigmoid,
  silu: (x) => x * sigmoid(x),
  tanh: Math.tanh,
  reluSquared: (x) => Math.max(x, 0) ** 2,
  decay6: (x) => Math.exp(-Math.exp(x)),
  decay7: (x) => Math.exp(-DECAY7_RATE * sigmoid(x)),
};

const DERIVATIVES: Readonly<Record<Activation, (x: number, out: number) => number>> = {
  none: () => 1,
  sigmoid: (_, out) => out * (1 - out),
  silu: (x) => sigmoid(x) * (1 + x * (1 - sigmoid(x))),
  tanh: (_, out) => 1 - out * out,
  reluSquared: (x) => 2 * Math.max(x, 0),
  decay6: (x, out) => (out === 0 ? 0 : -out * Math.exp(x)),
  decay7: (x, out) => -out * DECAY7_RATE * sigmoid(x) * (1 - sigmoid(x)),
};

export function activate(
  out: Numbers,
  x: Numbers,
  bias: Numbers | null,
  rows: number,
  width: number,
  f: Activation,
): void {
  const apply = FUNCTIONS[f];
  for (let i = 0; i < rows * width; i++) out[i] = apply(x[i]! + (bias === null ? 0 : bias[i % width]!));
}

export function activateBackward(
  dx: Numbers,
  dBias: Numbers | null,
  dOut: Numbers,
  x: Numbers,
  out: Numbers,
  bias: Numbers | null,
  rows: number,
  width: number,
  f: Activation,
): void {
  const derivative = DERIVATIVES[f];
  for (let i = 0; i < rows * width; i++) {
    const c = i % width;
    const d = dOut[i]! * derivative(x[i]! + (bias === null ? 0 : bias[c]!), out[i]!);
    dx[i] = d;
    if (dBias !== null) dBias[c] = dBias[c]! + d;
  }
}

export function addScaled(out: Numbers, x: Numbers, y: Numbers, scale: number, nElements: number): void {
  for (let i = 0; i < nElements; i++) out[i] = x[i]! + y[i]! * scale;
}

export function mul(out: Numbers, x: Numbers, y: Numbers, nElements: number): void {
  for (let i = 0; i < nElements; i++) out[i] = x[i]! * y[i]!;
}

export function mulBackward(
  dx: Numbers,
  dy: Numbers,
  dOut: Numbers,
  x: Numbers,
  y: Numbers,
  nElements: number,
  added: number,
): void {
  for (let i = 0; i < nElements; i++) {
    const d = dOut[i]!;
    dx[i] = (added & 1 ? dx[i]! : 0) + d * y[i]!;
    dy[i] = (added & 2 ? dy[i]! : 0) + d * x[i]!;
  }
}

export function lerp(out: Numbers, x: Numbers, target: Numbers, weight: Numbers, nElements: number): void {
  for (let i = 0; i < nElements; i++) out[i] = x[i]! + (target[i]! - x[i]!) * weight[i]!;
}

export function lerpBackward(
  dx: Numbers,
  dTarget: Numbers,
  dWeight: Numbers,
  dOut: Numbers,
  x: Numbers,
  target: Numbers,
  weight: Numbers,
  nElements: number,
  added: number,
): void {
  for (let i = 0; i < nElements; i++) {
    const d = dOut[i]!;
    const share = weight[i]!;
    dx[i] = (added & 1 ? dx[i]! : 0) + d * (1 - share);
    dTarget[i] = (added & 2 ? dTarget[i]! : 0) + d * share;
    dWeight[i] = (added & 4 ? dWeight[i]! : 0) + d * (target[i]! - x[i]!);
  }
}

export function scaleKey(
  out: Numbers,
  k: Numbers,
  a: Numbers,
  kA: Numbers,
  rows: number,
  width: number,
): void {
  for (let i = 0; i < rows * width; i++) out[i] = k[i]! * (1 + (a[i]! - 1) * kA[i % width]!);
}

export function scaleKeyBackward(
  dk: Numbers,
  da: Numbers,
  dKA: Numbers | null,
  dOut: Numbers,
  k: Numbers,
  a: Numbers,
  kA: Numbers,
  rows: number,
  width: number,
  added: number,
): void {
  for (let i = 0; i < rows * width; i++) {
    const c = i % width;
    const d = dOut[i]!;
    const below = a[i]! - 1;
    const dkValue = d * (1 + below * kA[c]!);
    const daValue = d * k[i]! * kA[c]!;
    dk[i] = added & 1 ? dk[i]! + dkValue : dkValue;
    da[i] = added & 2 ? da[i]! + daValue : daValue;
    if (dKA !== null) dKA[c] = dKA[c]! + d * k[i]! * below;
  }
}
