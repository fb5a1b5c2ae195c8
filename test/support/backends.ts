// The backends that tests run on. The native kernels are there where the addon was built; a kernel set that is missing is
// skipped, and why is printed.

import { createCpuBackend } from "../../packages/rwkv/src/backends/cpu/cpu.ts";
import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import { KERNEL_SETS, type KernelSet, type NativeKernels } from "../../packages/rwkv/src/core/native.ts";
import { NATIVE_LAYOUT } from "../../packages/rwkv/src/backends/cpu/host-native.ts";
import { findNative } from "../../packages/rwkv/src/platform/node/native.ts";
import type { Backend } from "../../packages/rwkv/src/ops/backend.ts";

export interface TestBackend {
  readonly name: string;
  readonly create: () => Promise<Backend>;
}

export const WASM: TestBackend = { name: "cpu", create: () => createCpuBackend({ threads: 1 }) };

/** The kernels of that set, or why they cannot be used. */
async function nativeKernels(kernelSet: KernelSet): Promise<NativeKernels | Error> {
  try {
    const found = await findNative({
      setting: kernelSet,
      load: async () => (await import("rwkv-native")).addon as NativeKernels["addon"],
      layout: NATIVE_LAYOUT,
      report: () => undefined,
    });
    return found!;
  } catch (error) {
    return error as Error;
  }
}

const found: TestBackend[] = [];
for (const kernelSet of KERNEL_SETS) {
  const kernels = await nativeKernels(kernelSet);
  if (kernels instanceof Error) {
    console.log(`skipped: native ${kernelSet}: ${kernels.message}`);
    continue;
  }
  const create = (): Promise<Backend> =>
    createCpuBackend({ loadNative: () => Promise.resolve(kernels), threads: 2 });
  found.push({ name: `cpu native ${kernelSet}`, create });
}

/** The kernel sets that this machine can run, with two threads. */
export const NATIVE: readonly TestBackend[] = found;

/** Every backend with f32 storage, as programs use it. */
export const BACKENDS: readonly TestBackend[] = [
  WASM,
  { name: "reference", create: () => Promise.resolve(createReferenceBackend()) },
  ...NATIVE,
];
