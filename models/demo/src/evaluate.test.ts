import { loadModel, type Model } from "rwkv";
import { afterAll, beforeAll, expect, test } from "vitest";
import { tinyModel } from "../../../test/support/tiny-model.ts";
import { evaluate, meetsFloor, type SuiteResult } from "./evaluate.ts";
import { casesOf, isRight, STOP, SUITES, type Suite } from "./suites.ts";
import { resultTable } from "./tables.ts";

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel());
});
afterAll(() => model.dispose());

/** Prompts of different lengths, answered by a model that has learnt nothing; `expected` is what it writes alone. */
const suite = (expected: (prompt: string) => string, temperature = 0): Suite => ({
  name: "test",
  nCases: 70,
  floor: 0.5,
  temperature,
  maxTokens: 9,
  isHeldOut: true,
  draw: (random) => {
    const prompt = "x".repeat(random.between(1, 12)) + String(random.between(1, 99));
    return { prompt, expected: expected(prompt) };
  },
});

async function answersAlone(prompts: readonly string[]): Promise<Map<string, string>> {
  const answers = new Map<string, string>();
  for (const prompt of prompts) {
    const session = await model.createSession();
    const { text } = await session.generate(prompt, { temperature: 0, maxTokens: 9, stop: [STOP] });
    answers.set(prompt, text.trim());
    session.dispose();
  }
  return answers;
}

test("many sessions at once answer as each would alone", async () => {
  const prompts = casesOf(
    suite(() => ""),
    4,
  ).map(({ prompt }) => prompt);
  const alone = await answersAlone(prompts);
  const seen: SuiteResult[] = [];
  const [result] = await evaluate(model, [suite((prompt) => alone.get(prompt)!)], {
    seed: 4,
    onSuite: (done) => seen.push(done),
  });
  expect(result).toMatchObject({ nCases: 70, nRight: 70, misses: [] });
  expect(seen).toEqual([result]);
  expect(meetsFloor(result!)).toBe(true);
});

test("wrong answers are counted, the first few kept, and a missed floor is shown", async () => {
  const [result] = await evaluate(model, [suite(() => "no such answer")], { seed: 4 });
  expect(result).toMatchObject({ nCases: 70, nRight: 0 });
  expect(result!.misses).toHaveLength(5);
  expect(result!.misses[0]).toMatchObject({ expected: "no such answer" });
  expect(meetsFloor(result!)).toBe(false);
  expect(resultTable([result!])).toContain("| test    |    70 | 0.0 % | 50.0 % missed |");
});

test("drawn answers are the same each time", async () => {
  const answers: string[] = [];
  const drawn: Suite = {
    ...suite(() => "", 0.7),
    draw: () => ({ prompt: "abc", expected: (answer) => answers.push(answer) > 0 }),
  };
  await evaluate(model, [drawn], { seed: 1 });
  const first = answers.splice(0);
  await evaluate(model, [drawn], { seed: 1 });
  expect(answers).toEqual(first);
  expect(new Set(first).size).toBeGreaterThan(10);
});

test("an abort ends the evaluation with the signal's reason", async () => {
  const reason = new Error("enough");
  const abort = new AbortController();
  const cases = suite(() => "");
  const running = evaluate(model, [cases, cases], {
    seed: 1,
    signal: abort.signal,
    onSuite: () => abort.abort(reason),
  });
  await expect(running).rejects.toBe(reason);
});

test("suites draw the same cases for a seed, as many as they say, and know right from wrong", () => {
  for (const each of SUITES) {
    const cases = casesOf(each, 5);
    expect(cases).toHaveLength(each.nCases);
    expect(casesOf(each, 5).map(({ prompt }) => prompt)).toEqual(cases.map(({ prompt }) => prompt));
    for (const one of cases.slice(0, 20)) {
      if (typeof one.expected === "string") expect(isRight(one, ` ${one.expected}`), each.name).toBe(true);
      expect(isRight(one, " nothing of the kind"), each.name).toBe(false);
    }
  }
});

test("the promised abilities have floors", () => {
  const floors = Object.fromEntries(
    SUITES.flatMap(({ name, floor }) => (floor === null ? [] : [[name, floor]])),
  );
  expect(floors).toEqual({
    "two-digit addition": 0.95,
    "two-digit subtraction": 0.95,
    "spelling backwards": 0.95,
    copying: 0.99,
    "questions about a story": 0.9,
    "whole, consistent stories": 0.9,
  });
});
