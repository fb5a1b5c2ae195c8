// Evaluations against their definitions, computed here from plain logits; and that batching, cutting and forking change no
// number.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  createByteTokenizer,
  evaluateChoices,
  evaluateExact,
  evaluateLastWords,
  evaluateText,
  loadModel,
  UsageError,
  type ChoiceCase,
  type EvaluationProgress,
  type Model,
} from "../../packages/rwkv/src/node.ts";
import { tinyModel } from "../support/tiny-model.ts";

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel(), { threads: 1 });
});
afterAll(() => model.dispose());

const bytesOf = (text: string): number[] => [...new TextEncoder().encode(text)];

/** log P(tokens[i + 1] | tokens[0..i]) for every i, by softmax in f64 over one forward pass. */
async function logProbabilitiesOf(tokens: readonly number[], of = model): Promise<number[]> {
  const { nVocab } = of.config;
  const logits = await (await of.createSession()).forward(tokens, { logits: "all" });
  return tokens.slice(1).map((token, i) => {
    const row = Array.from(logits.subarray(i * nVocab, (i + 1) * nVocab));
    const peak = Math.max(...row);
    return row[token]! - peak - Math.log(row.reduce((sum, logit) => sum + Math.exp(logit - peak), 0));
  });
}

const sum = (values: readonly number[]): number => values.reduce((total, value) => total + value, 0);

const TEXT = "It was a bright cold day in April, and the clocks were striking thirteen. ".repeat(9);

describe("the perplexity of a text", () => {
  test("is that of its tokens after the first, in nats", async () => {
    const tokens = bytesOf(TEXT);
    const nats = -sum(await logProbabilitiesOf(tokens));
    const score = await evaluateText(model, TEXT);
    expect(score.nTokens).toBe(tokens.length - 1);
    expect(score.nBytes).toBe(tokens.length - 1);
    expect(score.natsPerToken).toBeCloseTo(nats / score.nTokens, 9);
    expect(score.natsPerByte).toBeCloseTo(nats / score.nTokens, 9);
    expect(score.perplexity).toBeCloseTo(Math.exp(nats / score.nTokens), 6);
  });

  test("counts the first token too after a start token", async () => {
    const nats = -sum(await logProbabilitiesOf([0, ...bytesOf("Hello")]));
    const score = await evaluateText(model, "Hello", { startToken: 0 });
    expect(score.nTokens).toBe(5);
    expect(score.natsPerToken).toBeCloseTo(nats / 5, 9);
  });

  test("begins at a state, and takes ids in place of a text", async () => {
    const session = await model.createSession();
    await session.append("It was");
    const state = await session.save();
    const whole = await logProbabilitiesOf(bytesOf("It was a day"));
    const score = await evaluateText(model, bytesOf(" a day"), { state });
    expect(score.natsPerToken).toBeCloseTo(-sum(whole.slice(6)) / 5, 9);
  });

  test("tells how far it is, and needs something to predict", async () => {
    const seen: EvaluationProgress[] = [];
    await evaluateText(model, TEXT, { onProgress: (progress) => seen.push(progress) });
    const total = bytesOf(TEXT).length - 1;
    expect(seen.length).toBeGreaterThan(1);
    expect(seen.at(-1)).toEqual({ done: total, total });
    await expect(evaluateText(model, "a")).rejects.toThrow(UsageError);
    await expect(evaluateText(model, "a")).rejects.toThrow(/has 1 tokens; at least 2 are needed/);
    await expect(evaluateText(model, "", { startToken: 0 })).rejects.toThrow(
      /has 0 tokens; at least 1 are needed/,
    );
  });
});

