// Beam search, guidance and choices against what they stand for, computed here from plain logits.

import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { CpuProgram } from "../../packages/rwkv/src/backends/cpu/program.ts";
import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import { loadModel, UsageError, type Model, type Session } from "../../packages/rwkv/src/node.ts";
import { tinyModel } from "../support/tiny-model.ts";

let model: Model;
beforeAll(async () => {
  model = await loadModel(bytesSource(tinyModel(), "tiny.safetensors"), { threads: 1 });
});
afterAll(() => model.dispose());

const bytesOf = (text: string): number[] => [...new TextEncoder().encode(text)];

function logSoftmax(logits: ArrayLike<number>): number[] {
  const row = Array.from(logits);
  const peak = Math.max(...row);
  const total = row.reduce((sum, logit) => sum + Math.exp(logit - peak), 0);
  return row.map((logit) => logit - peak - Math.log(total));
}

/** log P(tokens | context), summed. */
async function logProbabilityOf(
  of: Model,
  context: readonly number[],
  tokens: readonly number[],
): Promise<number> {
  await using session = await of.createSession();
  let logits = await session.forward(context);
  let sum = 0;
  for (const token of tokens) {
    sum += logSoftmax(logits)[token]!;
    logits = await session.forward([token]);
  }
  return sum;
}

/** A model of this many ids. */
function toyModel(nVocab: number, seed: number): Promise<Model> {
  const bytes = tinyModel({
    seed,
    edit(tensors) {
      for (const name of ["emb.weight", "head.weight"]) {
        const { values } = tensors.get(name)!;
        tensors.set(name, { shape: [nVocab, 64], values: values.slice(0, nVocab * 64) });
      }
    },
  });
  return loadModel(bytesSource(bytes, `toy-${seed}.safetensors`), { threads: 1 });
}

describe("beam search", () => {
  const PROMPTS = ["Tell me of the sea", "a", "0123", "The end\n", "x y z", "Once upon a time there was"];

  test("is never below greedy decoding, on some prompts above; one beam is greedy", async () => {
    let nAbove = 0;
    for (const prompt of PROMPTS) {
      await using session = await model.createSession();
      const options = { maxTokens: 10, stopTokens: [] };
      await using other = await model.createSession();
      const greedy = await other.generate(prompt, { ...options, temperature: 0 });
      const want = await logProbabilityOf(model, bytesOf(prompt), greedy.tokens);
      const [one, ...none] = await session.beamSearch(prompt, { ...options, beams: 1 });
      expect(none).toEqual([]);
      expect(one!.tokens).toEqual(greedy.tokens);
      expect(one!.logProbability).toBeCloseTo(want, 5);
      for (const beams of [2, 4, 9]) {
        const found = await session.beamSearch(null, { ...options, beams });
        expect(found).toHaveLength(beams);
        expect(found[0]!.logProbability).toBeGreaterThanOrEqual(one!.logProbability);
        if (found[0]!.logProbability > one!.logProbability + 1e-6) nAbove++;
        for (const beam of found) {
          const own = await logProbabilityOf(model, bytesOf(prompt), beam.tokens);
          expect(beam.logProbability).toBeCloseTo(own, 5);
        }
        const sorted = found.toSorted((a, b) => b.logProbability - a.logProbability);
        expect(found).toEqual(sorted);
      }
    }
    expect(nAbove).toBeGreaterThan(0);
  });

  test.each([
    [3, 4, []],
    [4, 3, [2]],
    [2, 5, [0]],
  ])(
    "equals exhaustive search over %d ids, %d tokens, stop tokens %j",
    async (nVocab, maxTokens, stopTokens) => {
      for (const seed of [1, 2, 3]) {
        await using toy = await toyModel(nVocab, seed);
        const all: { tokens: number[]; logProbability: number; finishReason: string }[] = [];
        const visit = async (
          session: Session,
          logits: Float32Array,
          tokens: number[],
          sum: number,
        ): Promise<void> => {
          for (const [token, logprob] of logSoftmax(logits).entries()) {
            const logProbability = sum + logprob;
            const longer = [...tokens, token];
            if (stopTokens.includes(token)) {
              all.push({ tokens, logProbability, finishReason: "stop" });
            } else if (longer.length === maxTokens) {
              all.push({ tokens: longer, logProbability, finishReason: "length" });
            } else {
              await using fork = await session.fork();
              await visit(fork, await fork.forward([token]), longer, logProbability);
            }
          }
        };
        await using root = await toy.createSession();
        await visit(root, await root.forward([1, 0]), [], 0);
        all.sort((a, b) => b.logProbability - a.logProbability);
        await using session = await toy.createSession();
        const beams = nVocab ** (maxTokens - 1);
        const found = await session.beamSearch([1, 0], { beams, maxTokens, stopTokens });
        const want = all.slice(0, beams);
        expect(found.map(({ tokens }) => tokens)).toEqual(want.map(({ tokens }) => tokens));
        found.forEach(({ logProbability, finishReason, text }, i) => {
          expect(logProbability).toBeCloseTo(want[i]!.logProbability, 5);
          expect([finishReason, text]).toEqual([want[i]!.finishReason, ""]);
        });
      }
    },
  );

  test("all beams are read in one step for each token", async () => {
    await using session = await model.createSession();
    await session.append("Tell me");
    const runs = await runsPerStep(() =>
      session.beamSearch(null, { beams: 5, maxTokens: 6, stopTokens: [] }),
    );
    expect(runs).toEqual([1, 5, 5, 5, 5, 5]);
  });

  test("the session is left after the prompt, and goes on with a beam by its tokens", async () => {
    await using session = await model.createSession();
    const [beam] = await session.beamSearch("Tell me", { beams: 3, maxTokens: 5, stopTokens: [] });
    expect(session.nTokens).toBe(7);
    await session.append(beam!.tokens);
    await using check = await model.createSession();
    await check.append([...bytesOf("Tell me"), ...beam!.tokens]);
    expect(await session.forward([1])).toEqual(await check.forward([1]));
  });

  test("an abort frees the beams and throws its reason; wrong options are refused", async () => {
    await using session = await model.createSession();
    const controller = new AbortController();
    const search = session.beamSearch("Tell me", {
      maxTokens: 1000,
      stopTokens: [],
      signal: controller.signal,
      onProgress: ({ phase, tokensDone }) => {
        if (phase === "decode" && tokensDone === 4) controller.abort(new Error("enough"));
      },
    });
    await expect(search).rejects.toThrow("enough");
    expect((await session.beamSearch(null, { maxTokens: 2 })).length).toBe(4);
    await expect(session.beamSearch(null, { beams: 0 })).rejects.toThrow("beams is 0");
    await expect(session.beamSearch(null, { maxTokens: 0 })).rejects.toThrow("maxTokens is 0");
    await using unread = await model.createSession();
    await expect(unread.beamSearch(null)).rejects.toThrow("nothing to continue");
  });
});

