// Whole trainings of tiny models, with the fastest kernels of the machine.

import { mkdtemp, readFile, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { inspect, loadModel, loadTokenizer, UsageError, type Session } from "rwkv";
import { byteVocabulary } from "../testing.ts";
import { readTrainConfig, type TrainConfig } from "./config.ts";
import { train, type TrainStep } from "./train.ts";

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rwkv-train-"));
  await writeFile(join(folder, "vocab.txt"), byteVocabulary());
  const words = Array.from({ length: 40 }, (_, i) =>
    Array.from({ length: 3 + ((i * 7) % 17) }, (_unused, j) =>
      String.fromCharCode(97 + ((i * j + i) % 26)),
    ).join(""),
  );
  await writeFile(join(folder, "data.jsonl"), words.map((text) => `${JSON.stringify({ text })}\n`).join(""));
});
afterAll(() => rm(folder, { recursive: true }));

function configOf(out: string, changes: object = {}): TrainConfig {
  return readTrainConfig(
    {
      mode: "full",
      out,
      tokenizer: "vocab.txt",
      model: { layers: 2, embedding: 8, headSize: 4, ranks: { decay: 3, rate: 3, value: 2, gate: 4 } },
      data: { files: ["data.jsonl"], batch: 4, context: 8 },
      tokens: 8 * 32,
      rate: { from: 0.01, to: 0.001, warmupSteps: 2 },
      checkpointSteps: 3,
      ...changes,
    },
    folder,
  );
}

/** Runs until `stopStep` has been done, then aborts; null runs to the end. */
async function lossesOf(config: TrainConfig, stopStep: number | null = null): Promise<number[]> {
  const controller = new AbortController();
  const reason = new Error("stopped");
  const steps: TrainStep[] = [];
  const running = train(config, {
    signal: controller.signal,
    onStep(step) {
      steps.push(step);
      if (step.step === stopStep) controller.abort(reason);
    },
  });
  if (stopStep === null) return (await running).losses.map(({ loss }) => loss);
  await expect(running).rejects.toBe(reason);
  return steps.map(({ loss }) => loss);
}

const PIECES = { files: ["data.jsonl"], packing: "documents", batch: 3, context: 8 };

describe.each([
  ["rows", {}],
  ["documents in pieces", { data: PIECES }],
  [
    "rows with carried states on two threads",
    {
      threads: 2,
      data: { files: ["data.jsonl"], batch: 4, context: 8, carryState: true },
    },
  ],
])("a training over %s", (name, changes) => {
  const out = name.replaceAll(" ", "-");

  test("goes on to the bit wherever it is stopped", async () => {
    const whole = await lossesOf(configOf(`${out}-whole`, changes));
    const model = await readFile(join(folder, `${out}-whole`, "model.safetensors"));
    expect(whole.length).toBeGreaterThan(7);
    const config = configOf(`${out}-parts`, changes);
    expect(await lossesOf(config, 2)).toEqual(whole.slice(0, 2));
    expect(await lossesOf(config, 5)).toEqual(whole.slice(2, 5));
    expect(await lossesOf(config)).toEqual(whole);
    expect(await readFile(join(folder, `${out}-parts`, "model.safetensors"))).toEqual(model);
  });
});

test("losses behind the last checkpoint are cut off and come again", async () => {
  const whole = await lossesOf(configOf("cut-whole"));
  const config = configOf("cut");
  await lossesOf(config, 5);
  const path = join(folder, "cut", "losses.jsonl");
  const lines = await readFile(path, "utf8");
  await writeFile(path, `${lines}{"step":6,"loss":9}\n{"step":7,"lo`);
  expect(await lossesOf(config)).toEqual(whole);
});

test("a checkpoint of another training is refused", async () => {
  await lossesOf(configOf("other"), 2);
  await expect(train(configOf("other", { seed: 5 }))).rejects.toThrow(UsageError);
  await expect(train(configOf("other", { seed: 5 }))).rejects.toThrow('Give "out" another folder');
});

test("a rate that makes the training diverge is named", async () => {
  const config = configOf("diverged", {
    rate: { from: 100, warmupSteps: 0 },
    optimizer: { weightDecay: 1 }, // each step makes the matrices 99 times as large
    tokens: 64 * 32,
  });
  await expect(train(config)).rejects.toThrow(
    /The training has diverged: begin anew with a smaller rate.from/,
  );
});

test("a tokenizer with more ids than the model is refused", async () => {
  const model = { layers: 1, embedding: 8, headSize: 4, vocab: 20 };
  await expect(train(configOf("small", { model }))).rejects.toThrow(
    "The tokenizer has ids up to 256, but the model has rows for 20.",
  );
});

