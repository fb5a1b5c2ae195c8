// The handle by which a model file names data. A handle carries a shape and an index, never an address: what lies
// behind it is the backend's affair.

import type { WeightDType } from "../core/dtype.ts";

/**
 * Where the data of a handle lives and how long:
 *
 * - `weight`: read-only, the same for every step
 * - `state`: belongs to a sequence; a kernel sees the slots of this step's runs
 * - `input`: rows that the caller hands to a step
 * - `scratch`: rows that die with the step
 * - `output`: rows that the caller reads after a step
 */
export type TensorKind = "weight" | "state" | "input" | "scratch" | "output";

/**
 * What the leading, run-time dimension of a handle counts:
 *
 * - `none`: there is none (weights), or it is one block per sequence (state)
 * - `token`: T, the tokens of the step over all its runs
 * - `logit`: the rows of the step whose logits are wanted
 */
export type RowKind = "none" | "token" | "logit";

/** A handle; it refers to data of one backend and is meaningless to another. */
export interface Tensor {
  /** Position in the backend's table of tensors; records name tensors by it. */
  readonly index: number;
  readonly kind: TensorKind;
  readonly rows: RowKind;
  /** For messages, traces and taps: `blocks.3.att.key`, `xn`. */
  readonly name: string;
  /** Without the run-time dimension of rows: `[out, in]` for a matrix, `[C]` for rows of width C. */
  readonly shape: readonly number[];
  /** f32 for everything but weights. */
  readonly dtype: WeightDType;
}

/** Elements of one row: the product of the shape. */
export function rowElements(tensor: Tensor): number {
  let product = 1;
  for (const dimension of tensor.shape) product *= dimension;
  return product;
}
