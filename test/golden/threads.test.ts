// Threads change no bit: the synthetic models of every version, wide enough for several threads, on imagined threads in
// every kind of order and on real ones. Every barrier is needed, and seven per layer are enough.

import { describe, expect, test } from "vitest";
import { createCpuBackend } from "../../packages/rwkv/src/backends/cpu/cpu.ts";
import type { ScheduledCommand } from "../../packages/rwkv/src/backends/cpu/schedule.ts";
import {
  anyThread,
  firstThreadFirst,
  interleavedBackend,
  lastThreadFirst,
  seededRandom,
  threadedBackend,
} from "../../packages/rwkv/src/backends/cpu/testing.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import type { Backend } from "../../packages/rwkv/src/ops/backend.ts";
import { nodeThreads } from "../../packages/rwkv/src/platform/node/threads.ts";
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

/** Heads of 16, so that 3 threads have 2, 1 and 2 of them; the published sizes leave all but one thread idle. */
const WIDE: SyntheticSizes = {
  ...SIZES,
  nEmbd: 80,
  heads: 5,
  nFfn: 200,
  nVocab: 37,
  ranks7: [20, 5, 33, 16],
};
const ALL_SIZES = { published: SIZES, wide: WIDE };

async function run(backend: Backend, version: SyntheticVersion, sizes: SyntheticSizes): Promise<Outcome[]> {
  const weights = canonicalWeights(checkpointOf(syntheticModel(version, sizes)));
  const loaded = await loadProgram(backend, weights, { maxRows: 16 });
  const outcomes = [
    await runTokens(loaded, TOKENS, 1),
    await runTokens(loaded, TOKENS, 7),
    await runBesideOthers(loaded, TOKENS, 3),
  ];
  loaded.program.dispose();
  return outcomes;
}

const random = seededRandom(11);
const ORDERS = {
  "the first thread first": firstThreadFirst,
  "the last thread first": lastThreadFirst,
  "random turns": anyThread(random),
};
const single = await createCpuBackend({ threads: 1 });

describe.each(VERSIONS)("RWKV %s gives the bits of one thread", (version) => {
  test.each(Object.entries(ORDERS))("on 2, 3 and 7 imagined threads, %s", async (_name, pick) => {
    for (const sizes of Object.values(ALL_SIZES)) {
      const want = await run(single, version, sizes);
      for (const nThreads of [2, 3, 7]) {
        expect(await run(await interleavedBackend(nThreads, pick), version, sizes)).toEqual(want);
      }
    }
  });

  test("on 2 and 3 real threads", async () => {
    for (const nThreads of [2, 3]) {
      const backend = await threadedBackend(nThreads, nodeThreads);
      for (const sizes of Object.values(ALL_SIZES)) {
        expect(await run(backend, version, sizes)).toEqual(await run(single, version, sizes));
      }
    }
  });
});

test("without any one of its barriers, some order of threads gives other bits", async () => {
  const want = await run(single, "7", WIDE);
  let barriers: number[] = [];
  const note = (commands: readonly ScheduledCommand[]): void => {
    barriers = commands.flatMap(({ needsBarrier }, i) => (needsBarrier ? [i] : []));
  };
  await run(await interleavedBackend(2, firstThreadFirst, undefined, note), "7", WIDE);
  expect(barriers.length).toBeGreaterThan(WIDE.nLayer * 5);
  expect(barriers.length).toBeLessThanOrEqual(WIDE.nLayer * 7 + 4); // and what the logits need
  for (const left of barriers) {
    const outcomes: Outcome[][] = [];
    for (const pick of [firstThreadFirst, lastThreadFirst]) {
      const backend = await interleavedBackend(2, pick, (i) => i !== left);
      outcomes.push(await run(backend, "7", WIDE));
    }
    expect(outcomes, `without the barrier before command ${left}`).not.toEqual([want, want]);
  }
});