describe("guidance", () => {
  const [PROMPT, NEGATIVE] = ["Tell me of the sea", "Tell me lies"];

  test("draws from the difference of two distributions, times the scale", async () => {
    for (const scale of [0, 1, 1.5, 3]) {
      await using session = await model.createSession();
      const { tokens } = await session.generate(PROMPT, {
        guidance: { scale, negative: NEGATIVE },
        temperature: 0,
        maxTokens: 12,
        stopTokens: [],
      });
      await using positive = await model.createSession();
      await using negative = await model.createSession();
      let own = await positive.forward(bytesOf(PROMPT));
      let other = await negative.forward(bytesOf(NEGATIVE));
      for (const token of tokens) {
        const [a, b] = [logSoftmax(own), logSoftmax(other)];
        const guided = a.map((logprob, id) => b[id]! + scale * (logprob - b[id]!));
        // Logits are f32: where two are as near as that, either may be the largest.
        expect(Math.max(...guided) - guided[token]!).toBeLessThan(1e-5);
        [own, other] = [await positive.forward([token]), await negative.forward([token])];
      }
    }
  });

  test("a scale of 1 changes nothing, 0 follows the negative text", async () => {
    const options = { seed: 3, maxTokens: 20, stopTokens: [] };
    const generate = async (
      prompt: string,
      guidance?: { scale: number; negative: string },
    ): Promise<string> => {
      await using session = await model.createSession();
      return (await session.generate(prompt, { ...options, guidance })).text;
    };
    expect(await generate(PROMPT, { scale: 0, negative: NEGATIVE })).toBe(await generate(NEGATIVE));
    expect(await generate(PROMPT, { scale: 1, negative: NEGATIVE })).toBe(await generate(PROMPT));
  });

  test("both sequences are read in one step, and the fork is given back", async () => {
    await using session = await model.createSession();
    const runs = await runsPerStep(async () => {
      await session.generate("abc", {
        guidance: { scale: 2, negative: "xyz" },
        maxTokens: 4,
        stopTokens: [],
      });
    });
    expect(runs).toEqual([2, 2, 2, 2, 2]);
    expect(session.nTokens).toBe(7);
  });

  test("begins where the session is; a session as the negative text goes on over pieces and restoring", async () => {
    const options = { guidance: { scale: 1.7, negative: " a b c" }, stopTokens: [] };
    await using whole = await model.createSession();
    await whole.append("So far:");
    const want = await whole.generate(PROMPT, { ...options, seed: 5, maxTokens: 20 });

    let session = await model.createSession();
    await session.append("So far:");
    let negative = await session.fork();
    await negative.append(" a b c");
    const tokens: number[] = [];
    for (const [i, maxTokens] of [4, 9, 7].entries()) {
      const prompt = i === 0 ? PROMPT : null;
      const result = await session.generate(prompt, {
        guidance: { scale: 1.7, negative },
        stopTokens: [],
        maxTokens,
        seed: i === 0 ? 5 : undefined,
      });
      tokens.push(...result.tokens);
      session = await model.restore(await session.save());
      negative = await model.restore(await negative.save());
    }
    expect(tokens).toEqual(want.tokens);
  });

  test("a busy session, another vocabulary, nothing to guide by, and a scale that is no number are refused", async () => {
    await using session = await model.createSession();
    await using negative = await model.createSession();
    const options = { maxTokens: 2 };
    const reading = negative.append("x".repeat(300));
    await expect(session.generate("a", { ...options, guidance: { scale: 2, negative } })).rejects.toThrow(
      "busy",
    );
    await reading;
    await expect(
      session.generate("a", { ...options, guidance: { scale: 2, negative: session } }),
    ).rejects.toThrow("busy");
    await using toy = await toyModel(4, 1);
    await using foreign = await toy.createSession();
    await foreign.append([1]);
    await expect(
      session.generate("a", { ...options, guidance: { scale: 2, negative: foreign } }),
    ).rejects.toThrow("negative session's model has 4 ids");
    await foreign.append([1]);
    await expect(session.generate("a", { ...options, guidance: { scale: 2, negative: "" } })).rejects.toThrow(
      "nothing to guide by",
    );
    expect(() => session.generate("a", { guidance: { scale: NaN, negative: "b" } })).toThrow(UsageError);
    await session.generate("a", options);
  });
});