describe("multiple choice", () => {
  const CASES: ChoiceCase[] = [
    { context: "The sea is", choices: ["blue", " green", "of a deep and very dark blue"], answer: 2 },
    { context: "Two and two are ", choices: ["four", "five"], answer: 0 },
    { context: "Never mind:", choices: ["x", "y", "z", "w"] },
  ];

  test("scores are those of context and choice in one text", async () => {
    const result = await evaluateChoices(model, CASES);
    const joined = ["The sea is blue", "The sea is green", "The sea is of a deep and very dark blue"];
    for (const [i, text] of joined.entries()) {
      const want = sum((await logProbabilitiesOf(bytesOf(text))).slice("The sea is".length - 1));
      expect(result.cases[0]!.logProbabilities[i]).toBeCloseTo(want, 9);
      const byteLength = bytesOf(CASES[0]!.choices[i]!).length;
      expect(result.cases[0]!.normalized[i]).toBeCloseTo(want / byteLength, 9);
    }
    const four = sum((await logProbabilitiesOf(bytesOf("Two and two are four"))).slice(15));
    expect(result.cases[1]!.logProbabilities[0]).toBeCloseTo(four, 9);
  });

  test("accuracies count the cases with an answer, rankings are by falling score", async () => {
    const result = await evaluateChoices(model, CASES);
    expect([result.nCases, result.nAnswered]).toEqual([3, 2]);
    const right = (key: "logProbabilities" | "normalized"): number =>
      CASES.filter(({ answer }, i) => {
        const scores = result.cases[i]![key];
        return answer !== undefined && scores[answer] === Math.max(...scores);
      }).length;
    expect(result.accuracy).toBe(right("logProbabilities") / 2);
    expect(result.normalizedAccuracy).toBe(right("normalized") / 2);
    for (const { ranking, logProbabilities, normalizedRanking, normalized } of result.cases) {
      for (let i = 1; i < ranking.length; i++) {
        expect(logProbabilities[ranking[i]!]!).toBeLessThanOrEqual(logProbabilities[ranking[i - 1]!]!);
        expect(normalized[normalizedRanking[i]!]!).toBeLessThanOrEqual(
          normalized[normalizedRanking[i - 1]!]!,
        );
      }
    }
    const ranked = await evaluateChoices(model, [CASES[2]!]);
    expect([ranked.accuracy, ranked.normalizedAccuracy]).toEqual([null, null]);
  });

  test("no number depends on how many sequences are read at once", async () => {
    const many = Array.from({ length: 20 }, (_, i) => ({
      ...CASES[i % 3]!,
      context: `${CASES[i % 3]!.context} ${i}:`,
    }));
    const want = await evaluateChoices(model, many, { batch: 1 });
    for (const batch of [2, 5, 64]) expect(await evaluateChoices(model, many, { batch })).toEqual(want);
  });

  test("a separator of the caller's, and a start token before an empty context", async () => {
    const [glued] = (
      await evaluateChoices(model, [{ context: "1+1", choices: ["=2", "=3"] }], { separator: "" })
    ).cases;
    const want = sum((await logProbabilitiesOf(bytesOf("1+1=2"))).slice(2));
    expect(glued!.logProbabilities[0]).toBeCloseTo(want, 9);
    const empty: ChoiceCase[] = [{ context: "", choices: ["ab", "cd"] }];
    const [started] = (await evaluateChoices(model, empty, { startToken: 0 })).cases;
    expect(started!.logProbabilities[0]).toBeCloseTo(sum(await logProbabilitiesOf([0, 97, 98])), 9);
    await expect(evaluateChoices(model, empty)).rejects.toThrow(/Case 1: nothing stands before/);
  });

  test.each<[ChoiceCase, RegExp]>([
    [{ context: "a", choices: ["b"] }, /Case 1 has 1 choices/],
    [{ context: "a", choices: ["b", ""] }, /Case 1 has an empty choice/],
    [
      { context: "a", choices: ["b", "c"], answer: 2 },
      /Case 1 has the answer 2; expected an index from 0 to 1/,
    ],
  ])("%j is refused", async (item, message) => {
    await expect(evaluateChoices(model, [item])).rejects.toThrow(UsageError);
    await expect(evaluateChoices(model, [item])).rejects.toThrow(message);
  });
});

