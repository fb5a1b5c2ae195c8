// The one place that names the concrete backends, each behind a dynamic import, so that a bundle carries only the
// ones it can reach.

import type { Platform, ThreadHost } from "../core/platform.ts";
import type { Backend } from "../ops/backend.ts";

/** `cpu`: native kernels or WASM SIMD. `reference`: plain loops with f64 sums, slow on purpose; the oracle to compare with. */
export type BackendName = "cpu" | "reference";

/** All backends that `loadModel` knows. */
export const BACKEND_NAMES: readonly BackendName[] = ["cpu", "reference"];

/** What backends may use of the machine. */
export interface BackendResources {
  /** Most threads; a default of the backend if left out. */
  readonly threads?: number | undefined;
  /** Starts threads; null or left out where there are none. */
  readonly host?: ThreadHost | null | undefined;
  /** Finds the native kernels; left out where there can be none. */
  readonly loadNative?: Platform["loadNative"] | undefined;
}

/** @throws DeviceError if this machine lacks what the backend needs */
export async function createBackend(name: BackendName, resources: BackendResources = {}): Promise<Backend> {
  switch (name) {
    case "cpu": {
      const { createCpuBackend } = await import("../backends/cpu/cpu.ts");
      return createCpuBackend(resources);
    }
    case "reference": {
      const { createReferenceBackend } = await import("../backends/reference/reference.ts");
      return createReferenceBackend();
    }
    default:
      return name satisfies never;
  }
}
