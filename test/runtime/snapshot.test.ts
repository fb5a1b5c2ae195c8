// Snapshots are values: going on from one gives the bits and the text that followed it, in any session of the model.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import { encodeSessionFile, type SessionFile } from "../../packages/rwkv/src/formats/session-file.ts";
import { stateLayout } from "../../packages/rwkv/src/model/state.ts";
import { loadModel, UsageError, type Model } from "../../packages/rwkv/src/node.ts";
import { tinyModel } from "../support/tiny-model.ts";

const TOKENS = Array.from({ length: 50 }, (_, i) => (i * 37 + 11) % 256);

test("a saved session of the 0.4B shape takes less than 7 MB, and 3.5 MB in f16, with logits and all", async () => {
  await using model = await loadModel(tinyModel(), { threads: 1 });
  const shape = { ...model.config, nLayer: 24, nEmbd: 1024, heads: 16, headSize: 64 };
  const file: SessionFile = {
    header: {
      fingerprint: model.info.fingerprint,
      modelName: "rwkv7-g1-0.4b.pth",
      nTokens: 1e9,
      recentTokens: new Array<number>(1024).fill(65535),
      pendingToken: null,
      random: new Array<number>(100).fill(1),
    },
    state: new Float32Array(stateLayout(shape).nElements),
    logits: new Float32Array(65536),
  };
  expect((await encodeSessionFile(file, "f32")).byteLength).toBeLessThan(7e6);
  expect((await encodeSessionFile(file, "f16")).byteLength).toBeLessThan(3.5e6);
});

describe.each(["cpu", "reference"] as const)("on %s", (backend) => {
  let model: Model;
  const load = (seed: number): Promise<Model> =>
    loadModel(bytesSource(tinyModel({ seed }), `tiny-${seed}.safetensors`), { backend });
  beforeAll(async () => {
    model = await load(1);
  });
  afterAll(() => model.dispose());

  test("a session rewound in mid-sentence samples the same text again and ends in the same state", async () => {
    await using session = await model.createSession();
    await session.generate(TOKENS, { maxTokens: 5, seed: 7 });
    const snapshot = await session.snapshot();
    const want = await session.generate(null, { maxTokens: 12 });
    const saved = await session.save();
    for (let i = 0; i < 2; i++) {
      await session.rewind(snapshot);
      expect(session.nTokens).toBe(TOKENS.length + 5);
      expect(session.recentTokens).toEqual(snapshot.recentTokens);
      expect((await session.generate(null, { maxTokens: 12 })).tokens).toEqual(want.tokens);
      expect(await session.save()).toEqual(saved);
    }
  });

  test("a snapshot starts other sessions, which leave it as it was", async () => {
    await using session = await model.createSession();
    await session.generate(TOKENS, { maxTokens: 5, seed: 7 });
    const snapshot = await session.snapshot();
    const bytes = await snapshot.save();
    expect(bytes).toEqual(await session.save());
    const want = await session.generate(null, { maxTokens: 12 });
    session.dispose();
    for (let i = 0; i < 2; i++) {
      await using other = await model.createSession({ snapshot });
      expect((await other.generate(null, { maxTokens: 12 })).tokens).toEqual(want.tokens);
      await other.reset();
      expect(other.nTokens).toBe(0);
    }
    expect(await snapshot.save()).toEqual(bytes);
  });

  test("the logits of forward() belong to the snapshot, and later ones do not reach it", async () => {
    await using session = await model.createSession();
    await session.forward(TOKENS);
    const snapshot = await session.snapshot();
    const want = await session.generate(null, { maxTokens: 6, temperature: 0 });
    await session.rewind(snapshot);
    expect((await session.generate(null, { maxTokens: 6, temperature: 0 })).tokens).toEqual(want.tokens);
    await session.forward([1, 2, 3]);
    await session.rewind(snapshot);
    expect((await session.generate(null, { maxTokens: 6, temperature: 0 })).tokens).toEqual(want.tokens);
  });

  test("a snapshot goes over to the same model loaded again, and another model refuses it", async () => {
    await using session = await model.createSession();
    await session.append(TOKENS);
    const snapshot = await session.snapshot();
    const want = await session.forward([3]);
    await using again = await load(1);
    expect(await (await again.createSession({ snapshot })).forward([3])).toEqual(want);
    await using other = await load(2);
    await using stranger = await other.createSession();
    await stranger.append([9]);
    const before = await stranger.save();
    await expect(stranger.rewind(snapshot)).rejects.toThrow(/tiny-1\.safetensors.*tiny-2\.safetensors/s);
    await expect(stranger.rewind(snapshot)).rejects.toBeInstanceOf(UsageError);
    await expect(other.createSession({ snapshot })).rejects.toBeInstanceOf(UsageError);
    expect(await stranger.save()).toEqual(before);
    const saved = await snapshot.save();
    await expect(other.restore(saved)).rejects.toThrow(/allowOtherModel/);
    await using taken = await other.createSession({ snapshot, allowOtherModel: true });
    await using restored = await other.restore(saved, { allowOtherModel: true });
    expect(await taken.save()).toEqual(await restored.save());
    expect((await taken.snapshot()).fingerprint).toBe(other.info.fingerprint);
    expect(await taken.forward([3])).not.toEqual(want);
    await using deeper = await loadModel(tinyModel({ layers: 3 }), { backend });
    await expect(deeper.createSession({ snapshot, allowOtherModel: true })).rejects.toThrow(
      /sizes are others/,
    );
  });
});