describe("last words", () => {
  test("have the probability of their tokens, the space before them included", async () => {
    const cases = [{ text: "Some words that follow" }, { text: "Another case\n " }];
    const result = await evaluateLastWords(model, cases);
    const first = sum((await logProbabilitiesOf(bytesOf("Some words that follow"))).slice(14));
    const second = sum((await logProbabilitiesOf(bytesOf("Another case"))).slice(6));
    expect(result.cases[0]!.logProbability).toBeCloseTo(first, 9);
    expect(result.cases[1]!.logProbability).toBeCloseTo(second, 9);
    expect(Math.log(result.perplexity)).toBeCloseTo(-(first + second) / 2, 9);
  });

  test("are found if each of their tokens is the likeliest", async () => {
    const bytes = createByteTokenizer();
    // " a" is one token, as it is in real vocabularies
    const tokenizer = { ...bytes, encode: (text: string) => bytes.encode(text.replaceAll(" a", "a")) };
    await using parrot = await loadModel(parrotModel(), { threads: 1, tokenizer });
    const texts = ["the words a", "the words aaa", "the words aab", "the words\na"];
    const result = await evaluateLastWords(
      parrot,
      texts.map((text) => ({ text })),
    );
    expect(result.cases.map(({ isGreedy }) => isGreedy)).toEqual([true, true, false, false]);
    expect(result.accuracy).toBe(0.5);
  });

  test("a case of one word is refused", async () => {
    await expect(evaluateLastWords(model, [{ text: "word " }])).rejects.toThrow(
      /Case 1 has fewer than two words/,
    );
    await expect(evaluateLastWords(model, [])).rejects.toThrow(/no cases/);
  });
});

/** A model that finds "a" likeliest after everything: its head reads a constant. */
function parrotModel(): Uint8Array {
  return tinyModel({
    edit(tensors) {
      tensors.get("ln_out.weight")!.values.fill(0);
      tensors.get("ln_out.bias")!.values.fill(1);
      const head = tensors.get("head.weight")!.values;
      head.fill(0);
      head.fill(1, 97 * 64, 98 * 64);
    },
  });
}

describe("exact answers", () => {
  test("are what greedy decoding writes until a stop, without white space at the ends", async () => {
    const prompts = ["One", "Two", "Three", "Four", "Five"];
    const want: string[] = [];
    for (const prompt of prompts) {
      const session = await model.createSession();
      want.push((await session.generate(prompt, { temperature: 0, maxTokens: 20, stop: ["e"] })).text.trim());
    }
    const cases = prompts.map((prompt, i) => ({
      prompt,
      answer: i === 3 ? "something else" : ` ${want[i]!}\n`,
    }));
    for (const batch of [1, 3, 16]) {
      const result = await evaluateExact(model, cases, { maxTokens: 20, stop: ["e"], batch });
      expect(result.cases.map(({ text }) => text)).toEqual(want);
      expect(result.cases.map(({ isCorrect }) => isCorrect)).toEqual([true, true, true, false, true]);
      expect(result.accuracy).toBe(0.8);
    }
  });

  test("an abort ends the evaluation with its reason, and leaves the model usable", async () => {
    const controller = new AbortController();
    const cases = Array.from({ length: 40 }, (_, i) => ({ prompt: `Case ${i}`, answer: "" }));
    const running = evaluateExact(model, cases, {
      maxTokens: 50,
      signal: controller.signal,
      onProgress: ({ done }) => done === 3 && controller.abort(new Error("enough")),
    });
    await expect(running).rejects.toThrow("enough");
    expect((await evaluateExact(model, cases.slice(0, 1), { maxTokens: 2 })).nCases).toBe(1);
  });

  test("an error in one case ends all of them", async () => {
    const cases = [
      { prompt: "fine", answer: "" },
      { prompt: "", answer: "" },
      { prompt: "fine", answer: "" },
    ];
    await expect(evaluateExact(model, cases, { maxTokens: 2 })).rejects.toThrow(/nothing to continue/);
    await expect(evaluateExact(model, [], {})).rejects.toThrow(/no cases/);
    await expect(evaluateExact(model, cases, { batch: 0 })).rejects.toThrow(/batch is 0/);
  });
});
