// A model whose weights do not fit into one WebAssembly memory has the bits of one that does: every version, in two, three
// and as many memories as its largest tensor allows, however the tokens are cut, beside others, on every kind of thread,
// and with its state carried from one to the other.

import { readdirSync } from "node:fs";
import { describe, expect, test } from "vitest";
import { createCpuBackend } from "../../packages/rwkv/src/backends/cpu/cpu.ts";
import {
  anyThread,
  interleavedBackend,
  lastThreadFirst,
  seededRandom,
  smallMemoryBackend,
  threadedBackend,
} from "../../packages/rwkv/src/backends/cpu/testing.ts";
import { openCheckpoint } from "../../packages/rwkv/src/formats/open.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { canonicalWeights, type CanonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import type { Backend } from "../../packages/rwkv/src/ops/backend.ts";
import { nodeThreads } from "../../packages/rwkv/src/platform/node/threads.ts";
import { FIXTURES, hasFixture, openFixture, readJson } from "./fixtures.ts";
import { runBesideOthers, runTokens, type Outcome } from "./run-model.ts";
import {
  checkpointOf,
  SIZES,
  syntheticModel,
  type SyntheticSizes,
  type SyntheticVersion,
} from "./synthetic.ts";

const VERSIONS: readonly SyntheticVersion[] = ["4", "5.0", "5.1", "5.2", "6", "7"];
const TOKENS = [1, 5, 3, 9, 2, 2, 7];

/** Four layers, so that more memories than layers cut inside of them, with work for several threads. */
const DEEP: SyntheticSizes = { ...SIZES, nLayer: 4, nEmbd: 80, heads: 5, nFfn: 200, nVocab: 37 };

const single = await createCpuBackend({ threads: 1 });

/** Outcomes of every way to read the tokens; the last one goes on from the state after the first half. */
async function run(
  backend: Backend,
  weights: CanonicalWeights,
  tokens: readonly number[],
): Promise<Outcome[]> {
  const loaded = await loadProgram(backend, weights, { maxRows: 96 });
  const half = Math.floor(tokens.length / 2);
  const first = await runTokens(loaded, tokens.slice(0, half), 3);
  const outcomes = [
    await runTokens(loaded, tokens, 1),
    await runTokens(loaded, tokens, 7),
    await runTokens(loaded, tokens, 64),
    await runBesideOthers(loaded, tokens, 3),
    await runTokens(loaded, tokens.slice(half), 5, first.state),
  ];
  loaded.program.dispose();
  return outcomes;
}

/** Limits for two, three and as many memories as there can be: one that only just takes the largest tensor. */
async function limitsOf(weights: CanonicalWeights): Promise<number[]> {
  const sizes: number[] = [];
  const noting: Backend = {
    ...single,
    createBuilder(options) {
      const builder = single.createBuilder(options);
      const weight = builder.weight.bind(builder);
      builder.weight = (upload, signal) => {
        sizes.push(upload.byteLength);
        return weight(upload, signal);
      };
      return builder;
    },
  };
  const { program } = await loadProgram(noting, weights, { maxRows: 1 });
  program.dispose();
  const total = sizes.reduce((sum, size) => sum + size, 0);
  const largest = Math.max(...sizes);
  return [Math.max(total / 2 + largest, largest), Math.max(total / 3, largest), largest];
}

describe.each(VERSIONS)("RWKV %s", (version) => {
  const weights = canonicalWeights(checkpointOf(syntheticModel(version, DEEP)));

  test("is cut into parts by these limits, the more the smaller they are", async () => {
    const counts: number[] = [];
    for (const limit of await limitsOf(weights)) {
      let nParts = 0;
      const backend = await interleavedBackend(2, lastThreadFirst, undefined, () => nParts++, limit);
      (await loadProgram(backend, weights, { maxRows: 1 })).program.dispose();
      counts.push(nParts);
    }
    expect(counts[0]).toBeGreaterThanOrEqual(2);
    expect(counts[1]).toBeGreaterThan(counts[0]!);
    expect(counts[2]).toBeGreaterThan(counts[1]!);
  });

  test("has the same bits in several memories, on one thread, real ones and imagined ones", async () => {
    const want = await run(single, weights, TOKENS);
    for (const limit of await limitsOf(weights)) {
      expect(await run(await smallMemoryBackend(limit), weights, TOKENS)).toEqual(want);
      expect(await run(await threadedBackend(2, nodeThreads, limit), weights, TOKENS)).toEqual(want);
      for (const pick of [lastThreadFirst, anyThread(seededRandom(13))]) {
        const backend = await interleavedBackend(3, pick, undefined, undefined, limit);
        expect(await run(backend, weights, TOKENS)).toEqual(want);
      }
    }
  });
});

const isThere = hasFixture("golden/");
const FOLDERS = isThere
  ? readdirSync(new URL("golden/", FIXTURES), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
  : [];

describe.skipIf(!isThere)("the golden checkpoints", () => {
  test.each(FOLDERS)("%s has the same bits in several memories", async (folder) => {
    const { model } = readJson(`golden/${folder}/manifest.json`) as { model: { file: string } };
    const weights = canonicalWeights(await openCheckpoint(openFixture(`golden/${folder}/${model.file}`)));
    const tokens = readJson(`golden/${folder}/tokens.json`) as number[];
    const want = await run(single, weights, tokens);
    const limits = await limitsOf(weights);
    for (const limit of limits) {
      expect(await run(await smallMemoryBackend(limit), weights, tokens)).toEqual(want);
    }
    const threads = await threadedBackend(2, nodeThreads, limits.at(-1));
    expect(await run(threads, weights, tokens)).toEqual(want);
  });
});
