// Where two traces part: the first value in order of computation, in it the first token, in that the first element that is
// further from the other trace's than the tolerance allows.

import { UsageError } from "../core/errors.ts";
import type { Trace, TraceTensor } from "../formats/trace-file.ts";

/** How far values may be apart: |b - a| <= atol + rtol * |a|. NaN equals NaN. */
export interface TraceTolerance {
  /** Absolute tolerance, at least 0. Default 0. */
  readonly atol?: number | undefined;
  /** Tolerance as a share of the first trace's value, at least 0. Default 0. */
  readonly rtol?: number | undefined;
}

/** An element of two traces. */
export interface TracePlace {
  readonly name: string;
  /** Null outside the layers. */
  readonly layer: number | null;
  /** Position in the prompt, from 0; null for a state, which is that after the last token. */
  readonly token: number | null;
  /** Of the element in the value of that token, or in the state. */
  readonly index: readonly number[];
  /** Of the first and of the second trace. */
  readonly values: readonly [number, number];
}

/** How far a value of the second trace is from that of the first. */
export interface TraceTensorDifference {
  readonly name: string;
  readonly nElements: number;
  /** Elements beyond the tolerance. */
  readonly nBeyond: number;
  /** Largest |b - a|; infinite where one of them is not finite and the other is not the same. */
  readonly maxDifference: number;
  /** The first element beyond the tolerance; null if there is none. */
  readonly first: TracePlace | null;
}

/** How far one trace is from another. */
export interface TraceDifference {
  /** Where they part; null if all values that both have are within the tolerance. */
  readonly first: TracePlace | null;
  /** Of what both have, in order of computation. */
  readonly tensors: readonly TraceTensorDifference[];
  /** Names that only one of them has. */
  readonly onlyInFirst: readonly string[];
  readonly onlyInSecond: readonly string[];
}

/**
 * Compares what two traces both have. The order of computation is that of the first trace that `model.trace` made.
 * Dimensions of 1 make no difference between shapes.
 * @throws UsageError if they have no name in common, the shapes of a value differ, or a tolerance is negative
 */
export function diffTraces(a: Trace, b: Trace, { atol = 0, rtol = 0 }: TraceTolerance = {}): TraceDifference {
  for (const [name, value] of Object.entries({ atol, rtol })) {
    if (!(value >= 0)) throw new UsageError(`${name} is ${value}; expected a number of at least 0.`);
  }
  const inOrder = a.origin === null && b.origin !== null ? b : a;
  const names = [...inOrder.tensors.keys()].filter((name) => a.tensors.has(name) && b.tensors.has(name));
  if (names.length === 0) {
    throw new UsageError(
      `The traces have no name in common: the first has ${some(a)}, the second ${some(b)}. Trace the same values.`,
    );
  }
  const tensors = names.map((name) => {
    const [left, right] = [a.tensors.get(name)!, b.tensors.get(name)!];
    checkShapes(name, left, right);
    return compare(name, inOrder.tensors.get(name)!.shape, left.values, right.values, atol, rtol);
  });
  const isMissing =
    ({ tensors: others }: Trace) =>
    (name: string): boolean =>
      !others.has(name);
  return {
    first: tensors.find(({ first }) => first !== null)?.first ?? null,
    tensors,
    onlyInFirst: [...a.tensors.keys()].filter(isMissing(b)),
    onlyInSecond: [...b.tensors.keys()].filter(isMissing(a)),
  };
}

function some({ tensors }: Trace): string {
  const names = [...tensors.keys()];
  if (names.length === 0) return "none";
  return `${names.slice(0, 3).join(", ")}${names.length > 3 ? ` and ${names.length - 3} more` : ""}`;
}

function checkShapes(name: string, a: TraceTensor, b: TraceTensor): void {
  if (withoutOnes(a.shape) === withoutOnes(b.shape)) return;
  throw new UsageError(
    `${name} is [${a.shape.join(", ")}] in the first trace and [${b.shape.join(", ")}] in the second. Trace prompts of the ` +
      `same number of tokens on models of the same sizes.`,
  );
}

function compare(
  name: string,
  shape: readonly number[],
  a: Float32Array,
  b: Float32Array,
  atol: number,
  rtol: number,
): TraceTensorDifference {
  let nBeyond = 0;
  let maxDifference = 0;
  let first: TracePlace | null = null;
  for (let i = 0; i < a.length; i++) {
    const [x, y] = [a[i]!, b[i]!];
    if (x === y || (Number.isNaN(x) && Number.isNaN(y))) continue;
    const distance = Math.abs(y - x);
    const difference = Number.isFinite(distance) ? distance : Infinity;
    maxDifference = Math.max(maxDifference, difference);
    if (difference < Infinity && difference <= atol + rtol * Math.abs(x)) continue;
    nBeyond += 1;
    first ??= placeOf(name, shape, i, [x, y]);
  }
  return { name, nElements: a.length, nBeyond, maxDifference, first };
}

function withoutOnes(shape: readonly number[]): string {
  return shape.filter((dimension) => dimension !== 1).join();
}

function placeOf(
  name: string,
  shape: readonly number[],
  element: number,
  values: readonly [number, number],
): TracePlace {
  const layer = /^blocks\.(\d+)\./.exec(name)?.[1];
  const isState = /(^|\.)state\./.test(name);
  const index: number[] = [];
  let rest = element;
  for (const dimension of shape.toReversed()) {
    index.unshift(rest % dimension);
    rest = Math.floor(rest / dimension);
  }
  const token = isState ? null : (index.shift() ?? null);
  return { name, layer: layer === undefined ? null : Number(layer), token, index, values };
}
