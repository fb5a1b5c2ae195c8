// The webgpu backend: a GPU through WebGPU, natively in browsers and through Dawn in Node. docs/webgpu.md describes its
// kernels and how data lies in its buffers.

import type { Backend, BuilderOptions, ProgramBuilder } from "../../ops/backend.ts";
import { createWebgpuBuilder, type WebgpuBuilderOptions } from "./builder.ts";
import type { GpuFeature } from "./features.ts";
import { openGpu, type BufferCount } from "./gpu.ts";

export interface WebgpuBackend extends Backend {
  createBuilder(options: BuilderOptions & WebgpuBuilderOptions): ProgramBuilder;
  /** Whether the adapter says that the processor does its work. */
  readonly isSoftware: boolean;
  /** The buffers of all programs on this device. */
  countBuffers(): BufferCount;
  /** For tests: takes the device away, as a driver may at any time. */
  loseDevice(): Promise<void>;
}

/**
 * @param webgpu - `navigator.gpu`, or what stands for it
 * @param without - features that are not to be used even where the device has them
 * @throws DeviceError if there is no adapter, or it gives no device
 */
export async function createWebgpuBackend(
  webgpu: GPU,
  without: readonly GpuFeature[] = [],
): Promise<WebgpuBackend> {
  const gpu = await openGpu(webgpu, without);
  return {
    name: "webgpu",
    description: `webgpu: ${gpu.description}`,
    nThreads: 1,
    hasInt8Activations: true,
    kernels: null,
    isSoftware: gpu.isSoftware,
    createBuilder: (options) => createWebgpuBuilder(gpu, options),
    countBuffers: () => gpu.count(),
    async loseDevice() {
      gpu.device.destroy();
      await gpu.device.lost;
    },
  };
}
