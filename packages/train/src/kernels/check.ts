// What is asked of the arguments of kernels outside JavaScript, which would read and write behind an array's end without
// a word. Each call is checked once, before it starts; a check costs some hundred nanoseconds.

import { ShapeError, UnsupportedError } from "rwkv";
import { MAX_HEAD_SIZE, MAX_LIST } from "./calls.ts";
import type { Numbers } from "./kernels.ts";

/** @throws ShapeError unless `array` is f32 and has at least `nElements` */
export function need(kernel: string, argument: string, array: Numbers, nElements: number): void {
  if (!(array instanceof Float32Array)) {
    throw new ShapeError(
      `${kernel}: ${argument} is f64, but these kernels take f32. Use the reference kernels for f64.`,
    );
  }
  if (!(array.length >= nElements)) {
    throw new ShapeError(
      `${kernel}: ${argument} has ${array.length} elements, but needs at least ${nElements}.`,
    );
  }
}

/** The same for arguments of one length. */
export function needAll(
  kernel: string,
  nElements: number,
  named: Readonly<Record<string, Numbers | null>>,
): void {
  for (const name in named) {
    const array = named[name];
    if (array) need(kernel, name, array, nElements);
  }
}

/** @throws ShapeError unless the lists have the same length, of 1 to 8 */
export function needLists(
  kernel: string,
  first: readonly unknown[],
  ...others: (readonly unknown[])[]
): void {
  for (const list of [first, ...others]) {
    if (list.length === first.length && first.length >= 1 && first.length <= MAX_LIST) continue;
    throw new ShapeError(
      `${kernel}: lists of ${first.length} and ${list.length} arrays; expected the same number, from 1 to ${MAX_LIST}.`,
    );
  }
}

/**
 * Checks that runs begin at row 0 and have at least one row each.
 * @returns the number of rows
 */
export function rowsOf(kernel: string, runs: Int32Array): number {
  for (let i = 0; i < runs.length; i++) {
    const row = runs[i]!;
    if (i === 0 ? row === 0 : row > runs[i - 1]!) continue;
    throw new ShapeError(`${kernel}: runs[${i}] is ${row}; runs must begin with 0 and increase.`);
  }
  if (runs.length < 2)
    throw new ShapeError(`${kernel}: runs has ${runs.length} elements; expected at least 2.`);
  return runs[runs.length - 1]!;
}

/** @returns the width of a head. @throws ShapeError if heads do not divide the row */
export function headSizeOf(kernel: string, width: number, heads: number): number {
  const headSize = width / heads;
  if (Number.isInteger(headSize) && headSize > 0) return headSize;
  throw new ShapeError(`${kernel}: rows of ${width} elements cannot be cut into ${heads} heads.`);
}

/** The same for a recurrence. @throws UnsupportedError for heads that are wider than there is room for */
export function stateHeadSizeOf(kernel: string, width: number, heads: number): number {
  const headSize = headSizeOf(kernel, width, heads);
  if (headSize <= MAX_HEAD_SIZE) return headSize;
  throw new UnsupportedError(
    `${kernel}: heads of ${headSize} elements; these kernels go up to ${MAX_HEAD_SIZE}. Use the reference kernels.`,
  );
}

/** @throws ShapeError unless all of the first `rows` targets are -1 or tokens */
export function needTargets(kernel: string, targets: Int32Array, rows: number, vocab: number): void {
  if (targets.length < rows) {
    throw new ShapeError(`${kernel}: targets has ${targets.length} elements, but needs at least ${rows}.`);
  }
  for (let row = 0; row < rows; row++) {
    const target = targets[row]!;
    if (target >= -1 && target < vocab) continue;
    throw new ShapeError(`${kernel}: targets[${row}] is ${target}; expected -1 or a token below ${vocab}.`);
  }
}
