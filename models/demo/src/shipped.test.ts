// The weights of this package, on a few cases of every ability that the model card promises.

import { existsSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inspect, loadModel, type Model } from "rwkv";
import { evaluate } from "./evaluate.ts";
import { MODEL_FILE } from "./paths.ts";
import { EVAL_SEED } from "./recipe.ts";
import { SUITES } from "./suites.ts";

const HAS_WEIGHTS = existsSync(MODEL_FILE);
if (!HAS_WEIGHTS) console.log("skipped: the demo model has no weights (npm run train:demo)");

const N_CASES = 60;
const PROMISED = SUITES.filter(({ floor }) => floor !== null);
/** So many cases may be missed by chance where the floor itself is met: three standard deviations. */
const mostMissed = (floor: number): number =>
  N_CASES * (1 - floor) + 3 * Math.sqrt(N_CASES * floor * (1 - floor));

describe.skipIf(!HAS_WEIGHTS)("the shipped model", () => {
  let model: Model;
  beforeAll(async () => {
    model = await loadModel(MODEL_FILE);
  });
  afterAll(() => model[Symbol.asyncDispose]());

  test("fits into the repository", async () => {
    expect((await inspect(MODEL_FILE)).byteLength).toBeLessThan(6e6);
  });

  test.each(PROMISED)("$name: as promised", { timeout: 60_000 }, async (suite) => {
    const [result] = await evaluate(model, [{ ...suite, nCases: N_CASES }], { seed: EVAL_SEED });
    expect(N_CASES - result!.nRight, JSON.stringify(result!.misses)).toBeLessThanOrEqual(
      mostMissed(suite.floor!),
    );
  });
});
