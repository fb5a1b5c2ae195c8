// The one place that names the concrete backends, each behind a dynamic import, so that a bundle carries only the
// ones it can reach.

import type { Backend } from "../ops/backend.ts";

/** `cpu`: WASM SIMD. `reference`: plain loops with f64 sums, slow on purpose; the oracle to compare with. */
export type BackendName = "cpu" | "reference";

/** All backends that `loadModel` knows. */
export const BACKEND_NAMES: readonly BackendName[] = ["cpu", "reference"];

export async function createBackend(name: BackendName): Promise<Backend> {
  switch (name) {
    case "cpu": {
      const { createCpuBackend } = await import("../backends/cpu/cpu.ts");
      return createCpuBackend();
    }
    case "reference": {
      const { createReferenceBackend } = await import("../backends/reference/reference.ts");
      return createReferenceBackend();
    }
    default:
      return name satisfies never;
  }
}
