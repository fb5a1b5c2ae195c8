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

/**
 * @param adapter - of `webgpu`, a number in the list of its adapters or a part of a name; null for the default one
 * @throws DeviceError if this machine lacks what the backend needs
 */
export async function createBackend(
  name: BackendName,
  resources: BackendResources,
  adapter: string | null = null,
): Promise<Backend> {
  switch (name) {
    case "cpu": {
      const { createCpuBackend } = await import("../backends/cpu/cpu.ts");
      return createCpuBackend(resources);
    }
    case "webgpu": {
      const { createWebgpuBackend } = await import("../backends/webgpu/webgpu.ts");
      const createOracle = (): Promise<Backend> => createBackend("reference", resources);
      return createWebgpuBackend(await resources.loadWebgpu(), {
        adapter: adapter ?? undefined,
        createOracle,
      });
    }
    case "reference": {
      const { createReferenceBackend } = await import("../backends/reference/reference.ts");
      return createReferenceBackend();
    }
    default:
      return name satisfies never;
  }
}

/**
 * What a model is to run on: `auto` takes a GPU if there is one, and the processor otherwise. `webgpu:ADAPTER` is one of several
 * GPUs, by its number in `listDevices` or a part of its description, in any case.
 */
export type DeviceName = "auto" | "cpu" | "webgpu" | `webgpu:${string}`;

/** The devices that `loadModel` knows, but for the adapters. */
export const DEVICE_NAMES: readonly DeviceName[] = ["auto", "cpu", "webgpu"];

const ADAPTER_PREFIX = "webgpu:";

/** Whether `loadModel` takes it; which adapters there are shows only then. */
export function isDeviceName(text: string): text is DeviceName {
  return (
    DEVICE_NAMES.includes(text as DeviceName) ||
    (text.startsWith(ADAPTER_PREFIX) && text.length > ADAPTER_PREFIX.length)
  );
}

/** The backend of a device, and the adapter if it names one. */
export function backendOf(device: Exclude<DeviceName, "auto">): {
  readonly name: BackendName;
  readonly adapter: string | null;
} {
  return device === "cpu" || device === "webgpu"
    ? { name: device, adapter: null }
    : { name: "webgpu", adapter: device.slice(ADAPTER_PREFIX.length) };
}

/** A device that models can run on, or why one cannot be used. */
export interface DeviceDescription {
  /** As `loadModel` takes it. */
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
  const { description: first, reason } = await findGpu(resources);
  if (first === null) {
    devices.push({ name: "webgpu", description: reason, isUsable: false, isPreferred: false });
  } else {
    const { listAdapters } = await import("../backends/webgpu/webgpu.ts");
    const adapters = await listAdapters(await resources.loadWebgpu());
    adapters.forEach(({ description }, i) => {
      const name = i === 0 ? "webgpu" : (`webgpu:${i}` as const);
      const isPreferred = i === 0 && reason === null;
      devices.push({ name, description: `webgpu: ${description}`, isUsable: true, isPreferred });
    });
  }
  const { description } = await createBackend("cpu", resources);
  const isPreferred = devices.every((device) => !device.isPreferred);
  devices.push({ name: "cpu", description, isUsable: true, isPreferred });
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
