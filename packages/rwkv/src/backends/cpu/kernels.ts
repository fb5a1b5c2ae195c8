// The kernels as WebAssembly modules, compiled from the base64 texts that the build leaves in generated/: one module for
// a single thread, one for several on shared memory.

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

/** @throws DeviceError if this engine has no WebAssembly with 128-bit SIMD */
export async function compileKernels(memory: "own" | "shared"): Promise<WebAssembly.Module> {
  const { KERNELS_BASE64 } =
    memory === "own" ? await import("./generated/kernels.ts") : await import("./generated/kernels-shared.ts");
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

/** An instance of the kernels, of either module, on one memory: for the calling thread alone. */
export async function instantiateKernels(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
): Promise<RunKernels> {
  const { exports } = await WebAssembly.instantiate(module, {
    env: { memory },
    thread: { sleep: onlyInThreads, wake: onlyInThreads, finish: onlyInThreads },
  });
  return exports["run"] as RunKernels;
}
