// Small programs for the tests of this folder: uploads from arrays, one run in one slot.

import { byteLengthOf, type WeightDType } from "../../core/dtype.ts";
import type { Program, ProgramBuilder, WeightUpload } from "../../ops/backend.ts";
import type { Tensor } from "../../ops/tensor.ts";

export function uploadOf(
  name: string,
  shape: readonly number[],
  values: Float32Array | Uint8Array,
  dtype: WeightDType = "f32",
): WeightUpload {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return {
    name,
    shape,
    dtype,
    byteLength: byteLengthOf(dtype, shape),
    read: (target) => {
      target.set(bytes);
      return Promise.resolve();
    },
  };
}

export interface Inputs {
  readonly builder: ProgramBuilder;
  readonly x: Tensor;
  readonly output: Tensor;
}

/** A program with one input [width] and an output [outWidth] that copies the rows of what `body` returns. */
export async function buildProgram(
  builder: ProgramBuilder,
  width: number,
  outWidth: number,
  body: (inputs: Inputs) => (ops: Parameters<Parameters<ProgramBuilder["build"]>[0]>[0]) => Tensor,
): Promise<Program> {
  const x = builder.input("x", [width]);
  const output = builder.output("output", [outWidth]);
  const forward = body({ builder, x, output });
  return builder.build((ops) => ops.selectRows(output, forward(ops)));
}

/** Runs all rows of `values` in one step and returns all rows of the output. */
export async function stepAll(
  program: Program,
  slot: number,
  values: Float32Array,
  width: number,
): Promise<Float32Array> {
  const nRows = values.length / width;
  return (await program.step([{ slot, nRows, logits: "all" }], [values])).slice();
}

/** Numbers in [0, 1), the same on every machine (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}
