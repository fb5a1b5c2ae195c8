// Samplers inside sessions: the same seed gives the same text however a generation is cut, saved, forked or batched, and
// what the stream tells of probabilities is what the model computed.

import fc from "fast-check";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import {
  loadModel,
  steps,
  UsageError,
  type GenerateOptions,
  type Model,
  type SamplerFunction,
} from "../../packages/rwkv/src/node.ts";
import { tinyModel } from "../support/tiny-model.ts";

const PROMPT = "Tell me of the sea";

let model: Model;
beforeAll(async () => {
  model = await loadModel(bytesSource(tinyModel(), "tiny.safetensors"), { chunk: 16 });
});
afterAll(() => model.dispose());

/** Halves the odds of tokens above 200, and of the last token. */
const own: SamplerFunction = ({ ids, logits, count }, { history }) => {
  for (let i = 0; i < count; i++) if (ids[i]! > 200 || ids[i] === history.recent(0)) logits[i]! -= Math.LN2;
};

const SAMPLERS: Readonly<Record<string, GenerateOptions>> = {
  defaults: {},
  penalties: { presencePenalty: 0.6, frequencyPenalty: 0.4, temperature: 1.2 },
  repetition: { repetitionPenalty: 1.4, topK: 60 },
  mirostat: { mirostat: { tau: 3, eta: 0.3 } },
  "mirostat 1": { mirostat: { tau: 3, eta: 0.3, version: 1 } },
  xtc: { xtc: { threshold: 0.01, probability: 0.5 }, typical: 0.9 },
  "forced prefix, repeats": {
    forceTokens: [72, 105, 32],
    dry: { allowedLength: 1, multiplier: 2 },
    sequenceRepetition: { flat: 2, minLength: 2, tolerance: 1, maxMerge: 2 },
  },
  text: { sampler: "penalties(1, 1) | repetition(1.2) | tail-free(0.95) | temperature(1.1)" },
  steps: { sampler: [own, steps.penalties({ presence: 1 }), own, steps.mirostat(4)] },
};

describe.each(Object.entries(SAMPLERS))("with %s, the same seed gives the same text", (_, options) => {
  const N = 60;
  const wanted = async (seed: number): Promise<readonly number[]> => {
    await using session = await model.createSession();
    return (await session.generate(PROMPT, { ...options, maxTokens: N, seed, stopTokens: [] })).tokens;
  };

  test("in every run; another seed gives another", async () => {
    expect(await wanted(3)).toEqual(await wanted(3));
    expect(await wanted(4)).not.toEqual(await wanted(3));
  });

  test("cut into pieces anywhere, saved and restored between them, with prompts in chunks", async () => {
    const want = await wanted(3);
    await fc.assert(
      fc.asyncProperty(
        fc.array(fc.tuple(fc.integer({ min: 1, max: 20 }), fc.constantFrom("go on", "restore", "fork")), {
          maxLength: 6,
        }),
        fc.integer({ min: 1, max: 256 }),
        async (pieces, chunk) => {
          await using other = await loadModel(bytesSource(tinyModel(), "tiny.safetensors"), { chunk });
          let session = await other.createSession();
          const tokens: number[] = [];
          let seed: number | undefined = 3;
          for (const [length, way] of [...pieces, [N, "go on"] as const]) {
            const maxTokens = Math.min(length, N - tokens.length);
            const prompt = seed === undefined ? null : PROMPT;
            const result = await session.generate(prompt, { ...options, maxTokens, seed, stopTokens: [] });
            tokens.push(...result.tokens);
            seed = undefined;
            if (way === "restore") session = await other.restore(await session.save());
            if (way === "fork") session = await session.fork();
          }
          expect(tokens).toEqual(want);
        },
      ),
      { seed: 7, numRuns: 8 },
    );
  });

  test("alone or beside others", async () => {
    const alone = [await wanted(1), await wanted(2), await wanted(3)];
    expect(await Promise.all([wanted(1), wanted(2), wanted(3)])).toEqual(alone);
  });
});

