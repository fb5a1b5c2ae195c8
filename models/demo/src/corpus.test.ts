import { expect, test } from "vitest";
import { corpus, documentAt, TURN_KINDS } from "./corpus.ts";
import { SeededRandom } from "./random.ts";
import { casesOf, SUITES } from "./suites.ts";
import { solve } from "./tasks/arithmetic.ts";
import { reversed } from "./tasks/spelling.ts";

const SUM = /(\d+) ([+x-]) (\d+)[^\n]*\n\nAssistant: (\d+)\n\n/g;
const BACKWARDS = /(?:Spell|Write) "(\w+)" backwards\.\n\nAssistant: "(\w+)"/g;
const SORTED = /Sort ([\d, ]+)\.\n\nAssistant: ([\d, ]+)\n/g;

test("a document depends on the seed and its number alone", () => {
  const documents = [...corpus(7, 20)];
  expect(documentAt(7, 13)).toBe(documents[13]);
  expect(documentAt(8, 13)).not.toBe(documents[13]);
});

test("the corpus is the same on every machine", () => {
  expect(documentAt(1, 0)).toBe([...corpus(1, 1)][0]);
  expect(documentAt(1, 4)).toMatchInlineSnapshot(`
    "User: Spell "gligrask".

    Assistant: "g-l-i-g-r-a-s-k"

    "
  `);
});

test("answers of the corpus are right", () => {
  const text = [...corpus(3, 3000)].join("");
  const sums = [...text.matchAll(SUM)];
  expect(sums.length).toBeGreaterThan(2000);
  for (const [, left, operator, right, answer] of sums) {
    const problem = { operator: operator as "+" | "-" | "x", left: Number(left), right: Number(right) };
    expect(solve(problem)).toBe(Number(answer));
  }
  const reversals = [...text.matchAll(BACKWARDS)];
  expect(reversals.length).toBeGreaterThan(300);
  for (const [, word, answer] of reversals) expect(reversed(word!)).toBe(answer);
  const lists = [...text.matchAll(SORTED)];
  expect(lists.length).toBeGreaterThan(100);
  for (const [, list, sorted] of lists) {
    expect(sorted!.split(", ").map(Number)).toEqual(
      list!
        .split(", ")
        .map(Number)
        .sort((a, b) => a - b),
    );
  }
});

test("no case of the evaluation is in the corpus", () => {
  const turns = new Set([...corpus(3, 4000)].flatMap((text) => text.split("User: ").slice(1)));
  expect(turns.size).toBeGreaterThan(8000);
  const contaminated: string[] = [];
  for (const suite of SUITES.filter(({ isHeldOut, temperature }) => isHeldOut && temperature === 0)) {
    for (const { prompt, expected } of casesOf(suite, 3)) {
      if (!prompt.startsWith("User: ") || typeof expected !== "string") continue;
      if (turns.has(`${prompt.slice("User: ".length)} ${expected}\n\n`)) contaminated.push(prompt);
    }
  }
  expect(contaminated).toEqual([]);
});

test("every kind of turn keeps the format: no empty line inside, no space at an end", () => {
  for (const { name, draw } of TURN_KINDS) {
    for (let i = 0; i < 200; i++) {
      const { user, assistant } = draw(new SeededRandom(5, i));
      for (const text of [user, assistant]) {
        expect(text, name).not.toContain("\n\n");
        expect(text, name).toBe(text.trim());
        expect(text, name).not.toBe("");
      }
    }
  }
});
