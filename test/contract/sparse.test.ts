// Products with a matrix whose inputs are mostly zero, on every set of kernels: skipping them changes no bit, and loses no
// NaN; the share of zeros is counted.

import { describe, expect, test } from "vitest";
import { createCpuBackend } from "../../packages/rwkv/src/backends/cpu/cpu.ts";
import {
  buildProgram,
  seededRandom,
  stepAll,
  threadedBackend,
  uploadOf,
} from "../../packages/rwkv/src/backends/cpu/testing.ts";
import { DTYPES, isDType, isQuantized, isWeightDType } from "../../packages/rwkv/src/core/dtype.ts";
import { hasLayouts } from "../../packages/rwkv/src/core/layout.ts";
import type { NativeAddon, NativeKernels } from "../../packages/rwkv/src/core/native.ts";
import type { Activations, Backend, Program } from "../../packages/rwkv/src/ops/backend.ts";
import { seeded, storedWeight, type DeviceDType, type Fill } from "./data.ts";
import { nodeThreads } from "../../packages/rwkv/src/platform/node/threads.ts";
import { NATIVE, WASM } from "../support/backends.ts";
import { WEBGPU } from "../support/webgpu.ts";

const DEVICE_DTYPES: readonly DeviceDType[] = Object.keys(DTYPES)
  .filter(isDType)
  .filter(isWeightDType)
  .filter((dtype) => dtype !== "f64")
  .filter(hasLayouts);

const N_IN = 256;
/** Odd, several segments of outputs, a share for each of three threads. */
const OUTS = [5, 33, 100, 330];
/** On both sides of where the matrix is read densely, and more than a tile takes. */
const ROWS = [1, 2, 7, 64];

/** Weights of every size: a sixth of them is subnormal in f16. */
const anySize: Fill = (random) => 0.5 * random() ** 5;

async function productOf(
  backend: Backend,
  dtype: DeviceDType,
  nOut: number,
  activations: Activations,
  skipZeros: boolean,
): Promise<Program> {
  const builder = backend.createBuilder({ maxRows: 64, activations, skipZeros });
  const { bytes } = storedWeight(dtype, [nOut, N_IN], anySize, seeded(7));
  const w = await builder.weight({ ...uploadOf("w", [nOut, N_IN], bytes, dtype), hasSparseInputs: true });
  return buildProgram(builder, N_IN, nOut, (inputs) => {
    const product = builder.scratch("product", [nOut], "token");
    return (ops) => {
      ops.matmul(product, w, inputs.x);
      return product;
    };
  });
}

/** The share of zeros in every second block of 32, and half of that in the others. */
function rowsWithZeros(nRows: number, share: number): Float32Array {
  const random = seededRandom(nRows);
  return Float32Array.from({ length: nRows * N_IN }, (_, i) => {
    const value = 4 * random() - 2;
    return random() < ((i >> 5) % 2 === 0 ? share : share / 2) ? 0 : value;
  });
}

async function results(backend: Backend, dtype: DeviceDType, skipZeros: boolean): Promise<Float32Array[]> {
  const found: Float32Array[] = [];
  const settings: readonly Activations[] = isQuantized(dtype) ? ["f32", "int8"] : ["f32"];
  for (const activations of settings) {
    for (const nOut of OUTS) {
      const program = await productOf(backend, dtype, nOut, activations, skipZeros);
      const slot = program.createSlot();
      for (const nRows of ROWS) {
        for (const share of [0, 0.5, 1]) {
          found.push(await stepAll(program, slot, rowsWithZeros(nRows, share), N_IN));
        }
      }
      program.dispose();
    }
  }
  return found;
}

/** Those whose kernels read blocks as they are, zeros or not. */
const READS_ALL_BLOCKS = [WASM, ...WEBGPU].map(({ name }) => name);

describe.each([WASM, ...NATIVE, ...WEBGPU])("products with sparse inputs, $name", ({ name, create }) => {
  test.each(DEVICE_DTYPES)("of %s have the bits of those that skip nothing", async (dtype) => {
    const backend = await create();
    expect(await results(backend, dtype, true)).toEqual(await results(backend, dtype, false));
  });

  test.each([NaN, Infinity, -Infinity])("an input of %s is not lost among zeros", async (value) => {
    for (const dtype of DEVICE_DTYPES) {
      const program = await productOf(await create(), dtype, 33, isQuantized(dtype) ? "int8" : "f32", true);
      const slot = program.createSlot();
      for (const nRows of ROWS) {
        const rows = new Float32Array(nRows * N_IN);
        rows[(nRows - 1) * N_IN + 200] = value;
        const got = await stepAll(program, slot, rows, N_IN);
        expect(got.subarray(0, -33).every((y) => y === 0)).toBe(true);
        expect(got.subarray(-33).every((y) => !Number.isFinite(y))).toBe(true);
      }
      program.dispose();
    }
  });

  test("zero inputs are counted where a program skips any, in steps of few rows", async () => {
    const backend = await create();
    for (const [dtype, activations] of [
      ["f16", "f32"],
      ["q8_0", "f32"],
      ["q8_0", "int8"],
    ] as const) {
      const program = await productOf(backend, dtype, 100, activations, true);
      const slot = program.createSlot();
      const [few, many] = [rowsWithZeros(2, 0.5), rowsWithZeros(64, 0.5)];
      const nInputs = 2 * few.length;
      const nZeros = 2 * few.filter((x) => x === 0).length;
      if (READS_ALL_BLOCKS.includes(name) && isQuantized(dtype)) {
        expect(program.zeroInputs()).toBeNull();
        program.dispose();
        continue;
      }
      expect(program.zeroInputs()).toEqual({ nInputs: 0, nZeros: 0 });
      for (const rows of [few, many, few]) await stepAll(program, slot, rows, N_IN);
      const counts = program.zeroInputs()!;
      expect(counts.nInputs).toBe(nInputs);
      // Rounding makes a few more.
      expect(counts.nZeros).toBeGreaterThanOrEqual(nZeros);
      expect(counts.nZeros).toBeLessThan(nZeros + (activations === "int8" ? 0.02 * nInputs : 1));
      program.dispose();
      expect(() => program.zeroInputs()).toThrow(/disposed/);
      const dense = await productOf(backend, dtype, 100, activations, false);
      expect(dense.zeroInputs()).toBeNull();
      dense.dispose();
    }
  });
});

describe.each(["f16", "q8_0", "q4"] as const)("products of %s with sparse inputs, threads", (dtype) => {
  const sameBits = async (backends: readonly Backend[]): Promise<void> => {
    const [one, ...more] = await Promise.all(backends.map((backend) => results(backend, dtype, true)));
    for (const several of more) expect(several).toEqual(one);
  };

  test.skipIf(NATIVE.length === 0)("1, 2 and 3 native ones give the same bits", async () => {
    const addon = (await import("rwkv-native")).addon as NativeAddon;
    const kernels = { addon, kernelSet: addon.kernelSets[0]! };
    const loadNative = (): Promise<NativeKernels> => Promise.resolve(kernels);
    await sameBits(await Promise.all([1, 2, 3].map((threads) => createCpuBackend({ loadNative, threads }))));
  });

  test("1, 2 and 3 of WebAssembly give the same bits", async () => {
    await sameBits([
      await createCpuBackend({ threads: 1 }),
      await threadedBackend(2, nodeThreads),
      await threadedBackend(3, nodeThreads),
    ]);
  });
});
