// How contract cases are written down: the shapes they share, and `define`, which makes the seeded arguments of one.

import { countElements } from "../../packages/rwkv/src/core/dtype.ts";
import type { Run } from "../../packages/rwkv/src/ops/backend.ts";
import type { OpName } from "../../packages/rwkv/src/ops/signature.ts";
import type { Argument, ContractCase } from "./case.ts";
import {
  cycle,
  fillArray,
  seeded,
  storedWeight,
  uniform,
  type DeviceDType,
  type Fill,
  type Random,
} from "./data.ts";

export const RAGGED: readonly number[] = [3, 1, 8];
export const RUNS = [[1], [7], RAGGED];

const SEED = 7;

/** Odd, just past a vector register, no power of two, a whole number of blocks. */
export const WIDTHS = [5, 33, 100, 256];

/** [H, N] */
export const HEADS: readonly (readonly [number, number])[] = [
  [3, 8],
  [2, 16],
  [2, 64],
  [1, 100],
];

/** Values at which element-wise operations are apt to go wrong; products of two of them stay finite. */
export const EXTREMES = cycle(0, -0, 1e-40, -1e-40, 1e-20, -1e-20, 1, -1, 1e15, -1e15, 3.5, -2.25e-7);

/** Makes the arguments of a case; one seeded generator serves all of them in order. */
interface Maker {
  readonly random: Random;
  /** Rows with values. */
  readonly rows: (shape: readonly number[], fill?: Fill) => Argument;
  /** An f32 weight. */
  readonly vector: (nElements: number, fill?: Fill) => Argument;
  readonly matrix: (dtype: DeviceDType, shape: readonly number[], hasSparseInputs?: boolean) => Argument;
  readonly state: (shape: readonly number[], fill?: Fill) => Argument;
}

export const onlyWritten = (...shape: readonly number[]): Argument => ({ kind: "rows", shape, values: null });
export const same = (of: string): Argument => ({ kind: "alias", of });

export interface CaseOptions {
  readonly runs: readonly number[];
  readonly rows?: "logit";
  readonly logits?: readonly Run["logits"][];
}

export function define(
  op: OpName,
  details: string,
  { runs, rows, logits }: CaseOptions,
  make: (maker: Maker) => Record<string, Argument>,
  call: ContractCase["call"],
  limits: ContractCase["limits"],
): ContractCase {
  const random = seeded(SEED);
  const nRows = runs.reduce((sum, n) => sum + n, 0);
  const maker: Maker = {
    random,
    rows: (shape, fill = uniform(1)) => ({
      kind: "rows",
      shape,
      values: fillArray(nRows * countElements(shape), fill, random),
    }),
    vector: (nElements, fill = uniform(1)) => ({
      kind: "weight",
      ...storedWeight("f32", [nElements], fill, random),
    }),
    matrix: (dtype, shape, hasSparseInputs = false) => ({
      kind: "weight",
      ...storedWeight(dtype, shape, uniform(0.5), random),
      hasSparseInputs,
    }),
    state: (shape, fill = uniform(1)) => ({
      kind: "state",
      shape,
      initial: 0,
      values: fillArray(runs.length * countElements(shape), fill, random),
    }),
  };
  return {
    op,
    title: `T=${runs.join("+")} ${details}`,
    seed: SEED,
    runs,
    rows: rows ?? "token",
    logits: logits ?? runs.map(() => "all"),
    arguments: make(maker),
    call,
    limits,
  };
}
