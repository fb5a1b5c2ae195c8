// The one place that names the concrete backends, each behind a dynamic import, so that a bundle carries only the
// ones it can reach.

import type { Platform } from "../core/platform.ts";
import type { Backend } from "../ops/backend.ts";

/** `cpu`: native kernels or WASM SIMD. `reference`: plain loops with f64 sums, slow on purpose; the oracle to compare with. */
export type BackendName = "cpu" | "reference";

/** All backends that `loadModel` knows. */
export const BACKEND_NAMES: readonly BackendName[] = ["cpu", "reference"];

/** What a backend is made with. */
export interface BackendOptions {
  /** Most threads to use, where a backend has them. */
  readonly threads?: number | undefined;
}

/** @throws DeviceError if this machine lacks what the backend needs */
export async function createBackend(
  name: BackendName,
  platform: Pick<Platform, "loadNative">,
  { threads }: BackendOptions = {},
): Promise<Backend> {
  switch (name) {
    case "cpu": {
      const { createCpuBackend } = await import("../backends/cpu/cpu.ts");
      return createCpuBackend({ loadNative: platform.loadNative, nThreads: threads });
    }
    case "reference": {
      const { createReferenceBackend } = await import("../backends/reference/reference.ts");
      return createReferenceBackend();
    }
    default:
      return name satisfies never;
  }
}
