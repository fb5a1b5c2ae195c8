// Logits and final states of the official `rwkv` package on small random checkpoints: token by token, in chunks, as
// one sequence and beside other sequences, within the tolerances of each manifest; and the same bits in all of these.

import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../packages/rwkv/src/formats/open.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import { WEBGPU } from "../support/webgpu.ts";
import { BACKENDS } from "./backends.ts";
import { ALL_CHUNKS, checkGolden, FEW_CHUNKS, readGolden } from "./check-golden.ts";
import { FIXTURES, hasFixture, readBytes } from "./fixtures.ts";

const isLong = process.env["RWKV_TEST_LONG"] !== undefined;

const isThere = hasFixture("golden/");
const FOLDERS = isThere
  ? readdirSync(new URL("golden/", FIXTURES), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
  : [];

test.skipIf(!isThere)("all ten folders are there", () => {
  expect(FOLDERS).toHaveLength(10);
});

describe.each(FOLDERS)("%s", (folder) => {
  const golden = readGolden((file) => Promise.resolve(readBytes(`golden/${folder}/${file}`)));

  test("has the sizes its manifest gives", async () => {
    const { manifest, model } = await golden;
    const { config } = canonicalWeights(await openCheckpoint(model));
    const given = manifest.config;
    expect(config.version).toBe(manifest.version);
    expect(config.nLayer).toBe(given["n_layer"]);
    expect(config.nEmbd).toBe(given["n_embd"]);
    expect(config.nFfn).toBe(given["n_ffn"]);
    expect(config.nVocab).toBe(given["vocab_size"]);
    expect(config.heads).toBe(given["n_head"] ?? null);
    expect(config.headSize).toBe(given["head_size"] ?? null);
    const { ranks } = config;
    expect(ranks.tokenShift).toBe(given["time_mix_rank"] ?? 0);
    expect(ranks.decay).toBe(given["decay_rank"] ?? given["time_decay_rank"] ?? 0);
    expect(ranks.rate).toBe(given["rate_rank"] ?? 0);
    expect(ranks.value).toBe(given["value_rank"] ?? 0);
    expect(ranks.gate).toBe(given["gate_rank"] ?? 0);
  });

  test.each([...BACKENDS, ...WEBGPU])(
    "on $name: logits and state are those of the official package, however they are computed",
    async ({ name, create }) => {
      const chunks = name === "webgpu" && !isLong ? FEW_CHUNKS : ALL_CHUNKS;
      await checkGolden(await create(), await golden, chunks);
    },
  );
});
