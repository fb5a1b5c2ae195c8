import { expect, test } from "vitest";
import { SeededRandom } from "../random.ts";
import { piecesOf, tellStory } from "./grammar.ts";
import { parseStory } from "./parser.ts";
import { STORIES } from "./plots.ts";
import { drawStory, parsesAsStory, readingTurn, storyTurns } from "./telling.ts";

const stories = (seed: number, n: number) =>
  Array.from({ length: n }, (_, i) => tellStory(STORIES, new SeededRandom(seed, i)));

const EXAMPLE =
  "Once upon a time there was a brave girl named Mia. Her favourite thing was a red kite. One windy day she took the " +
  "kite to the hill. Then a strong wind blew it away. Mia was sad and asked Tom for help. At last Tom found the kite " +
  "behind a bush. Mia thanked Tom, and he laughed. That night Mia fell asleep with a smile.";

test("every story that is told is read back, with its plot and its rows", () => {
  for (const { plot, text, cast, mentioned } of stories(1, 500)) {
    const parsed = parseStory(STORIES, text);
    expect(parsed?.plot, text).toBe(plot);
    for (const slot of mentioned) expect(parsed!.rows.get(slot), `${slot} in ${text}`).toContain(cast[slot]);
  }
});

test("every plot is told, in five to ten sentences", () => {
  const told = stories(2, 400);
  expect(new Set(told.map(({ plot }) => plot)).size).toBe(STORIES.plots.length);
  for (const { text } of told) {
    const nSentences = text.match(/[.!]( |$)/g)!.length;
    expect(nSentences, text).toBeGreaterThanOrEqual(5);
    expect(nSentences, text).toBeLessThanOrEqual(10);
  }
});

test("the example is a story", () => {
  expect(parsesAsStory(EXAMPLE)).toBe(true);
});

test.each([
  ["another name", "Mia was sad", "Zoe was sad"],
  ["another pronoun", "she took", "he took"],
  ["a pronoun that does not fit the friend", "and he laughed", "and she laughed"],
  ["another thing", "found the kite", "found the ball"],
  ["a girl with a boy's pronoun", "Her favourite", "His favourite"],
  ["a word of no table", "red kite", "rad kite"],
  ["a friend who is the hero", "asked Tom", "asked Mia"],
  [
    "a sentence twice",
    "Then a strong wind blew it away.",
    "Then a strong wind blew it away. Then a strong wind blew it away.",
  ],
  ["a sentence missing", " Then a strong wind blew it away.", ""],
  ["no end", " That night Mia fell asleep with a smile.", ""],
  ["a cut last sentence", "with a smile.", "with a"],
  ["something after the end", "with a smile.", "with a smile. "],
])("a story with %s is none", (_, from, to) => {
  expect(EXAMPLE).toContain(from);
  expect(parsesAsStory(EXAMPLE.replace(from, to))).toBe(false);
});

test("answers are made of words of the story", () => {
  const random = new SeededRandom(3, 0);
  for (let i = 0; i < 300; i++) {
    const story = drawStory(random, "train");
    for (const { assistant } of storyTurns(random, story, 9).slice(1)) {
      const words = assistant.toLowerCase().replace(/\.$/, "").split(" ");
      for (const word of words) expect(story.text.toLowerCase()).toContain(word);
    }
  }
});

test("a question about a passage is answered by words of the passage", () => {
  const random = new SeededRandom(5, 0);
  for (let i = 0; i < 300; i++) {
    const { user, assistant } = readingTurn(random);
    const [, passage, question] = /^(.*[.!]) ([^.!]+\?)$/.exec(user)!;
    expect(question, user).toBeDefined();
    for (const word of assistant.toLowerCase().replace(/\.$/, "").split(" "))
      expect(passage!.toLowerCase()).toContain(word);
  }
});

test("a story is asked for by what it mentions", () => {
  const random = new SeededRandom(4, 0);
  for (let i = 0; i < 200; i++) {
    const story = drawStory(random, "train");
    const topic = /about (?:a (?:\w+ named )?)?(\w+)/.exec(storyTurns(random, story, 0)[0]!.user)?.[1];
    if (topic !== undefined) expect(story.text).toContain(topic);
  }
});

test("templates name slots and fields that exist", () => {
  for (const { name, sections } of STORIES.plots) {
    for (const { text, questions = [] } of sections.flat()) {
      for (const template of [text, ...questions.flatMap(({ ask, answer }) => [ask, answer])]) {
        for (const piece of piecesOf(template)) {
          if (typeof piece === "string") {
            expect(piece, `${name}: ${template}`).not.toMatch(/[{}]/);
            continue;
          }
          const field = piece.field.charAt(0).toLowerCase() + piece.field.slice(1);
          expect(Object.keys(STORIES.slots[piece.slot]?.table[0] ?? {}), `${name}: ${template}`).toContain(
            field,
          );
        }
      }
    }
  }
});
