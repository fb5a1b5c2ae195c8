// The webgpu backend: a GPU through WebGPU, natively in browsers and through Dawn in Node. docs/webgpu.md describes its
// kernels and how data lies in its buffers.

import type { Backend, BuilderOptions, ProgramBuilder } from "../../ops/backend.ts";
import { findAdapters, type AdapterDescription } from "./adapters.ts";
import { createWebgpuBuilder, type WebgpuBuilderOptions } from "./builder.ts";
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

export interface WebgpuOptions {
  /** A number in the list of `listAdapters`, or a part of a description. Default: the first. */
  readonly adapter?: string | undefined;
  /** What the kernels of a program must agree with before it is used. Default: they are trusted. */
  readonly createOracle?: (() => Promise<Backend>) | undefined;
}

/** The adapters that there are, the default one first. @throws DeviceError if there is none */
export async function listAdapters(webgpu: GPU): Promise<AdapterDescription[]> {
  const found = await findAdapters(webgpu);
  return found.map(({ description, isSoftware }) => ({ description, isSoftware }));
}

/**
 * @param webgpu - `navigator.gpu`, or what stands for it
 * @throws DeviceError if there is no such adapter, or it gives no device
 */
export async function createWebgpuBackend(
  webgpu: GPU,
  { adapter, createOracle }: WebgpuOptions = {},
): Promise<WebgpuBackend> {
  const gpu = await openGpu(webgpu, adapter ?? null);
  return {
    name: "webgpu",
    description: `webgpu: ${gpu.description}`,
    nThreads: 1,
    hasInt8Activations: true,
    kernels: null,
    isSoftware: gpu.isSoftware,
    createBuilder: (options) => createWebgpuBuilder(gpu, options, createOracle ?? null),
    countBuffers: () => gpu.count(),
    async loseDevice() {
      gpu.device.destroy();
      await gpu.device.lost;
    },
  };
}
