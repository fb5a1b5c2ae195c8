// The evaluation: which abilities are measured, on which cases, and the floors that a shipped model must reach. Cases
// come from the side of the hold-out rule that training never sees, except where a task has too few cases to hold any out.

import { formatTurn, promptOf, TURN_END, type Turn } from "./chat.ts";
import { SeededRandom } from "./random.ts";
import { drawStory, parsesAsStory, storyTurns } from "./story/telling.ts";
import { arithmeticTurn, problemOf, productProblem } from "./tasks/arithmetic.ts";
import { compareTurn, countTurn, sortNumbersTurn, sortWordsTurn } from "./tasks/lists.ts";
import { isCouplet, RHYMING, rhymeRequest } from "./tasks/rhymes.ts";
import { backwardsTurn, capitalsTurn, copyTurn, letterByLetterTurn } from "./tasks/spelling.ts";

/** A prompt, and what makes an answer to it right. */
export interface EvalCase {
  readonly prompt: string;
  /** The one right answer, compared without spaces at its ends; or a judge of what was written. */
  readonly expected: string | ((answer: string) => boolean);
}

export interface Suite {
  readonly name: string;
  readonly nCases: number;
  /** Least share of right answers; null where none is promised. */
  readonly floor: number | null;
  /** 0 takes the likeliest token. */
  readonly temperature: number;
  /** Most tokens of an answer. */
  readonly maxTokens: number;
  /** Whether training never saw the cases, or all of them because there are few. */
  readonly isHeldOut: boolean;
  readonly draw: (random: SeededRandom) => EvalCase;
}

/** Answers end where a turn ends. */
export const STOP = TURN_END;

const STORY_START = "Once upon a time";
const STORY_TEMPERATURE = 0.7;

const asCase = ({ user, assistant }: Turn): EvalCase => ({ prompt: promptOf(user), expected: assistant });

const exact = (
  name: string,
  floor: number | null,
  draw: (random: SeededRandom) => Turn,
  { nCases = 500, isHeldOut = true } = {},
): Suite => ({
  name,
  nCases,
  floor,
  temperature: 0,
  maxTokens: 48,
  isHeldOut,
  draw: (random) => asCase(draw(random)),
});

const sums = (operator: "+" | "-", nDigits: number) => (random: SeededRandom) =>
  arithmeticTurn(random, problemOf(random, "held-out", operator, nDigits));

function questionCase(random: SeededRandom): EvalCase {
  const [told, question] = storyTurns(random, drawStory(random, "held-out"), 1);
  const { prompt, expected } = asCase(question!);
  return { prompt: formatTurn(told!) + prompt, expected };
}

export const SUITES: readonly Suite[] = [
  exact("two-digit addition", 0.95, sums("+", 2)),
  exact("two-digit subtraction", 0.95, sums("-", 2)),
  exact("three-digit addition", null, sums("+", 3)),
  exact("three-digit subtraction", null, sums("-", 3)),
  exact("one-digit multiplication", null, (random) => arithmeticTurn(random, productProblem(random)), {
    nCases: 200,
    isHeldOut: false,
  }),
  exact("spelling backwards", 0.95, (random) => backwardsTurn(random, "held-out")),
  exact("copying", 0.99, (random) => copyTurn(random, "held-out")),
  exact("spelling letter by letter", null, (random) => letterByLetterTurn(random, "held-out"), {
    nCases: 200,
  }),
  exact("capital letters", null, (random) => capitalsTurn(random, "held-out"), { nCases: 200 }),
  exact("sorting numbers", null, (random) => sortNumbersTurn(random, "held-out"), { nCases: 300 }),
  exact("sorting words", null, (random) => sortWordsTurn(random, "held-out"), { nCases: 300 }),
  exact("counting", null, (random) => countTurn(random, "held-out"), { nCases: 200 }),
  exact("comparing numbers", null, (random) => compareTurn(random, "held-out"), { nCases: 200 }),
  {
    name: "questions about a story",
    nCases: 500,
    floor: 0.9,
    temperature: 0,
    maxTokens: 16,
    isHeldOut: true,
    draw: questionCase,
  },
  {
    name: "whole, consistent stories",
    nCases: 200,
    floor: 0.9,
    temperature: STORY_TEMPERATURE,
    maxTokens: 300,
    isHeldOut: true,
    draw: () => ({ prompt: STORY_START, expected: (rest) => parsesAsStory(STORY_START + rest) }),
  },
  {
    name: "rhyming couplets",
    nCases: 200,
    floor: null,
    temperature: STORY_TEMPERATURE,
    maxTokens: 48,
    isHeldOut: false,
    draw: (random) => {
      const about = random.pick(RHYMING);
      return {
        prompt: promptOf(rhymeRequest(about)),
        expected: (answer) => isCouplet(answer.trim(), about),
      };
    },
  },
];

/** Cases `0` to `nCases - 1` of a suite; the same seed gives the same ones. */
export function casesOf(suite: Suite, seed: number): EvalCase[] {
  return Array.from({ length: suite.nCases }, (_, i) => suite.draw(new SeededRandom(seed, i)));
}

export function isRight({ expected }: EvalCase, answer: string): boolean {
  return typeof expected === "string" ? answer.trim() === expected : expected(answer);
}
