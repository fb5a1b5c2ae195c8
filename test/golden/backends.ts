// The backends that every golden test runs on, and what f32 arithmetic in any order may differ by from f64.

import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import { NATIVE, WASM, type TestBackend } from "../support/backends.ts";

export const REFERENCE_F64: TestBackend = {
  name: "reference f64",
  create: () => Promise.resolve(createReferenceBackend({ storage: "f64" })),
};

export const REFERENCE_F32: TestBackend = {
  name: "reference f32",
  create: () => Promise.resolve(createReferenceBackend({ storage: "f32" })),
};

export const CPU = WASM;

export const BACKENDS: readonly TestBackend[] = [REFERENCE_F64, REFERENCE_F32, CPU, ...NATIVE];
