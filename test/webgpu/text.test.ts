// Text on the GPU as on the processor, through the public API: the same greedy tokens, in a text that moves between the two as
// well, and the same bits in a batch as alone.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import { writeSafetensors } from "../../packages/rwkv/src/formats/safetensors/safetensors.ts";
import { MemorySink } from "../../packages/rwkv/src/formats/safetensors/testing.ts";
import { findDemoModel } from "../../packages/rwkv/src/node.ts";
import { nodePlatform } from "../../packages/rwkv/src/platform/node/platform.ts";
import { createApi } from "../../packages/rwkv/src/runtime/api.ts";
import type { Model } from "../../packages/rwkv/src/runtime/model.ts";
import type { Session } from "../../packages/rwkv/src/runtime/session.ts";
import { checkpointOf, SIZES, syntheticModel, type SyntheticVersion } from "../golden/synthetic.ts";
import { WEBGPU } from "../support/webgpu.ts";

const N_TOKENS = 200;
/** Where a text moves. */
const [TO_GPU, TO_CPU, END] = [30, 60, 90];

const VERSIONS: readonly SyntheticVersion[] = ["4", "5.0", "5.1", "5.2", "6", "7"];

async function synthetic(version: SyntheticVersion): Promise<Uint8Array> {
  const { tensors } = checkpointOf(syntheticModel(version, { ...SIZES, nVocab: 256, nEmbd: 32, nFfn: 72 }));
  const sink = new MemorySink();
  await writeSafetensors(sink, [...tensors.values()], new Map());
  return sink.bytes();
}

type Load = () => Promise<Parameters<ReturnType<typeof createApi>["loadModel"]>[0]>;

const demo = findDemoModel();
if (demo === null) console.log("skipped: webgpu: text of the demo model, which is not installed");
const MODELS: readonly (readonly [string, Load])[] = [
  ...(demo === null ? [] : [["the demo model", () => Promise.resolve(demo)] as const]),
  ...VERSIONS.map(
    (version) =>
      [
        `RWKV ${version}`,
        async () => bytesSource(await synthetic(version), `${version}.safetensors`),
      ] as const,
  ),
];

const greedy = async (session: Session, prompt: string | null, maxTokens: number): Promise<number[]> => [
  ...(await session.generate(prompt, { maxTokens, temperature: 0, stopTokens: [] })).tokens,
];

describe.skipIf(WEBGPU.length === 0).each(MODELS)("%s", { timeout: 300_000 }, (_name, source) => {
  let onCpu: Model;
  let onGpu: Model;
  let want: readonly number[];
  beforeAll(async () => {
    const { loadModel } = createApi({ ...nodePlatform, loadWebgpu: () => Promise.resolve(WEBGPU[0]!.gpu) });
    onCpu = await loadModel(await source(), { backend: "cpu" });
    onGpu = await loadModel(await source(), { backend: "webgpu" });
    await using session = await onCpu.createSession();
    want = await greedy(session, "Once", N_TOKENS);
  });
  afterAll(() => {
    onCpu.dispose();
    onGpu.dispose();
  });

  test(`greedy text of ${N_TOKENS} tokens is that of the cpu backend`, async () => {
    expect(onGpu.info.backend).toBe("webgpu");
    await using session = await onGpu.createSession();
    expect(await greedy(session, "Once", N_TOKENS)).toEqual(want);
  });

  test("a text that moves from the cpu to the GPU and back goes on as on the cpu", async () => {
    await using begun = await onCpu.createSession();
    const first = await greedy(begun, "Once", TO_GPU);
    await using moved = await onGpu.restore(await begun.save());
    const second = await greedy(moved, null, TO_CPU - TO_GPU);
    await using back = await onCpu.restore(await moved.save());
    const third = await greedy(back, null, END - TO_CPU);
    expect([...first, ...second, ...third]).toEqual(want.slice(0, END));
  });

  test("sessions that read and write at the same time get the bits they get alone", async () => {
    const read = async (prompt: string): Promise<Float32Array[]> => {
      await using session = await onGpu.createSession();
      const logits = await session.forward(onGpu.tokenizer!.encode(prompt), { logits: "all" });
      await greedy(session, null, 8);
      return [logits, await session.readState()];
    };
    const prompts = ["There was a queen who", "A", "The sea is", "Once upon a time there"];
    const alone: Float32Array[][] = [];
    for (const prompt of prompts) alone.push(await read(prompt));
    expect(await Promise.all(prompts.map(read))).toEqual(alone);
  });
});
