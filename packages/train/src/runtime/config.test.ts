import { expect, test } from "vitest";
import { UsageError } from "rwkv";
import { freshConfig, readTrainConfig } from "./config.ts";

const FULL = {
  mode: "full",
  out: "run",
  tokenizer: "vocab.txt",
  model: { layers: 3, embedding: 128, headSize: 32 },
  data: { files: ["a.jsonl", "/b.jsonl"], batch: 4, context: 16 },
  tokens: 1000,
  rate: { from: 0.001 },
};

/** A configuration with the value at a path such as `data.batch` replaced; undefined removes it. */
function changed(path: string, value: unknown): unknown {
  const copy = structuredClone(FULL) as Record<string, unknown>;
  const keys = path.split(".");
  let at = copy;
  for (const key of keys.slice(0, -1)) at = (at[key] ??= {}) as Record<string, unknown>;
  at[keys.at(-1)!] = value;
  return copy;
}

test("paths belong to the folder of the file, and what is left out has its default", () => {
  const config = readTrainConfig(FULL, "/home");
  expect(config.out).toBe("/home/run");
  expect(config.files).toEqual(["/home/a.jsonl", "/b.jsonl"]);
  expect(config.optimizer).toEqual({ beta1: 0.9, beta2: 0.99, eps: 1e-18, weightDecay: 0.001, clip: 1 });
  expect(config.rate).toEqual({ from: 0.001, to: 0.001, warmupSteps: 10 });
  expect(config.batches).toMatchObject({ packing: "rows", endOfText: 0, carryState: false });
});

test("a fresh model has the ranks of the official trainer", () => {
  const { model } = readTrainConfig(changed("model.embedding", 768), "/");
  const config = freshConfig(model as Exclude<typeof model, string>, 65536);
  expect(config.ranks).toEqual({ tokenShift: 0, decay: 64, rate: 64, value: 32, gate: 128 });
  expect([config.nFfn, config.heads, config.nAtt]).toEqual([3072, 24, 768]);
});

test.each([
  ["mode", "ful", 'mode should be one of "full", "lora", "state"; found "ful".'],
  ["mode", "lora", "lora should be an object; found nothing."],
  ["mode", "state", 'model should be the file of a model, since mode "state" begins from one'],
  ["out", undefined, "out should be a text that is not empty; found nothing."],
  ["tokenizer", undefined, "tokenizer should be a text"],
  ["model.layers", 0, "model.layers should be a whole number from 1 to 1024; found 0."],
  ["model.embedding", 100, "model.embedding should be a multiple of model.headSize, which is 32; found 100."],
  ["model.ranks", { gates: 3 }, "model.ranks.gates is no key of the configuration"],
  ["data", [], "data should be an object; found []."],
  ["data.files", [], "data.files should be a list of one or more texts; found []."],
  ["data.batch", 1.5, "data.batch should be a whole number"],
  ["data.packing", "row", 'data.packing should be one of "rows", "documents"; found "row".'],
  ["data.answersOnly", "yes", 'data.answersOnly should be true or false; found "yes".'],
  ["data.endOfText", -1, "data.endOfText should be a whole number"],
  ["tokens", "many", 'tokens should be a whole number from 1 to 9007199254740991; found "many".'],
  ["rate.from", -1, "rate.from should be a number from 0 to 100; found -1."],
  [
    "rate.form",
    1,
    "rate.form is no key of the configuration; expected rate.from, rate.to, rate.warmupSteps.",
  ],
  ["optimizer.beta1", 1, "optimizer.beta1 should be a number from 0 to 0.999999; found 1."],
  ["kernels", "cuda", "kernels should be one of"],
  ["rowsAtOnce", 8, "rowsAtOnce should be at least data.context, which is 16; found 8."],
  ["token", 5, "token is no key of the configuration; expected mode,"],
])("%s of %j is refused by name", (path, value, message) => {
  const attempt = (): unknown => readTrainConfig(changed(path, value), "/");
  expect(attempt).toThrow(UsageError);
  expect(attempt).toThrow(message);
});

test("documents are read with carried states only", () => {
  const data = { ...FULL.data, packing: "documents" };
  expect(readTrainConfig({ ...FULL, data }, "/").batches.carryState).toBe(true);
  expect(() => readTrainConfig({ ...FULL, data: { ...data, carryState: false } }, "/")).toThrow(
    "data.carryState should be true or left out",
  );
  expect(() => readTrainConfig("text", "/")).toThrow("The configuration should be an object");
});
