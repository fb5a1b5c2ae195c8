// Matrix products: matmul and the low-rank maps. The contract of each operation is in ops/ops.ts.

import type { OpArguments } from "../../ops/signature.ts";
import { rowElements } from "../../ops/tensor.ts";
import { ACTIVATIONS } from "./elementwise.ts";
import type { StepData } from "./step-data.ts";
import type { Values } from "./values.ts";

export function matmul(step: StepData, call: OpArguments["matmul"]): void {
  const x = step.values(call.x);
  const w = step.values(call.w);
  const out = step.values(call.out);
  const nOut = rowElements(call.out);
  for (let at = 0; at < out.length; at++) out[at] = product(w, x, Math.floor(at / nOut), at % nOut, nOut);
}

export function lora(step: StepData, call: OpArguments["lora"]): void {
  const x = step.values(call.x);
  const down = step.values(call.down);
  const up = step.values(call.up);
  const bias = call.bias === null ? null : step.values(call.bias);
  const out = step.values(call.out);
  const inner = ACTIVATIONS[call.inner];
  const outer = ACTIVATIONS[call.outer];
  const rank = call.down.shape[0]!;
  const nOut = rowElements(call.out);
  const hidden = new Float64Array(rank); // never a stored value: it keeps its f64 bits
  for (let t = 0; t < out.length / nOut; t++) {
    for (let i = 0; i < rank; i++) hidden[i] = inner(product(down, x, t, i, rank));
    for (let o = 0; o < nOut; o++) {
      out[t * nOut + o] = outer((bias?.[o] ?? 0) + product(up, hidden, 0, o, nOut));
    }
  }
}

/** Row `o` of the matrix `w` [nOut, nIn] times row `t` of `x` [T, nIn]. */
function product(w: Values, x: Values, t: number, o: number, nOut: number): number {
  const nIn = w.length / nOut;
  let sum = 0;
  for (let i = 0; i < nIn; i++) sum += w[o * nIn + i]! * x[t * nIn + i]!;
  return sum;
}
