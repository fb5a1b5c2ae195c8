// The backends that every golden test runs on, and what f32 arithmetic in any order may differ by from f64.

import { createCpuBackend } from "../../packages/rwkv/src/backends/cpu/cpu.ts";
import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import type { Backend } from "../../packages/rwkv/src/ops/backend.ts";

export interface TestBackend {
  readonly name: string;
  readonly create: () => Promise<Backend>;
}

export const REFERENCE_F64: TestBackend = {
  name: "reference f64",
  create: () => Promise.resolve(createReferenceBackend({ storage: "f64" })),
};

export const REFERENCE_F32: TestBackend = {
  name: "reference f32",
  create: () => Promise.resolve(createReferenceBackend({ storage: "f32" })),
};

export const CPU: TestBackend = { name: "cpu", create: createCpuBackend };

export const BACKENDS: readonly TestBackend[] = [REFERENCE_F64, REFERENCE_F32, CPU];
