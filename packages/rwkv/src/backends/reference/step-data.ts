// What a kernel of the reference backend sees of one step: the values behind its handles and the runs of rows. Hides
// where weights, rows and states are kept.

import type { Tensor } from "../../ops/tensor.ts";
import type { Values } from "./values.ts";

/** The rows of one sequence in the step: `start` up to, not including, `end`. */
export interface RunRows {
  readonly slot: number;
  readonly start: number;
  readonly end: number;
}

export interface StepData {
  /** Values of a weight, or all rows `[T, width]` of an input, scratch or output. */
  values(tensor: Tensor): Values;
  /** Values of a state in the slot of one run. */
  state(tensor: Tensor, run: RunRows): Values;
  readonly runs: readonly RunRows[];
  /** Row numbers whose logits are wanted, ascending. */
  readonly logitRows: readonly number[];
}