describe("what a training leaves", () => {
  test("a model that overfits one batch, with official names, and that the engine runs", async () => {
    // One document, so that every epoch is the same 8 rows; each begins with a letter of its own.
    const text = Array.from({ length: 8 * 40 }, (_, i) =>
      String.fromCharCode(97 + (i % 40 === 39 ? Math.floor(i / 40) : (i * i + 7 * i) % 23)),
    ).join("");
    await writeFile(join(folder, "one.jsonl"), JSON.stringify({ text }));
    const { path, losses, chartPath } = await train(
      configOf("overfit", {
        model: { layers: 2, embedding: 32, headSize: 16 },
        data: { files: ["one.jsonl"], batch: 8, context: 40 },
        tokens: 8 * 40 * 150,
        rate: { from: 0.01, to: 0.002, warmupSteps: 5 },
        dtype: "f32",
      }),
    );
    expect(losses[0]!.loss).toBeGreaterThan(3);
    expect(losses.at(-1)!.loss).toBeLessThan(0.01);
    expect(await readFile(chartPath, "utf8")).toMatch(/^<svg [^]*<\/svg>\n$/);
    const { config: found } = await inspect(path);
    expect([found.version, found.nLayer, found.nEmbd, found.nVocab]).toEqual(["7", 2, 32, 257]);
    await using model = await loadModel(path, { backend: "reference" });
    await using session = await model.createSession();
    const logits = await session.forward([0]);
    expect(logits.length).toBe(257);
  }, 60_000);

  test("adapters and states that the engine applies to the model they were trained for", async () => {
    const base = await train(
      configOf("base", {
        model: { layers: 2, embedding: 16, headSize: 8, ranks: { decay: 4, rate: 4, value: 4, gate: 4 } },
        tokens: 64 * 32,
        dtype: "f32",
      }),
    );
    const text = "zyxzyxzyxzyxzyxzyx";
    await writeFile(join(folder, "other.jsonl"), `${JSON.stringify({ text })}\n`);
    const changes = (mode: string): object => ({
      mode,
      model: base.path,
      ...(mode === "lora" && { lora: { rank: 4, alpha: 8, vectors: true } }),
      data: { files: ["other.jsonl"], packing: "documents", batch: 1, context: mode === "state" ? 32 : 8 },
      tokens: 19 * 60,
      dtype: "f32",
    });
    const ids = [0, ...(await loadTokenizer(join(folder, "vocab.txt"))).encode(text), 0];

    const lora = await train(configOf("lora", { ...changes("lora"), rate: { from: 0.02, to: 0.005 } }));
    await using plain = await loadModel(base.path, { backend: "reference" });
    await using adapted = await loadModel(base.path, { backend: "reference", lora: { file: lora.path } });
    const before = await lossOf(await plain.createSession(), ids);
    const beforeFirst = await lossOf(await plain.createSession(), ids.slice(0, 9));
    expect(lora.losses[0]!.loss).toBeCloseTo(beforeFirst, 5);
    expect(await lossOf(await adapted.createSession(), ids)).toBeLessThan(0.5 * before);
    await using fromTrainer = await loadModel(base.path, {
      backend: "reference",
      lora: { file: lora.path.replace(".safetensors", ".pth"), alpha: 8 },
    });
    expect(await lossOf(await fromTrainer.createSession(), ids)).toBeCloseTo(
      await lossOf(await adapted.createSession(), ids),
      12,
    );

    const state = await train(configOf("state", { ...changes("state"), rate: { from: 0.3, to: 0.01 } }));
    // the first step begins from the model's own state
    expect(state.losses[0]!.loss).toBeCloseTo(before, 5);
    const tuned = await lossOf(await plain.restore(state.path), ids);
    expect(tuned).toBeLessThan(before - 0.03);
    expect(Math.abs(tuned - state.losses.at(-1)!.loss)).toBeLessThan(0.01);
    expect(await lossOf(await plain.restore(state.path.replace(".safetensors", ".pth")), ids)).toBe(tuned);
  }, 60_000);
});

/** Mean cross-entropy of all tokens but the first. */
async function lossOf(session: Session, ids: readonly number[]): Promise<number> {
  const logits = await session.forward(ids.slice(0, -1), { logits: "all" });
  const nVocab = logits.length / (ids.length - 1);
  let sum = 0;
  for (let t = 0; t + 1 < ids.length; t++) {
    const row = logits.subarray(t * nVocab, (t + 1) * nVocab);
    const largest = Math.max(...row);
    sum += Math.log(row.reduce((total, value) => total + Math.exp(value - largest), 0)) + largest;
    sum -= row[ids[t + 1]!]!;
  }
  return sum / (ids.length - 1);
}
