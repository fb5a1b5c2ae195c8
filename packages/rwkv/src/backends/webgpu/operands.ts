// What dispatches are made of: where handles are, numbers, and how much is moved.

import { rowElements, type Tensor } from "../../ops/tensor.ts";
import type { Access } from "./access.ts";
import type { KernelOperand, KernelScalar } from "./kernels/kernel.ts";
import type { Place } from "./memory.ts";
import type { Matrix } from "./weights.ts";

/** Where the values of handles are. */
export interface Places {
  /** Of everything but matrices. */
  readonly placeOf: (tensor: Tensor) => Place;
  readonly matrixOf: (tensor: Tensor) => Matrix;
  /** Where the products with a matrix count their inputs; for those that skip zeros. */
  readonly countsOf: (matrix: Tensor) => Place;
}

export function operandOf(
  name: string,
  tensor: Tensor,
  { placeOf }: Places,
  isWritten: boolean,
): KernelOperand {
  return { name, place: placeOf(tensor), isWritten, type: "f32" };
}

export const u32 = (name: string, value: number): KernelScalar => ({ name, type: "u32", value });
export const f32 = (name: string, value: number): KernelScalar => ({ name, type: "f32", value });

export function rowsOf({ rows }: Tensor): "token" | "logit" {
  return rows === "logit" ? "logit" : "token";
}

/** Bytes of one row of all that is not a matrix: read once, and written once. */
export function bytesOfRows({ reads, writes }: Access): number {
  return [...new Set(reads), ...new Set(writes)]
    .filter(({ kind, shape }) => kind !== "weight" || shape.length === 1)
    .reduce((bytes, tensor) => bytes + 4 * rowElements(tensor), 0);
}
