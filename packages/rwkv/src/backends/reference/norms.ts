// layerNorm, groupNorm and l2NormHeads. The contract of each operation is in ops/ops.ts.

import type { OpArguments } from "../../ops/signature.ts";
import { rowElements } from "../../ops/tensor.ts";
import type { StepData } from "./step-data.ts";
import type { Values } from "./values.ts";

export function layerNorm(step: StepData, { out, x, weight, bias, eps }: OpArguments["layerNorm"]): void {
  normalise(step.values(out), step.values(x), step.values(weight), step.values(bias), rowElements(x), eps);
}

export function groupNorm(
  step: StepData,
  { out, x, weight, bias, heads, eps }: OpArguments["groupNorm"],
): void {
  const groupElements = rowElements(x) / heads;
  normalise(step.values(out), step.values(x), step.values(weight), step.values(bias), groupElements, eps);
}

/** Normalises each group of consecutive elements; weight and bias begin anew with each row. */
function normalise(
  out: Values,
  x: Values,
  weight: Values,
  bias: Values,
  groupElements: number,
  eps: number,
): void {
  for (let start = 0; start < x.length; start += groupElements) {
    let sum = 0;
    for (let i = 0; i < groupElements; i++) sum += x[start + i]!;
    const mean = sum / groupElements;

    let squares = 0;
    for (let i = 0; i < groupElements; i++) squares += (x[start + i]! - mean) ** 2;
    const deviation = Math.sqrt(squares / groupElements + eps);

    for (let i = 0; i < groupElements; i++) {
      const channel = (start + i) % weight.length;
      out[start + i] = ((x[start + i]! - mean) / deviation) * weight[channel]! + bias[channel]!;
    }
  }
}

export function l2NormHeads(step: StepData, call: OpArguments["l2NormHeads"]): void {
  const out = step.values(call.out);
  const x = step.values(call.x);
  const scale = step.values(call.scale);
  const width = scale.length;
  const headElements = width / call.heads;
  for (let start = 0; start < x.length; start += headElements) {
    let squares = 0;
    for (let i = start; i < start + headElements; i++) squares += (x[i]! * scale[i % width]!) ** 2;
    const length = Math.max(Math.sqrt(squares), call.eps);
    for (let i = start; i < start + headElements; i++) out[i] = (x[i]! * scale[i % width]!) / length;
  }
}
