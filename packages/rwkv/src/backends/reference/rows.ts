// Operations that move rows: the token shift of both kinds, and the choice of the rows whose logits are wanted. The
// contract of each is in ops/ops.ts.

import type { OpArguments } from "../../ops/signature.ts";
import { rowElements } from "../../ops/tensor.ts";
import type { StepData } from "./step-data.ts";

export function tokenShift(step: StepData, call: OpArguments["tokenShift"]): void {
  const x = step.values(call.x);
  const width = rowElements(call.x);
  const outs = call.outs.map((out, o) => ({ out: step.values(out), mix: step.values(call.mix[o]!) }));
  for (const run of step.runs) {
    const previous = step.state(call.shift, run);
    for (let t = run.start; t < run.end; t++) {
      for (let c = 0; c < width; c++) {
        const current = x[t * width + c]!;
        for (const { out, mix } of outs) {
          out[t * width + c] = current + (previous[c]! - current) * mix[c]!;
        }
        previous[c] = current;
      }
    }
  }
}

export function shiftDelta(step: StepData, call: OpArguments["shiftDelta"]): void {
  const x = step.values(call.x);
  const out = step.values(call.out);
  const width = rowElements(call.x);
  for (const run of step.runs) {
    const previous = step.state(call.shift, run);
    for (let t = run.start; t < run.end; t++) {
      for (let c = 0; c < width; c++) {
        const current = x[t * width + c]!;
        out[t * width + c] = previous[c]! - current;
        previous[c] = current;
      }
    }
  }
}

export function selectRows(step: StepData, call: OpArguments["selectRows"]): void {
  const x = step.values(call.x);
  const out = step.values(call.out);
  const width = rowElements(call.x);
  step.logitRows.forEach((t, row) => {
    out.set(x.subarray(t * width, (t + 1) * width), row * width);
  });
}
