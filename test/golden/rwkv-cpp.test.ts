// The small trained models of rwkv.cpp's tests, against the logits it expects of them after the bytes `"in`.

import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../packages/rwkv/src/formats/open.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import { BACKENDS, REFERENCE_F64 } from "./backends.ts";
import { hasFixture, openFixture, readF32 } from "./fixtures.ts";
import { expectClose, maxDifference, runTokens } from "./run-model.ts";

const PROMPT = [34, 105, 110];

/**
 * `limit`: 1e-4 leaves room for any order of summation in f32; for rounded weights it is their published distance from
 * the f32 model, and half as much again.
 */
const MODELS = [
  { file: "4v0-660K-FP32", expected: "4v0-660K", version: "4", limit: 1e-4 },
  { file: "5v2-730K-FP32", expected: "5v2-730K", version: "5.2", limit: 1e-4, groupNormEps: 1e-5 },
  { file: "6v0-3m-Q5_1", expected: "6v0-3m", version: "6", limit: 1.5 * 7.6e-2 },
  { file: "7v0-834K-FP32", expected: "7v0-834K", version: "7", limit: 1e-4 },
  { file: "7v0-834K-FP16", expected: "7v0-834K", version: "7", limit: 1e-4 },
  { file: "7v0-834K-Q5_1", expected: "7v0-834K", version: "7", limit: 1.5 * 4.2e-3 },
] as const;

const isThere = hasFixture("rwkv.cpp/");

async function lastLogits(
  model: (typeof MODELS)[number],
  backend: (typeof BACKENDS)[number],
  groupNormEps?: number,
): Promise<Float32Array> {
  const checkpoint = await openCheckpoint(openFixture(`rwkv.cpp/tiny-rwkv-${model.file}.bin`));
  const weights = canonicalWeights(checkpoint);
  expect(weights.config.version).toBe(model.version);
  const options = { maxRows: 4, ...(groupNormEps !== undefined && { groupNormEps }) };
  const loaded = await loadProgram(await backend.create(), weights, options);
  const { logits } = await runTokens(loaded, PROMPT, 3);
  loaded.program.dispose();
  return logits.slice(-loaded.config.nVocab);
}

describe.skipIf(!isThere)("rwkv.cpp's models", () => {
  for (const model of MODELS) {
    const eps = "groupNormEps" in model ? model.groupNormEps : undefined;
    for (const backend of BACKENDS) {
      test(`${model.file} on ${backend.name} gives the expected logits`, async () => {
        const got = await lastLogits(model, backend, eps);
        expectClose(
          "expected logits",
          got,
          readF32(`rwkv.cpp/expected-logits-${model.expected}.bin`),
          model.limit,
        );
        // against exact arithmetic on the same weights only the order of summation counts
        expectClose("f64 on the same weights", got, await lastLogits(model, REFERENCE_F64, eps), 1e-4);
      });
    }
  }

  test("RWKV-5 with the official group norm eps is another model to rwkv.cpp", async () => {
    const got = await lastLogits(MODELS[1], REFERENCE_F64);
    expect(maxDifference(got, readF32("rwkv.cpp/expected-logits-5v2-730K.bin")).value).toBeGreaterThan(1);
  });
});
