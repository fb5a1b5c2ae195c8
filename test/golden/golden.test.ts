// Logits and final states of the official `rwkv` package on small random checkpoints: token by token, in chunks, as
// one sequence and beside other sequences, within the tolerances of each manifest; and the same bits in all of these.

import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { openCheckpoint } from "../../packages/rwkv/src/formats/open.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { tunedState } from "../../packages/rwkv/src/model/tuned-state.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import { WEBGPU } from "../support/webgpu.ts";
import { BACKENDS } from "./backends.ts";
import {
  expectClose,
  FIXTURES,
  hasFixture,
  openFixture,
  readF32,
  readJson,
  runBesideOthers,
  runTokens,
} from "./run-model.ts";

interface Manifest {
  readonly version: string;
  readonly config: Readonly<Record<string, number>>;
  readonly model: { readonly file: string };
  readonly time_state?: { readonly file: string };
  readonly tolerance: { readonly logits_f32_max_abs: number; readonly state_f32_max_abs: number };
}

const isThere = hasFixture("golden/");
const FOLDERS = isThere
  ? readdirSync(new URL("golden/", FIXTURES), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
  : [];

test.skipIf(!isThere)("all ten folders are there", () => {
  expect(FOLDERS).toHaveLength(10);
});

for (const folder of FOLDERS) {
  const manifest = readJson(`golden/${folder}/manifest.json`) as Manifest;
  const { tolerance } = manifest;
  const tokens = readJson(`golden/${folder}/tokens.json`) as number[];
  const wantLogits = readF32(`golden/${folder}/logits.f32`);
  const wantState = readF32(`golden/${folder}/state.f32`);

  describe(folder, () => {
    test("has the sizes its manifest gives", async () => {
      const { config } = canonicalWeights(
        await openCheckpoint(openFixture(`golden/${folder}/${manifest.model.file}`)),
      );
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

    for (const { name, create } of [...BACKENDS, ...WEBGPU]) {
      const isGpu = name === "webgpu";
      test(`on ${name}: logits and state are those of the official package, however they are computed`, async () => {
        const checkpoint = await openCheckpoint(openFixture(`golden/${folder}/${manifest.model.file}`));
        const loaded = await loadProgram(await create(), canonicalWeights(checkpoint), { maxRows: 96 });
        let initialState = loaded.initialState;
        if (manifest.time_state !== undefined) {
          const file = await openCheckpoint(openFixture(`golden/${folder}/${manifest.time_state.file}`));
          initialState = await tunedState(file, loaded.config);
        }
        const single = await runTokens(loaded, tokens, 1, initialState);
        expectClose("logits", single.logits, wantLogits, tolerance.logits_f32_max_abs);
        expectClose("state", single.state, wantState, tolerance.state_f32_max_abs);
        for (const chunk of isGpu ? [7] : [3, 7, 64]) {
          const chunked = await runTokens(loaded, tokens, chunk, initialState);
          expectClose(`logits in chunks of ${chunk}`, chunked.logits, single.logits, 0);
          expectClose(`state in chunks of ${chunk}`, chunked.state, single.state, 0);
        }
        for (const chunk of isGpu ? [7] : [1, 7]) {
          const beside = await runBesideOthers(loaded, tokens, chunk, initialState);
          expectClose(`logits beside others, chunks of ${chunk}`, beside.logits, single.logits, 0);
          expectClose(`state beside others, chunks of ${chunk}`, beside.state, single.state, 0);
        }
        loaded.program.dispose();
      });
    }
  });
}
