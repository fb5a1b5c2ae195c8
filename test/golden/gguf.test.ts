// Next-token log-probabilities of small random GGUF models, computed in f64 on the decoded weights and by llama.cpp.

import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../packages/rwkv/src/formats/open.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import { NATIVE, WASM, type TestBackend } from "../support/backends.ts";
import { BACKENDS } from "./backends.ts";
import { hasFixture, openFixture, readJson } from "./fixtures.ts";
import { expectClose, runTokens } from "./run-model.ts";

interface Case {
  readonly name: string;
  readonly tokens: readonly number[];
  /** What rounding of activations llama.cpp applied; "none" if it computed in f32. */
  readonly activationRounding: string;
  readonly tol: { readonly exact: number; readonly llamaMax: number; readonly llamaRms: number };
  readonly positions: Readonly<Record<string, Position>>;
}

interface Position {
  readonly ids: readonly number[];
  readonly exact: readonly number[];
  readonly llama: readonly number[];
}

const isThere = hasFixture("gguf/cases.json");
const CASES = isThere ? (readJson("gguf/cases.json") as { cases: readonly Case[] }).cases : [];

test.skipIf(!isThere)("there are six cases", () => {
  expect(CASES).toHaveLength(6);
});

function logProbabilities(logits: Float32Array): Float64Array {
  const largest = logits.reduce((a, b) => Math.max(a, b));
  const sum = logits.reduce((a, b) => a + Math.exp(b - largest), 0);
  return Float64Array.from(logits, (logit) => logit - largest - Math.log(sum));
}

/** Log-probabilities at the places of a case, computed in one step, then one token at a time. */
async function compute(
  backend: TestBackend,
  { name, tokens, positions }: Case,
  activations: "f32" | "int8",
  rowsPerStep: number,
): Promise<{ position: string; got: number[] }[]> {
  const checkpoint = await openCheckpoint(openFixture(`gguf/${name}.gguf`));
  const weights = canonicalWeights(checkpoint);
  const loaded = await loadProgram(await backend.create(), weights, { maxRows: 64, activations });
  const { logits } = await runTokens(loaded, tokens, rowsPerStep);
  const { nVocab } = loaded.config;
  loaded.program.dispose();
  return Object.entries(positions).map(([position, { ids }]) => {
    const row = Number(position) * nVocab;
    const all = logProbabilities(logits.subarray(row, row + nVocab));
    return { position, got: ids.map((id) => all[id]!) };
  });
}

/** Models of types that WebAssembly kernels decode to f32, whatever is asked. */
const ONLY_F32_IN_WASM: ReadonlySet<string> = new Set(["v7-q5_1", "v7-q6_k"]);

/** Types for which kernels round activations. */
const INT8_CASES = CASES.filter(({ activationRounding }) => activationRounding !== "none");

for (const testCase of INT8_CASES) {
  describe(`${testCase.name} with 8-bit activations`, () => {
    for (const backend of [WASM, ...NATIVE]) {
      test(`on ${backend.name}: no further from exact arithmetic than llama.cpp, and the same bits in any pieces`, async () => {
        const whole = await compute(backend, testCase, "int8", 64);
        const { llamaMax, llamaRms } = testCase.tol;
        let squares = 0;
        let n = 0;
        for (const { position, got } of whole) {
          const { exact, llama } = testCase.positions[position]!;
          expectClose(`position ${position} against f64`, got, exact, llamaMax);
          expectClose(`position ${position} against llama.cpp`, got, llama, 2 * llamaMax);
          got.forEach((value, i) => (squares += (value - exact[i]!) ** 2));
          n += got.length;
        }
        expect(Math.sqrt(squares / n)).toBeLessThan(llamaRms);
        expect(await compute(backend, testCase, "int8", 1)).toEqual(whole);
        expect(await compute(backend, testCase, "int8", 7)).toEqual(whole);
        const inF32 = await compute(backend, testCase, "f32", 64);
        if (backend === WASM && ONLY_F32_IN_WASM.has(testCase.name)) expect(inF32).toEqual(whole);
        else expect(inF32).not.toEqual(whole);
      });
    }
  });
}

for (const { name, tokens, tol, positions } of CASES) {
  describe(name, () => {
    for (const backend of BACKENDS) {
      test(`on ${backend.name}: log-probabilities are those of exact arithmetic, and llama.cpp's within its rounding`, async () => {
        const checkpoint = await openCheckpoint(openFixture(`gguf/${name}.gguf`));
        const loaded = await loadProgram(await backend.create(), canonicalWeights(checkpoint), {
          maxRows: 64,
        });
        const { logits } = await runTokens(loaded, tokens, 64);
        const { nVocab } = loaded.config;
        for (const [position, { ids, exact, llama }] of Object.entries(positions)) {
          const row = Number(position) * nVocab;
          const all = logProbabilities(logits.subarray(row, row + nVocab));
          const got = ids.map((id) => all[id]!);
          expectClose(`position ${position} against f64`, got, exact, tol.exact);
          expectClose(`position ${position} against llama.cpp`, got, llama, tol.llamaMax);
        }
        loaded.program.dispose();
      });
    }
  });
}
