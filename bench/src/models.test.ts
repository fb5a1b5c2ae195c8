// The random models: that their file loads and gives finite, varied logits, and is the same in every run. llama.cpp loads
// them too, which `npm run bench:peers` shows.

import { mkdtempSync, readdirSync, readFileSync, rmSync, statSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { inspect, loadModel } from "rwkv";
import { afterAll, describe, expect, test } from "vitest";
import { BENCH_DTYPES, randomModel, type Shape } from "./models.ts";

const SMALL: Shape = {
  name: "small",
  nLayer: 2,
  nEmbd: 128,
  nVocab: 512,
  ranks: { w: 32, a: 32, v: 32, g: 64 },
};

const folder = mkdtempSync(join(tmpdir(), "rwkv-bench-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe.each(BENCH_DTYPES)("a random model in %s", (dtype) => {
  test("has the sizes asked for, and matrices of that type", async () => {
    const { config, tensors } = await inspect(await randomModel(folder, SMALL, dtype));
    expect(config).toMatchObject({
      version: "7",
      nLayer: 2,
      nEmbd: 128,
      nFfn: 512,
      nVocab: 512,
      headSize: 64,
    });
    expect(config.ranks).toMatchObject({ decay: 32, rate: 32, value: 32, gate: 64 });
    const typeOf = (name: string): string | undefined =>
      tensors.find((tensor) => tensor.name === name)?.dtype;
    for (const name of ["token_embd", "output", "blk.1.time_mix_key", "blk.1.channel_mix_value"]) {
      expect(typeOf(`${name}.weight`)).toBe(dtype);
    }
  });

  test("gives logits whose deviation is that of its head's rows, about 1, after any token", async () => {
    await using model = await loadModel(await randomModel(folder, SMALL, dtype), { backend: "reference" });
    await using session = await model.createSession();
    const logits = await session.forward([1, 200, 77, 300, 9], { logits: "all" });
    for (let row = 0; row < 5; row++) {
      const values = logits.subarray(row * 512, (row + 1) * 512);
      const deviation = Math.sqrt(values.reduce((sum, value) => sum + value * value, 0) / 512);
      expect(deviation).toBeGreaterThan(0.8);
      expect(deviation).toBeLessThan(1.25);
    }
  });

  test("is the same file in every run, and is not written twice", async () => {
    const path = await randomModel(folder, SMALL, dtype);
    const written = statSync(path).mtimeMs;
    expect(await randomModel(folder, SMALL, dtype)).toBe(path);
    expect(statSync(path).mtimeMs).toBe(written);
    const other = mkdtempSync(join(folder, "again-"));
    const again = await randomModel(other, SMALL, dtype);
    expect(readFileSync(again).equals(readFileSync(path))).toBe(true);
    expect(readdirSync(other)).toHaveLength(1);
  });

  test("has every single byte among its tokens", async () => {
    await using model = await loadModel(await randomModel(folder, SMALL, dtype));
    const tokenizer = model.tokenizer!;
    for (let byte = 0; byte < 256; byte++) expect([...tokenizer.tokenBytes(byte + 1)]).toEqual([byte]);
  });
});
