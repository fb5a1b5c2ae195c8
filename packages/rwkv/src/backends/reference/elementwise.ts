// Operations on single elements, the bonus of a head, and the activation functions. The contract of each is in
// ops/ops.ts.

import type { Activation } from "../../ops/ops.ts";
import type { OpArguments } from "../../ops/signature.ts";
import type { StepData } from "./step-data.ts";

const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** exp(-0.5): the largest rate of the v7 decay, which is so bounded below by exp(-exp(-0.5)) = 0.545. */
const DECAY7_RATE = Math.exp(-0.5);

export const ACTIVATIONS: Readonly<Record<Activation, (x: number) => number>> = {
  none: (x) => x,
  sigmoid,
  silu: (x) => x * sigmoid(x),
  tanh: Math.tanh,
  reluSquared: (x) => Math.max(x, 0) ** 2,
  decay6: (x) => Math.exp(-Math.exp(x)),
  decay7: (x) => Math.exp(-DECAY7_RATE * sigmoid(x)),
};

export function activate(step: StepData, call: OpArguments["activate"]): void {
  const out = step.values(call.out);
  const x = step.values(call.x);
  const f = ACTIVATIONS[call.f];
  for (let i = 0; i < out.length; i++) out[i] = f(x[i]!);
}

export function addMul(step: StepData, call: OpArguments["addMul"]): void {
  const out = step.values(call.out);
  const x = step.values(call.x);
  const a = step.values(call.a);
  const b = step.values(call.b); // one row for all, or a row for each
  for (let i = 0; i < out.length; i++) out[i] = x[i]! + a[i]! * b[i % b.length]!;
}

export function add(step: StepData, call: OpArguments["add"]): void {
  const x = step.values(call.x);
  const y = step.values(call.y);
  for (let i = 0; i < x.length; i++) x[i] = x[i]! + y[i]! * call.scale;
}

export function mul(step: StepData, call: OpArguments["mul"]): void {
  const x = step.values(call.x);
  const y = step.values(call.y);
  for (let i = 0; i < x.length; i++) x[i] = x[i]! * y[i]!;
}

export function lerp(step: StepData, call: OpArguments["lerp"]): void {
  const x = step.values(call.x);
  const target = step.values(call.target);
  const weight = step.values(call.weight);
  for (let i = 0; i < x.length; i++) x[i] = x[i]! + (target[i]! - x[i]!) * weight[i]!;
}

export function copy(step: StepData, call: OpArguments["copy"]): void {
  step.values(call.out).set(step.values(call.x));
}

export function scaleKey(step: StepData, call: OpArguments["scaleKey"]): void {
  const k = step.values(call.k);
  const a = step.values(call.a);
  const kA = step.values(call.kA);
  for (let i = 0; i < k.length; i++) k[i] = k[i]! * (1 + (a[i]! - 1) * kA[i % kA.length]!);
}

export function addBonus(step: StepData, call: OpArguments["addBonus"]): void {
  const y = step.values(call.y);
  const r = step.values(call.r);
  const k = step.values(call.k);
  const v = step.values(call.v);
  const rK = step.values(call.rK);
  const headElements = rK.length / call.heads;
  for (let start = 0; start < y.length; start += headElements) {
    let bonus = 0;
    for (let i = start; i < start + headElements; i++) bonus += r[i]! * k[i]! * rK[i % rK.length]!;
    for (let i = start; i < start + headElements; i++) y[i] = y[i]! + bonus * v[i]!;
  }
}
