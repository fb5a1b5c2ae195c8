// Which function computes which operation.

import type { OpArguments, OpCall, OpName } from "../../ops/signature.ts";
import * as elementwise from "./elementwise.ts";
import { lora, matmul } from "./matmul.ts";
import { groupNorm, l2NormHeads, layerNorm } from "./norms.ts";
import { selectRows, shiftDelta, tokenShift } from "./rows.ts";
import type { StepData } from "./step-data.ts";
import { wkv4, wkv6, wkv7 } from "./wkv.ts";

type Kernels = { readonly [Name in OpName]: (step: StepData, call: Readonly<OpArguments[Name]>) => void };

const KERNELS: Kernels = {
  layerNorm,
  groupNorm,
  tokenShift,
  shiftDelta,
  addMul: elementwise.addMul,
  matmul,
  lora,
  activate: elementwise.activate,
  add: elementwise.add,
  mul: elementwise.mul,
  lerp: elementwise.lerp,
  copy: elementwise.copy,
  selectRows,
  l2NormHeads,
  scaleKey: elementwise.scaleKey,
  addBonus: elementwise.addBonus,
  wkv4,
  wkv6,
  wkv7,
};

/** Computes one operation over all rows of the step. */
export function compute(step: StepData, call: OpCall): void {
  const kernel = KERNELS[call.op] as (step: StepData, call: OpCall) => void;
  kernel(step, call);
}
