// The kernels as WebAssembly modules, compiled from the base64 texts that the build leaves in generated/: for a single
// thread and for several on shared memory, each with and without relaxed SIMD. All give the same bits.

import { DeviceError } from "../../core/errors.ts";

/** Runs part `part` of `nParts` of the records `[first, last)` on thread `thread`; see wasm/run.ts. */
export type RunKernels = (
  context: number,
  first: number,
  last: number,
  part: number,
  nParts: number,
  thread: number,
) => void;

/** What a host does to the weights of a program; see wasm/pack.ts and wasm/pack-columns.ts. */
export interface Packing {
  pack(dtype: number, matrix: number, nOut: number, rowBytes: number, scratch: number): void;
  isFinitePanels(dtype: number, matrix: number, byteLength: number): number;
  packColumns(dtype: number, matrix: number, nOut: number, nIn: number, scratch: number): void;
  isFiniteColumns(dtype: number, matrix: number, byteLength: number): number;
}

/** Instructions that kernels are made of. */
export type Simd = "simd" | "relaxed";

/** A function that returns i32x4.relaxed_dot_i8x16_i7x16_add_s of zeros. */
const RELAXED_MODULE = Uint8Array.of(
  ...[0x00, 0x61, 0x73, 0x6d, 0x01, 0x00, 0x00, 0x00], // magic and version
  ...[0x01, 0x05, 0x01, 0x60, 0x00, 0x01, 0x7b], // types: () -> v128
  ...[0x03, 0x02, 0x01, 0x00], // functions
  ...[0x0a, 0x13, 0x01, 0x11, 0x00], // code
  ...[0x41, 0x00, 0xfd, 0x0f, 0x41, 0x00, 0xfd, 0x0f, 0x41, 0x00, 0xfd, 0x0f, 0xfd, 0x93, 0x02, 0x0b],
);

/** The best that this engine has. */
export function findSimd(): Simd {
  return WebAssembly.validate(RELAXED_MODULE) ? "relaxed" : "simd";
}

async function loadKernels(memory: "own" | "shared", simd: Simd): Promise<{ KERNELS_BASE64: string }> {
  switch (simd) {
    case "simd":
      return memory === "own" ? import("./generated/kernels.ts") : import("./generated/kernels-shared.ts");
    case "relaxed":
      return memory === "own"
        ? import("./generated/kernels-relaxed.ts")
        : import("./generated/kernels-relaxed-shared.ts");
  }
}

/** @throws DeviceError if this engine has no WebAssembly with 128-bit SIMD */
export async function compileKernels(
  memory: "own" | "shared",
  simd: Simd = findSimd(),
): Promise<WebAssembly.Module> {
  const { KERNELS_BASE64 } = await loadKernels(memory, simd);
  const text = atob(KERNELS_BASE64);
  const bytes = Uint8Array.from(text, (character) => character.charCodeAt(0));
  try {
    return await WebAssembly.compile(bytes);
  } catch (cause) {
    throw new DeviceError(
      `The cpu backend needs WebAssembly with 128-bit SIMD, which this engine refuses. Use Node 20.19 or later, or a ` +
        `current Chromium, Firefox or Safari.`,
      { cause },
    );
  }
}

/** What the kernels for several threads import for waiting, which the calling thread never does. */
function onlyInThreads(): never {
  throw new Error("The calling thread does not take part in a step of several threads.");
}

async function instantiate(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
): Promise<WebAssembly.Exports> {
  const { exports } = await WebAssembly.instantiate(module, {
    env: { memory },
    thread: { sleep: onlyInThreads, wake: onlyInThreads, finish: onlyInThreads },
  });
  return exports;
}

/** An instance of the kernels, of either module, on one memory: for the calling thread alone. */
export async function instantiateKernels(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
): Promise<RunKernels> {
  return (await instantiate(module, memory))["run"] as RunKernels;
}

/** The functions that bring weights into order, on one memory. */
export async function instantiatePacking(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
): Promise<Packing> {
  return (await instantiate(module, memory)) as unknown as Packing;
}
