// Sessions on the small checkpoints of every generation: kept, saved, forked and rewound in mid-sentence, they go on to the
// bit; reset, they have forgotten; saved in f16, they drift by no more than stated.

import { readdirSync } from "node:fs";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { loadModel, type Model, type Session } from "../../packages/rwkv/src/node.ts";
import { FIXTURES, hasFixture, openFixture, readJson } from "./fixtures.ts";

const isThere = hasFixture("golden/");
const FOLDERS = isThere
  ? readdirSync(new URL("golden/", FIXTURES), { withFileTypes: true })
      .filter((entry) => entry.isDirectory())
      .map(({ name }) => name)
  : [];
/**
 * Largest difference of the next logits after saving in f16, by the largest logit. Each number of a state is rounded by at
 * most 2^-11 of itself; this leaves a factor of four for what becomes of that in the model.
 */
const F16_DRIFT = 2 ** -9;

test.skipIf(!isThere)("every generation is there", () => {
  for (const version of ["v4", "v5.0", "v5.1", "v5.2", "v6", "v7"]) expect(FOLDERS).toContain(version);
});

describe.each(FOLDERS)("%s", (folder) => {
  let model: Model;
  let session: Session;
  const tokens = readJson(`golden/${folder}/tokens.json`) as number[];
  beforeAll(async () => {
    const manifest = readJson(`golden/${folder}/manifest.json`) as { model: { file: string } };
    model = await loadModel(openFixture(`golden/${folder}/${manifest.model.file}`), { threads: 1 });
    session = await model.createSession();
    await session.generate(tokens, { maxTokens: 5, seed: 7, stopTokens: [] });
  });
  afterAll(() => model.dispose());

  /** What comes next, and the session after it. */
  async function goOn(from: Session): Promise<{ tokens: readonly number[]; saved: Uint8Array }> {
    const result = await from.generate(null, { maxTokens: 8, stopTokens: [] });
    return { tokens: result.tokens, saved: await from.save() };
  }

  test("goes on to the bit in mid-sentence: rewound, forked, from a snapshot and from a file", async () => {
    const snapshot = await session.snapshot();
    const [fork, other] = [await session.fork(), await model.createSession({ snapshot })];
    const restored = await model.restore(await session.save());
    const want = await goOn(session);
    expect(want.tokens).toHaveLength(8);
    for (const one of [fork, other, restored]) {
      expect(await goOn(one)).toEqual(want);
      one.dispose();
    }
    await session.rewind(snapshot);
    expect(await goOn(session)).toEqual(want);
    await session.rewind(snapshot);
  });

  test("reset leaves nothing", async () => {
    const [used, fresh] = [await session.fork(), await model.createSession()];
    await used.reset();
    expect([used.nTokens, used.recentTokens]).toEqual([0, []]);
    expect(await used.save()).toEqual(await fresh.save());
    expect(await used.forward(tokens)).toEqual(await fresh.forward(tokens));
  });

  test("saved in f16 the next logits are as close as stated, and in half the bytes", async () => {
    const exact = await session.fork();
    const [f32, f16] = [await session.save(), await session.save({ dtype: "f16" })];
    expect(f32.byteLength - f16.byteLength).toBe(model.info.stateByteLength / 2);
    const want = await exact.forward([tokens[0]!]);
    const got = await (await model.restore(f16)).forward([tokens[0]!]);
    const largest = Math.max(...want.map(Math.abs));
    const drift = Math.max(...got.map((value, i) => Math.abs(value - want[i]!))) / largest;
    expect(drift, `drift of ${folder}`).toBeLessThan(F16_DRIFT);
    expect(drift).toBeGreaterThan(0);
  });
});