test("an answer ends where a prompt is read: its tokens are not penalised in the next one", async () => {
  const options: GenerateOptions = { sampler: "penalties(presence=60) | greedy", stopTokens: [] };
  await using session = await model.createSession();
  const first = await session.generate(PROMPT, { ...options, maxTokens: 100 });
  const rest = await session.generate(null, { ...options, maxTokens: 100 });
  expect(new Set([...first.tokens, ...rest.tokens]).size).toBe(200);
  // 200 of 256 ids are used: another answer of 100 could not avoid them.
  const next = await session.generate("More", { ...options, maxTokens: 100 });
  expect(new Set(next.tokens).size).toBe(100);
  await session.append("And");
  const last = await session.generate(null, { ...options, maxTokens: 200 });
  expect(new Set(last.tokens).size).toBe(200);
});

describe("log-probabilities", () => {
  test("of the tokens drawn and of the likeliest, by the model alone, whatever the sampler", async () => {
    await using session = await model.createSession();
    const chunks = [];
    const generation = session.generate(PROMPT, {
      maxTokens: 12,
      seed: 5,
      stopTokens: [],
      logprobs: 4,
      temperature: 2,
      banTokens: [7],
    });
    for await (const chunk of generation) chunks.push(chunk);
    const told = chunks.flatMap(({ logprobs }) => logprobs!);
    expect(generation.result!.logprobs).toEqual(told);
    const { tokens } = generation.result!;
    expect(told.map(({ token }) => token)).toEqual(tokens);
    await using check = await model.createSession();
    let logits = await check.forward([...new TextEncoder().encode(PROMPT)]);
    for (const [i, { token, logprob, top }] of told.entries()) {
      const total = logits.reduce((sum, logit) => sum + Math.exp(logit), 0);
      const all = Array.from(logits, (logit, id) => ({ token: id, logprob: logit - Math.log(total) }));
      expect(logprob).toBeCloseTo(all[token]!.logprob, 6);
      const want = all.toSorted((a, b) => b.logprob - a.logprob).slice(0, 4);
      expect(top.map((one) => one.token)).toEqual(want.map((one) => one.token));
      top.forEach((one, rank) => expect(one.logprob).toBeCloseTo(want[rank]!.logprob, 6));
      logits = await check.forward([tokens[i]!]);
    }
  });

  test("0 tells the drawn token's alone; nothing is told unasked", async () => {
    await using session = await model.createSession();
    const { logprobs } = await session.generate(PROMPT, { maxTokens: 2, logprobs: 0 });
    expect(logprobs!.map(({ top }) => top)).toEqual([[], []]);
    expect(await session.generate(null, { maxTokens: 2 })).not.toHaveProperty("logprobs");
    expect(() => session.generate(null, { logprobs: 1.5 })).toThrow("logprobs is 1.5");
  });

  test("more than there are tokens is all of them", async () => {
    await using session = await model.createSession();
    const { logprobs } = await session.generate(PROMPT, { maxTokens: 1, logprobs: 1000 });
    expect(logprobs![0]!.top).toHaveLength(256);
  });
});

test("wrong chains are refused before anything is read", async () => {
  await using session = await model.createSession();
  expect(() => session.generate(PROMPT, { sampler: "top-q(1)" })).toThrow(UsageError);
  expect(() => session.generate(PROMPT, { mirostat: {}, topK: 3 })).toThrow("do not go together");
  expect(session.nTokens).toBe(0);
});

test("an error in a step reaches the caller, and the session goes on", async () => {
  await using session = await model.createSession();
  const failing = session.generate(PROMPT, { banTokens: Array.from({ length: 256 }, (_, id) => id) });
  await expect(failing).rejects.toThrow("left no token that can be drawn");
  expect((await session.generate(null, { maxTokens: 3 })).tokens).toHaveLength(3);
});
