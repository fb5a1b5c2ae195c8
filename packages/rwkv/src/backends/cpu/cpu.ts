// The cpu backend: kernels that replay a command list recorded once per model, in native code where the addon is there,
// else in WebAssembly SIMD on one thread, where each program has a memory of its own, which bounds a model to 4 GB.

import type { NativeKernels } from "../../core/native.ts";
import type { Backend } from "../../ops/backend.ts";
import { createCpuBuilder } from "./builder.ts";
import { NATIVE_LAYOUT, nativeHosts } from "./host-native.ts";
import { wasmHosts } from "./host-wasm.ts";
import { compileKernels } from "./kernels.ts";

export interface CpuOptions {
  /** Finds the native addon, given the layout it must have been built for; absent where there is none. */
  readonly loadNative?: ((layout: string) => Promise<NativeKernels | null>) | undefined;
  /** Threads of the native kernels. */
  readonly nThreads?: number | undefined;
}

/** @throws DeviceError if this engine has no WebAssembly with 128-bit SIMD, or what `loadNative` throws */
export async function createCpuBackend({ loadNative, nThreads = 1 }: CpuOptions = {}): Promise<Backend> {
  const native = (await loadNative?.(NATIVE_LAYOUT)) ?? null;
  const hosts = native === null ? wasmHosts(await compileKernels()) : nativeHosts(native, nThreads);
  const { description, hasInt8Activations } = hosts;
  return {
    name: "cpu",
    description,
    hasInt8Activations,
    createBuilder: ({ maxRows, activations = "f32" }) => createCpuBuilder(hosts, maxRows, activations),
  };
}
