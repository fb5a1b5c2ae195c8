// The kernels as a WebAssembly module, compiled from the base64 text that the build leaves in generated/.

import { DeviceError } from "../../core/errors.ts";
import { KERNELS_BASE64 } from "./generated/kernels.ts";

/** Runs part `part` of `nParts` of the records `[first, last)`; see wasm/run.ts. */
export type RunKernels = (context: number, first: number, last: number, part: number, nParts: number) => void;

/** @throws DeviceError if this engine has no WebAssembly with 128-bit SIMD */
export async function compileKernels(): Promise<WebAssembly.Module> {
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

/** An instance of the kernels on one memory. */
export async function instantiateKernels(
  module: WebAssembly.Module,
  memory: WebAssembly.Memory,
): Promise<RunKernels> {
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  return exports["run"] as RunKernels;
}
