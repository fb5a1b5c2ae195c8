// A GPU with less than it has, and a driver that goes wrong: for tests of what a machine may lack.

import type { GpuFeature } from "./features.ts";

/** What a restricted GPU is like. */
export interface Restrictions {
  /** Features that are not used even where it has them. */
  readonly without?: readonly GpuFeature[] | undefined;
  /** Most bytes of all buffers together: beyond them there is no memory. */
  readonly memoryBytes?: number | undefined;
  /** Upper bounds of limits, which may be below those that WebGPU promises. */
  readonly limits?: Partial<Pick<GPUSupportedLimits, "maxBufferSize" | "maxStorageBufferBindingSize">>;
  /** Most multiply-adds of one submission. */
  readonly submittedWork?: number | undefined;
  /** Whether it says that the processor does its work. */
  readonly isSoftware?: boolean | undefined;
  /** What the driver compiles in place of a kernel's text. */
  readonly compiles?: ((text: string) => string) | undefined;
}

const restrictionsOf = new WeakMap<GPU, Restrictions>();

/** A GPU of its own, which shares no device with the one it stands for. */
export function restrict(webgpu: GPU, restrictions: Restrictions): GPU {
  const restricted = {
    requestAdapter: (options?: GPURequestAdapterOptions) => webgpu.requestAdapter(options),
    wgslLanguageFeatures: webgpu.wgslLanguageFeatures,
  } as GPU;
  restrictionsOf.set(restricted, restrictions);
  return restricted;
}

export function findRestrictions(webgpu: GPU): Restrictions {
  return restrictionsOf.get(webgpu) ?? {};
}
