// Products on the GPU beyond the contract, which has f32 activations and all features: activations rounded to 8 bits against
// exact arithmetic, and the same bits whatever the kernel, the number of rows and the features in use.

import { describe, expect, test } from "vitest";
import type { GpuFeature } from "../../packages/rwkv/src/backends/webgpu/features.ts";
import { DTYPES, isDType, isQuantized, type QuantDType } from "../../packages/rwkv/src/core/dtype.ts";
import type { Activations, Backend } from "../../packages/rwkv/src/ops/backend.ts";
import { seeded, storedWeight, uniform, type DeviceDType, type StoredWeight } from "../contract/data.ts";
import { roundings } from "../contract/limits.ts";
import { WEBGPU } from "../support/webgpu.ts";

const QUANTIZED = Object.keys(DTYPES)
  .filter(isDType)
  .filter((dtype): dtype is QuantDType => isQuantized(dtype));

/** More blocks than lanes, and more outputs than a tile; the most rows is more than one tile of the widest kernel. */
const N_IN = 768;
const N_OUT = 70;
const N_ROWS = 67;
/** Of the steps that a text of so many rows is cut into: each takes another kernel, or another part of one. */
const STEPS = [1, 3, 8, 20, N_ROWS];

/** Beyond what a kernel lists of sparse inputs at a time, and no multiple of anything. */
const N_SPARSE_IN = 2087;

const create = (without: readonly GpuFeature[] = []): Promise<Backend> => WEBGPU[0]!.create(without);

function inputsOf(nRows: number): Float32Array {
  const random = seeded(11);
  // Blocks of many sizes, some all zero or far below what can be rounded.
  const sizes = [1, 0, 1e-3, 30, 1e-35, 5];
  return Float32Array.from(
    { length: nRows * N_IN },
    (_, i) => sizes[Math.floor(i / 32) % sizes.length]! * random(),
  );
}

const weightOf = (dtype: DeviceDType): StoredWeight =>
  storedWeight(dtype, [N_OUT, N_IN], uniform(0.5), seeded(5));

/** Products of all rows, `perStep` of them in each step; with `skipZeros`, of a matrix whose inputs are called sparse. */
async function products(
  backend: Backend,
  { dtype, shape, bytes }: StoredWeight,
  x: Float32Array,
  activations: Activations,
  perSteps: readonly number[],
  skipZeros?: boolean,
): Promise<Float32Array[]> {
  const [nOut, nIn] = shape as [number, number];
  const builder = backend.createBuilder({ maxRows: x.length / nIn, activations, skipZeros });
  const hasSparseInputs = skipZeros !== undefined;
  const read = (target: Uint8Array): Promise<void> => {
    target.set(bytes);
    return Promise.resolve();
  };
  const w = await builder.weight({
    name: "w",
    dtype,
    shape,
    byteLength: bytes.byteLength,
    hasSparseInputs,
    read,
  });
  const input = builder.input("x", [nIn]);
  const product = builder.scratch("product", [nOut], "token");
  const output = builder.output("out", [nOut]);
  const program = await builder.build((ops) => {
    ops.matmul(product, w, input);
    ops.selectRows(output, product);
  });
  const slot = program.createSlot();
  const results: Float32Array[] = [];
  for (const perStep of perSteps) {
    const all: number[] = [];
    for (let at = 0; at < x.length; at += perStep * nIn) {
      const rows = x.subarray(at, at + perStep * nIn);
      all.push(...(await program.step([{ slot, nRows: rows.length / nIn, logits: "all" }], [rows])));
    }
    results.push(Float32Array.from(all));
  }
  program.dispose();
  return results;
}

/** A row rounded to 8 bits, in f64. */
function rounded(x: Float32Array): Float64Array {
  const values = new Float64Array(x.length);
  for (let first = 0; first < x.length; first += 32) {
    const block = x.subarray(first, first + 32);
    const greatest = block.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    if (greatest < 2 ** -100) continue;
    const inverse = Math.fround(127 / greatest);
    block.forEach((value, i) => {
      values[first + i] = Math.round(Math.fround(value * inverse)) * Math.fround(greatest / 127);
    });
  }
  return values;
}

