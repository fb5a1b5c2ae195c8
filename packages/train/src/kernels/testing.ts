// For tests of kernels: arrays between guard words, filled alike for every set, and the comparison with the reference set,
// which computes the same call in f64.

import { expect } from "vitest";
import type { KernelModule, Numbers, TrainKernels } from "./kernels.ts";
import { nativeKernels, type NativeTrainAddon } from "./native/native.ts";
import { referenceKernels } from "./reference/reference.ts";
import { wasmKernels } from "./wasm-kernels.ts";

/** Elements on either side of an array. They are no numbers, so that a result that counts one in shows it. */
const GUARD = 16;
const MEMORY_BYTES = 1 << 24;

/** Uniform in [0, 1), from a seed. */
export function seededRandom(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

/** Hands out arrays in the memory of one set of kernels; the same calls give every set the same values. */
export class Arrays {
  readonly #buffer: ArrayBufferLike;
  readonly #isF64: boolean;
  readonly #random = seededRandom(7);
  readonly #guarded: { readonly whole: Numbers; readonly length: number }[] = [];
  #next: number;

  constructor(module: KernelModule, memory: SharedArrayBuffer | WebAssembly.Memory) {
    this.#buffer = memory instanceof SharedArrayBuffer ? memory : memory.buffer;
    this.#isF64 = module.precision === "f64";
    this.#next = module.reservedByteLength;
  }

  /** Values in [low, high), rounded to f32 in every set. Their place is a multiple of 4 bytes, not of a vector's. */
  uniform(length: number, low = -1, high = 1): Numbers {
    const whole = this.#place(length);
    for (let i = 0; i < length; i++) {
      whole[GUARD + i] = Math.fround(low + (high - low) * this.#random());
    }
    return whole.subarray(GUARD, GUARD + length);
  }

  zeros(length: number): Numbers {
    return this.uniform(length, 0, 0);
  }

  /** @throws what `expect` throws if a kernel wrote beside an array */
  checkGuards(): void {
    for (const { whole, length } of this.#guarded) {
      const before = whole.subarray(0, GUARD);
      const behind = whole.subarray(GUARD + length);
      expect([...before, ...behind].every(Number.isNaN), `written beside ${length} elements`).toBe(true);
    }
  }

  #place(length: number): Numbers {
    const nElements = length + 2 * GUARD + 1;
    const whole = this.#isF64
      ? new Float64Array(this.#buffer, Math.ceil(this.#next / 8) * 8, nElements)
      : new Float32Array(this.#buffer, this.#next, nElements);
    this.#next = whole.byteOffset + whole.byteLength;
    whole.fill(NaN);
    this.#guarded.push({ whole, length });
    return whole;
  }
}

/** What a case computes: its outputs by name. */
export type KernelCase = (kernels: TrainKernels, arrays: Arrays) => Readonly<Record<string, Numbers>>;

/**
 * Runs a case on `module` and on the reference set in f64.
 * @param nRoundings - of the longest chain of operations that reaches an output. Each output may be off by as many halves
 * of a unit in the last place of the largest value of its array.
 */
export function expectLikeReference(module: KernelModule, run: KernelCase, nRoundings: number): void {
  const reference = referenceKernels("f64");
  const wanted = outputsOf(reference, run);
  const found = outputsOf(module, run);
  for (const [name, want] of Object.entries(wanted)) {
    const got = found[name]!;
    let largest = 0;
    for (const value of want) largest = Math.max(largest, Math.abs(value));
    const limit = nRoundings * 2 ** -24 * largest;
    for (let i = 0; i < want.length; i++) {
      if (Math.abs(got[i]! - want[i]!) <= limit) continue;
      expect.fail(`${module.name}: ${name}[${i}] is ${got[i]}, reference ${want[i]}, limit ${limit}`);
    }
  }
}

function outputsOf(module: KernelModule, run: KernelCase): Readonly<Record<string, Numbers>> {
  const memory = module.createMemory(MEMORY_BYTES);
  const arrays = new Arrays(module, memory);
  const outputs = run(module.open(memory), arrays);
  arrays.checkGuards();
  return outputs;
}

/** The sets that run here; why another does not is printed. The reference set in f32 shows that the tests can be passed. */
export async function modulesHere(): Promise<readonly KernelModule[]> {
  const modules: KernelModule[] = [referenceKernels("f32")];
  for (const kernelSet of ["avx512", "avx2", "neon"]) {
    try {
      const { addon } = (await import("rwkv-native")) as { addon: NativeTrainAddon };
      modules.push(nativeKernels(addon, kernelSet));
    } catch (error) {
      console.log(`skipped: native ${kernelSet}: ${(error as Error).message.split("\n")[0]!}`);
    }
  }
  for (const simd of ["relaxed", "simd"] as const) {
    try {
      modules.push(await wasmKernels(simd));
    } catch (error) {
      console.log(`skipped: wasm ${simd}: ${(error as Error).message}`);
    }
  }
  return modules;
}

export interface RowShape {
  readonly title: string;
  readonly runs: Int32Array;
  readonly rows: number;
  readonly nRuns: number;
  readonly width: number;
  readonly heads: number;
  readonly N: number;
}

/** A single row; heads of 10; several chunks and heads of 24; heads of 64; of 128. */
export const SHAPES: readonly RowShape[] = [
  { runs: [0, 1], width: 16, heads: 1 },
  { runs: [0, 3, 7], width: 30, heads: 3 },
  { runs: [0, 1, 34, 65], width: 72, heads: 3 },
  { runs: [0, 5, 23], width: 64, heads: 2 },
  { runs: [0, 20], width: 128, heads: 2 },
  { runs: [0, 18], width: 128, heads: 1 },
].map(({ runs, width, heads }) => ({
  title: `runs ${runs.join(" ")}, ${heads} heads of ${width / heads}`,
  runs: Int32Array.from(runs),
  rows: runs.at(-1)!,
  nRuns: runs.length - 1,
  width,
  heads,
  N: width / heads,
}));

export interface GradientMode {
  readonly title: string;
  readonly added: number;
  readonly isWanted: boolean;
}

/** Gradients of rows set, added to, and some of each; those of weights and states wanted or null. */
export const MODES: readonly GradientMode[] = [
  { title: "all set", added: 0, isWanted: true },
  { title: "all added to", added: 0b111111, isWanted: true },
  { title: "every second added to, weights not wanted", added: 0b101010, isWanted: false },
];

/** The gradients that were wanted. */
export function outputsOfCase(named: Readonly<Record<string, Numbers | null>>): Record<string, Numbers> {
  return Object.fromEntries(
    Object.entries(named).filter((entry): entry is [string, Numbers] => entry[1] !== null),
  );
}

/** Random arrays for one shape, and gradients for one mode. */
export function fillers(
  arrays: Arrays,
  { rows, width, nRuns, N }: RowShape,
  { isWanted }: GradientMode = MODES[0]!,
) {
  const perRun = nRuns * width;
  return {
    row: () => arrays.uniform(rows * width),
    rowList: (n: number) => Array.from({ length: n }, () => arrays.uniform(rows * width)),
    weight: () => arrays.uniform(width),
    weightList: (n: number) => Array.from({ length: n }, () => arrays.uniform(width)),
    perRun: () => arrays.uniform(perRun),
    state: () => arrays.uniform(perRun * N),
    dWeight: () => (isWanted ? arrays.uniform(width) : null),
    dPerRun: () => (isWanted ? arrays.uniform(perRun) : null),
    dState: () => (isWanted ? arrays.uniform(perRun * N) : null),
  };
}
