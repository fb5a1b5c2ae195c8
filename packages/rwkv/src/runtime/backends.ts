// The one place that names the concrete backends, each behind a dynamic import, so that a bundle carries only the
// ones it can reach.

import { DeviceError } from "../core/errors.ts";
import type { Platform, ThreadHost } from "../core/platform.ts";
import type { Backend } from "../ops/backend.ts";

/**
 * `cpu`: native kernels or WASM SIMD. `webgpu`: a GPU, natively in browsers, in Node through the package `webgpu`. `reference`:
 * plain loops with f64 sums, slow on purpose; the oracle to compare with.
 */
export type BackendName = "cpu" | "webgpu" | "reference";

/** All backends that `loadModel` knows. */
export const BACKEND_NAMES: readonly BackendName[] = ["cpu", "webgpu", "reference"];

/** What backends may use of the machine. */
export interface BackendResources {
  /** Most threads; a default of the backend if left out. */
  readonly threads?: number | undefined;
  /** Starts threads; null or left out where there are none. */
  readonly host?: ThreadHost | null | undefined;
  /** Finds the native kernels; left out where there can be none. */
  readonly loadNative?: Platform["loadNative"] | undefined;
  /** Finds WebGPU. */
  readonly loadWebgpu: Platform["loadWebgpu"];
}

/** @throws DeviceError if this machine lacks what the backend needs */
export async function createBackend(name: BackendName, resources: BackendResources): Promise<Backend> {
  switch (name) {
    case "cpu": {
      const { createCpuBackend } = await import("../backends/cpu/cpu.ts");
      return createCpuBackend(resources);
    }
    case "webgpu": {
      const { createWebgpuBackend } = await import("../backends/webgpu/webgpu.ts");
      return createWebgpuBackend(await resources.loadWebgpu());
    }
    case "reference": {
      const { createReferenceBackend } = await import("../backends/reference/reference.ts");
      return createReferenceBackend();
    }
    default:
      return name satisfies never;
  }
}

/** What a model is to run on: `auto` takes a GPU if there is one, and the processor otherwise. */
export type DeviceName = "auto" | "cpu" | "webgpu";

/** All devices that `loadModel` knows. */
export const DEVICE_NAMES: readonly DeviceName[] = ["auto", "cpu", "webgpu"];

/** A device that models can run on, or why one cannot be used. */
export interface DeviceDescription {
  readonly name: Exclude<DeviceName, "auto">;
  /** One line: instruction set, threads, adapter; or why there is none. */
  readonly description: string;
  readonly isUsable: boolean;
  /** Whether `auto` takes it; not a GPU that is only imitated by the processor. */
  readonly isPreferred: boolean;
}

/** What there is to run models on. */
export async function listDevices(resources: BackendResources): Promise<DeviceDescription[]> {
  const devices: DeviceDescription[] = [];
  const gpu = await findGpu(resources);
  const isPreferred = gpu.reason === null;
  if (gpu.description === null) {
    devices.push({ name: "webgpu", description: gpu.reason, isUsable: false, isPreferred: false });
  } else {
    devices.push({ name: "webgpu", description: gpu.description, isUsable: true, isPreferred });
  }
  const { description } = await createBackend("cpu", resources);
  devices.push({ name: "cpu", description, isUsable: true, isPreferred: !isPreferred });
  return devices;
}

type FoundGpu =
  | { readonly description: string; readonly reason: string | null }
  | { readonly description: null; readonly reason: string };

/** The GPU, and why `auto` does not take it, if so. */
export async function findGpu({ loadWebgpu }: BackendResources): Promise<FoundGpu> {
  try {
    const { createWebgpuBackend } = await import("../backends/webgpu/webgpu.ts");
    const { description, isSoftware } = await createWebgpuBackend(await loadWebgpu());
    const reason = isSoftware
      ? `${description} is no GPU: the processor does its work, more slowly than by itself`
      : null;
    return { description, reason };
  } catch (error) {
    if (error instanceof DeviceError) return { description: null, reason: error.message };
    throw error;
  }
}
