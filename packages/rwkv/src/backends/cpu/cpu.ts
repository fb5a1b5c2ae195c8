// The cpu backend: kernels in WebAssembly SIMD that replay a command list recorded once per model, on one thread.
// Each program has a memory of its own, which bounds a model to 4 GB.

import type { Backend } from "../../ops/backend.ts";
import { createCpuBuilder } from "./builder.ts";
import { compileKernels } from "./kernels.ts";
import { Pacer } from "./pacer.ts";

/** @throws DeviceError if this engine has no WebAssembly with 128-bit SIMD */
export async function createCpuBackend(): Promise<Backend> {
  const module = await compileKernels();
  const pacer = new Pacer();
  return {
    name: "cpu",
    description: "cpu: WebAssembly SIMD, 1 thread",
    kernels: "wasm-simd",
    createBuilder: ({ maxRows }) => createCpuBuilder(module, pacer, maxRows),
  };
}
