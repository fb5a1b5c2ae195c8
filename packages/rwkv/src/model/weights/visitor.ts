// How each version lists its weights: one function per version names every tensor and its official shape, and returns
// them in the structure its forward pass uses. Run once it gives the table to check a file against, run again it
// gives the handles, so that the two cannot disagree.

import { countElements } from "../../core/dtype.ts";

/**
 * What the forward pass needs of a vector:
 *
 * - `asStored`
 * - `currentShare`: v4 and v5 store the share of the current token, the operation wants that of the previous: 1 - m
 * - `logDecay4`: -exp(raw), the logarithm of v4's decay
 * - `decay5`: exp(-exp(raw))
 * - `bonus5`: as stored, unless the file holds its logarithm
 */
export type VectorMeaning = "asStored" | "currentShare" | "logDecay4" | "decay5" | "bonus5";

/** What a weight is, which decides its orientation in files and what may be done to it. */
export type WeightKind = "vector" | "matrix" | "loraDown" | "loraUp" | "embedding" | "position";

/** One weight of the model, by its official name. */
export interface WeightRule {
  readonly name: string;
  readonly kind: WeightKind;
  /** `[n]` for a vector, `[out, in]` for a matrix, low-rank factors included. */
  readonly shape: readonly number[];
  /** As the official files have it. */
  readonly officialShape: readonly number[];
  readonly meaning: VectorMeaning;
  /** How often each element of a vector is repeated on the device: values per head become values per channel. */
  readonly repeat: number;
  /** Whether the inputs of its products are squared ReLUs, most of which are zero. */
  readonly hasSparseInputs: boolean;
}

export interface WeightVisitor<T> {
  vector(name: string, officialShape: readonly number[], meaning?: VectorMeaning, repeat?: number): T;
  /** `[out, in]` */
  matrix(name: string, nOut: number, nIn: number): T;
  /** A matrix whose inputs are squared ReLUs. */
  sparseMatrix(name: string, nOut: number, nIn: number): T;
  /** First factor of a low-rank map, `[rank, in]`; official files hold `[in, rank]`. */
  loraDown(name: string, rank: number, nIn: number): T;
  /** Second factor, `[out, rank]`; official files hold `[rank, out]`. */
  loraUp(name: string, nOut: number, rank: number): T;
}

/** Weight and bias of a norm of width `n`. */
export interface Norm<T> {
  readonly weight: T;
  readonly bias: T;
}

export interface Lora<T> {
  readonly down: T;
  readonly up: T;
  readonly bias: T | null;
}

export function norm<T>(visit: WeightVisitor<T>, name: string, width: number): Norm<T> {
  return { weight: visit.vector(`${name}.weight`, [width]), bias: visit.vector(`${name}.bias`, [width]) };
}

export function vectorRule(
  name: string,
  officialShape: readonly number[],
  meaning: VectorMeaning = "asStored",
  repeat = 1,
): WeightRule {
  const shape = [countElements(officialShape)];
  return { name, kind: "vector", shape, officialShape, meaning, repeat, hasSparseInputs: false };
}

export function matrixRule(
  name: string,
  kind: Exclude<WeightKind, "vector">,
  nOut: number,
  nIn: number,
): WeightRule {
  const isLora = kind === "loraDown" || kind === "loraUp";
  return {
    name,
    kind,
    shape: [nOut, nIn],
    officialShape: isLora ? [nIn, nOut] : [nOut, nIn],
    meaning: "asStored",
    repeat: 1,
    hasSparseInputs: false,
  };
}

/** A visitor that writes down what it is shown. */
export function collectingVisitor(rules: WeightRule[]): WeightVisitor<WeightRule> {
  const add = (rule: WeightRule): WeightRule => {
    rules.push(rule);
    return rule;
  };
  return {
    vector: (name, officialShape, meaning, repeat) => add(vectorRule(name, officialShape, meaning, repeat)),
    matrix: (name, nOut, nIn) => add(matrixRule(name, "matrix", nOut, nIn)),
    sparseMatrix: (name, nOut, nIn) =>
      add({ ...matrixRule(name, "matrix", nOut, nIn), hasSparseInputs: true }),
    loraDown: (name, rank, nIn) => add(matrixRule(name, "loraDown", rank, nIn)),
    loraUp: (name, nOut, rank) => add(matrixRule(name, "loraUp", nOut, rank)),
  };
}

/** A visitor that hands out what has been made for each name. */
export function lookingVisitor<T>(made: ReadonlyMap<string, T>): WeightVisitor<T> {
  const get = (name: string): T => made.get(name)!;
  return { vector: get, matrix: get, sparseMatrix: get, loraDown: get, loraUp: get };
}
