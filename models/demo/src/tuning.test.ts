// Tuning from end to end, on a smaller budget than the documents show: a task that the shipped model fails is learnt
// without a change to its weights, and the command takes the result.

import { createHash } from "node:crypto";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { evaluateExact, loadModel, type ExactCase, type LoadOptions } from "rwkv";
import { readTrainConfig, train } from "rwkv-train";
import { rwkv } from "../../../test/support/cli.ts";
import { TUNINGS, writeTuning } from "./commands/tuning.ts";
import { MODEL_FILE } from "./paths.ts";

const HAS_WEIGHTS = existsSync(MODEL_FILE);
if (!HAS_WEIGHTS) console.log("skipped: the demo model has no weights (npm run train:demo)");

const N_CASES = 100;
const TOKENS = { state: 100_000, lora: 100_000 } as const;

let folder: string;
let cases: ExactCase[];
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), "rwkv-tuning-"));
  await writeTuning(folder);
  const lines = readFileSync(join(folder, "cases.jsonl"), "utf8").trimEnd().split("\n").slice(0, N_CASES);
  cases = lines.map((line) => JSON.parse(line) as ExactCase);
});
afterAll(() => rmSync(folder, { recursive: true }));

async function accuracyOf(options: LoadOptions, state?: string): Promise<number> {
  await using model = await loadModel(MODEL_FILE, options);
  return (await evaluateExact(model, cases, { state })).accuracy;
}

const digest = (path: string): string => createHash("sha256").update(readFileSync(path)).digest("hex");

describe.skipIf(!HAS_WEIGHTS)("a task that the demo model does not know", () => {
  test("is failed without tuning", async () => {
    expect(await accuracyOf({})).toBeLessThan(0.2);
  });

  test.each(["state", "lora"] as const)("is learnt by tuning: %s", { timeout: 300_000 }, async (mode) => {
    const weights = digest(MODEL_FILE);
    const config = readTrainConfig({ ...TUNINGS[mode], tokens: TOKENS[mode] }, folder);
    const { path } = await train(config);
    const accuracy =
      mode === "state" ? await accuracyOf({}, path) : await accuracyOf({ lora: { file: path } });
    expect(accuracy).toBeGreaterThanOrEqual(0.8);
    expect(digest(MODEL_FILE)).toBe(weights);

    const [{ prompt, answer }] = cases as [ExactCase];
    const flags = ["--temperature", "0", "--max-tokens", "20", "--stop", "\n\n", `--${mode}`, path];
    const { code, stdout } = await rwkv(["generate", prompt, "--model", MODEL_FILE, ...flags]);
    expect(code).toBe(0);
    expect(stdout.trim()).toHaveLength(answer.length);
  });
});