/** How many sequences each step of the model reads meanwhile. */
async function runsPerStep(work: () => Promise<unknown>): Promise<number[]> {
  const spy = vi.spyOn(CpuProgram.prototype, "step");
  try {
    await work();
    return spy.mock.calls.map(([runs]) => runs.length);
  } finally {
    spy.mockRestore();
  }
}

describe("choices", () => {
  const CONTEXT = "The sea is";
  const CHOICES = [" blue", " green", " of a very dark colour", " blue"];

  test("are ranked by their probability after what was read, which stays as it is", async () => {
    await using session = await model.createSession();
    await session.append(CONTEXT);
    const before = await session.save();
    const ranked = await session.choose(CHOICES);
    const want = [];
    for (const choice of CHOICES) want.push(await logProbabilityOf(model, bytesOf(CONTEXT), bytesOf(choice)));
    expect(ranked.map(({ index }) => index).sort()).toEqual([0, 1, 2, 3]);
    for (const { index, logProbability, score, share } of ranked) {
      expect(logProbability).toBeCloseTo(want[index]!, 5);
      expect(score).toBe(logProbability);
      const total = want.reduce((sum, one) => sum + Math.exp(one), 0);
      expect(share).toBeCloseTo(Math.exp(want[index]!) / total, 5);
    }
    expect(ranked.map(({ score }) => score)).toEqual(ranked.map(({ score }) => score).sort((a, b) => b - a));
    expect(await (await model.restore(before)).choose(CHOICES)).toEqual(ranked);
    const tokens = await session.choose(CHOICES.map(bytesOf));
    expect(tokens).toEqual(ranked);
    expect(session.nTokens).toBe(CONTEXT.length);
  });

  test("a calibration takes off what they have after a neutral context", async () => {
    await using session = await model.createSession();
    await session.append(CONTEXT);
    const [plain, calibrated] = [
      await session.choose(CHOICES),
      await session.choose(CHOICES, { calibration: "It is" }),
    ];
    for (const { index, logProbability, score } of calibrated) {
      expect(logProbability).toBe(plain.find((one) => one.index === index)!.logProbability);
      const neutral = await logProbabilityOf(model, bytesOf("It is"), bytesOf(CHOICES[index]!));
      expect(score).toBeCloseTo(logProbability - neutral, 5);
    }
    const same = await session.choose(CHOICES, { calibration: CONTEXT });
    for (const { score, share } of same) expect([score, share]).toEqual([0, 0.25]);
  });

  test("what is no choice is refused", async () => {
    await using session = await model.createSession();
    await expect(session.choose(["a"])).rejects.toThrow("nothing to continue");
    await session.append(CONTEXT);
    await expect(session.choose([])).rejects.toThrow("There are no choices");
    await expect(session.choose(["a", ""])).rejects.toThrow("Choice 1 is empty");
    await expect(session.choose([[256]])).rejects.toThrow("Token 256 is unknown");
    await expect(session.choose(["a"], { calibration: "" })).rejects.toThrow("calibration is empty");
    await expect(session.choose(["a"], { calibration: true })).rejects.toThrow("no token that ends a text");
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(session.choose(["ab"], { signal })).rejects.toThrow("enough");
  });
});
