// What a recorded forward pass is made of: values that are written once, and nodes that know their backward. Hides from
// the nodes where values lie, and from the layout what nodes compute.

import type { Numbers, TrainKernels } from "../kernels/kernels.ts";

/** One version of a handle of the forward pass, or something kept for the backward. Never written twice in a step. */
export interface Value {
  readonly id: number;
  readonly name: string;
  /** What its leading dimension counts: rows of the step, its runs, or the kept states of a recurrence. */
  readonly per: "row" | "run" | "chunk";
  /** Elements per row, run or chunk. */
  readonly elements: number;
  /** Whether a trained parameter has a part in it, so that its gradient is needed. */
  readonly isWanted: boolean;
}

/** A weight as the forward pass uses it. */
export interface Weight {
  readonly name: string;
  readonly shape: readonly number[];
  readonly isTrained: boolean;
}

/** Rows of a step. */
export interface Step {
  readonly rows: number;
  /** `[runs + 1]`, the first row of each run and the end; in the kernels' memory. */
  readonly runs: Int32Array;
}

/** Where the values of one tape lie. */
export interface Places {
  data(value: Value): Numbers;
  /** Its gradient; for a value that is not wanted, a place that nobody reads. */
  gradient(value: Value): Numbers;
  weight(weight: Weight): Numbers;
  /** Null if the weight is not trained. */
  weightGradient(weight: Weight): Numbers | null;
  /** By the name of the state; see the rules of kernels.ts. Null if nobody wants it. */
  stateGradient(name: string): Numbers | null;
}

/** The gradient of `from` is added, times `scale`, to that of `to`. */
export interface Pass {
  readonly from: Value;
  readonly to: Value;
  readonly scale: number;
}

/** One operation of the recorded pass. */
export interface Node {
  readonly op: string;
  readonly reads: readonly Value[];
  readonly writes: readonly Value[];
  /** Values whose data the backward reads. */
  readonly keeps: readonly Value[];
  /** Values whose gradients the backward reads. */
  readonly gradientsOf: readonly Value[];
  /** Whether it overwrites these gradients. */
  readonly overwrites?: boolean;
  /** Values whose gradients the backward sets, or adds to, in the order of the bits of `added`. */
  readonly gradients: readonly Value[];
  /** Rows that only the backward needs; their place is that of their gradient. */
  readonly scratch?: readonly Value[];
  /** What is left to do with gradients after the backward. */
  readonly passes?: readonly Pass[];
  forward(kernels: TrainKernels, places: Places, step: Step): void;
  /** Absent if there is nothing to do but passes. */
  backward?(kernels: TrainKernels, places: Places, step: Step, added: number): void;
}

/** A state of the forward pass: its version before the step and the one after it. */
export interface StateValues {
  readonly name: string;
  readonly initial: number;
  readonly before: Value;
  readonly after: Value;
}

/** A forward pass, recorded. */
export interface Graph {
  readonly values: readonly Value[];
  readonly nodes: readonly Node[];
  readonly weights: ReadonlyMap<string, Weight>;
  /** Embedding rows `[rows, C]`. */
  readonly input: Value;
  /** `[rows, V]` */
  readonly logits: Value;
  readonly states: readonly StateValues[];
}