/** The greatest magnitude of each 16 weights. */
function greatestOfUnits(values: Float32Array): Float64Array {
  const greatest = new Float64Array(values.length / 16);
  values.forEach((value, i) => {
    greatest[i >> 4] = Math.max(greatest[i >> 4]!, Math.abs(value));
  });
  return greatest;
}

describe.skipIf(WEBGPU.length === 0)("products on webgpu", { timeout: 300_000 }, () => {
  test.each(QUANTIZED)(
    "with 8-bit activations, %s is near the exact product of what was rounded",
    async (dtype) => {
      const weight = weightOf(dtype);
      const x = inputsOf(N_ROWS);
      const [got] = await products(await create(), weight, x, "int8", [N_ROWS]);
      const greatest = greatestOfUnits(weight.values);
      for (let row = 0; row < N_ROWS; row++) {
        const inputs = rounded(x.subarray(row * N_IN, (row + 1) * N_IN));
        for (let o = 0; o < N_OUT; o++) {
          let want = 0;
          let magnitude = 0;
          for (let i = 0; i < N_IN; i++) {
            want += weight.values[o * N_IN + i]! * inputs[i]!;
            // As in the limits of the contract: parts of a term may be three times the greatest weight of its scale.
            magnitude += 3 * greatest[(o * N_IN + i) >> 4]! * Math.abs(inputs[i]!);
          }
          const error = Math.abs(got![row * N_OUT + o]! - want);
          expect(error, `row ${row}, output ${o}`).toBeLessThanOrEqual(roundings(N_IN / 8, magnitude));
        }
      }
    },
  );

  test.each(QUANTIZED)("with 8-bit activations, %s gives a row the same bits in any step", async (dtype) => {
    const results = await products(await create(), weightOf(dtype), inputsOf(N_ROWS), "int8", STEPS);
    for (const result of results) expect(result).toEqual(results[0]);
  });

  test.each(["f32", "f16", "bf16", "q8", "q4", "nf4", "q6_k"] as const)(
    "%s gives a row the same bits in any step",
    async (dtype) => {
      const results = await products(await create(), weightOf(dtype), inputsOf(N_ROWS), "f32", STEPS);
      for (const result of results) expect(result).toEqual(results[0]);
    },
  );

  test.each(["f32", "f16", "bf16"] as const)(
    "%s gives a row the same bits in any step, whether zeros are skipped or not",
    async (dtype) => {
      const weight = storedWeight(dtype, [N_OUT, N_SPARSE_IN], uniform(0.5), seeded(5));
      for (const share of [0.5, 0.9, 1]) {
        const random = seeded(13);
        const x = Float32Array.from({ length: N_ROWS * N_SPARSE_IN }, () => {
          const isZero = (1 + random()) / 2 < share;
          return isZero ? 0 : random();
        });
        const backend = await create();
        const [want] = await products(backend, weight, x, "f32", [N_ROWS], false);
        for (const got of await products(backend, weight, x, "f32", STEPS, true)) expect(got).toEqual(want);
      }
    },
  );

  const masked: readonly (readonly GpuFeature[])[] = [
    ["subgroups"],
    ["packed_4x8_integer_dot_product"],
    ["subgroups", "packed_4x8_integer_dot_product"],
  ];
  test.each(masked.map((features) => [features] as const))("without %j all bits stay", async (without) => {
    for (const [dtype, activations] of [
      ["f16", "f32"],
      ["q4", "int8"],
      ["q3_k", "int8"],
    ] as const) {
      const x = inputsOf(9);
      const weight = weightOf(dtype);
      const want = await products(await create(), weight, x, activations, [1, 4, 9]);
      expect(await products(await create(without), weight, x, activations, [1, 4, 9])).toEqual(want);
    }
  });

  test("an infinite or undefined input makes all outputs of its row NaN, and no other", async () => {
    const weight = weightOf("q4");
    const x = inputsOf(5);
    const [usual] = await products(await create(), weight, x, "int8", [5]);
    x[3 * N_IN + 70] = Infinity;
    x[4 * N_IN + 5] = NaN;
    for (const got of await products(await create(), weight, x, "int8", [1, 5])) {
      expect(got.subarray(0, 3 * N_OUT)).toEqual(usual!.subarray(0, 3 * N_OUT));
      expect(got.subarray(3 * N_OUT).every(Number.isNaN)).toBe(true);
    }
  });
});
