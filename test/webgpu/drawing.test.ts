// Tokens that are drawn from shortlists, which is what generation on the GPU does, are those drawn from all logits, which it needs where
// log-probabilities are told.

import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { WebgpuProgram } from "../../packages/rwkv/src/backends/webgpu/program.ts";
import { findDemoModel } from "../../packages/rwkv/src/node.ts";
import { nodePlatform } from "../../packages/rwkv/src/platform/node/platform.ts";
import { createApi } from "../../packages/rwkv/src/runtime/api.ts";
import type { GenerateOptions } from "../../packages/rwkv/src/runtime/generation.ts";
import type { Model } from "../../packages/rwkv/src/runtime/model.ts";
import { WEBGPU } from "../support/webgpu.ts";

const demo = findDemoModel();
if (demo === null) console.log("skipped: webgpu: drawing from the demo model, which is not installed");

const PROMPT = "Once upon a time there was";

describe.skipIf(WEBGPU.length === 0 || demo === null)("the demo model", { timeout: 300_000 }, () => {
  let model: Model;
  beforeAll(async () => {
    const { loadModel } = createApi({ ...nodePlatform, loadWebgpu: () => Promise.resolve(WEBGPU[0]!.gpu) });
    model = await loadModel(demo!, { backend: "webgpu" });
  });
  afterAll(() => model.dispose());
  afterEach(() => vi.restoreAllMocks());

  /** How the program is called from now on. */
  const watch = () => {
    const step = vi.spyOn(WebgpuProgram.prototype, "step");
    const readLogits = vi.spyOn(WebgpuProgram.prototype, "readLogits");
    return {
      get nShortlists() {
        return step.mock.calls.filter(([runs]) => runs[0]!.shortlist !== undefined).length;
      },
      get nRead() {
        return readLogits.mock.calls.length;
      },
    };
  };

  const generate = async (options: GenerateOptions) => {
    await using session = await model.createSession();
    const { tokens, finishReason } = await session.generate(PROMPT, options);
    const next = await session.generate(null, { ...options, stopTokens: [], maxTokens: 3 });
    return { tokens, finishReason, next: next.tokens };
  };

  test.each<GenerateOptions>([
    {},
    { temperature: 0, repetitionPenalty: 1.2 },
    { topK: 20, topP: 0.95, temperature: 1.3, presencePenalty: 0.5, frequencyPenalty: 0.2 },
    {
      minP: 0.05,
      dry: {},
      banTokens: [10, 11],
      logitBias: { 40: 3 },
      xtc: { threshold: 0.1, probability: 0.5 },
    },
  ])("%j", async (options) => {
    const all = { ...options, seed: 7, maxTokens: 8, stopTokens: [] };
    const calls = watch();
    const drawn = await generate(all);
    expect(calls.nShortlists).toBeGreaterThan(7);
    expect(calls.nRead).toBeLessThan(4);
    vi.restoreAllMocks();
    const wholly = watch();
    expect(drawn).toEqual(await generate({ ...all, logprobs: 0 }));
    expect(wholly.nShortlists).toBe(0);
  });

  test("what a shortlist is too short for is drawn from the row that the device keeps", async () => {
    // All but the last millionth takes more tokens than a shortlist has.
    const options = { topP: 1 - 1e-6, seed: 7, maxTokens: 12, stopTokens: [] };
    const calls = watch();
    const drawn = await generate(options);
    expect(calls.nRead).toBeGreaterThan(0);
    expect(calls.nShortlists).toBeLessThan(12);
    expect(drawn).toEqual(await generate({ ...options, logprobs: 0 }));
  });

  test("a text that a stop token has ended goes on with the logits before it", async () => {
    const { tokens } = await generate({ temperature: 0, maxTokens: 12, stopTokens: [] });
    const options = { temperature: 0, maxTokens: 12, stopTokens: [tokens[6]!] };
    const stopped = await generate(options);
    expect(stopped.finishReason).toBe("stop");
    expect([...stopped.tokens, ...stopped.next]).toEqual(tokens.slice(0, stopped.tokens.length + 3));
    expect(stopped).toEqual(await generate({ ...options, logprobs: 0 }));
  });

  test("a draw that fails leaves the session as it was", async () => {
    await using session = await model.createSession();
    await session.append(PROMPT);
    const refused = session.generate(null, { temperature: 0, forceTokens: [5], banTokens: [5] });
    await expect(async () => refused).rejects.toThrow(/Token 5 is forced/);
    await using other = await session.fork();
    const options = { temperature: 0, maxTokens: 5, stopTokens: [] };
    expect((await other.generate(null, options)).tokens).toEqual((await generate(options)).tokens);
  });
});
