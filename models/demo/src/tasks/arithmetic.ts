// Sums, differences and products in digits. The answer is written at once, highest digit first. A fifth of all pairs of
// operands is held out, so that answers to those can only come from having learnt to calculate.

import type { Turn } from "../chat.ts";
import { drawFrom, type SeededRandom, type Split } from "../random.ts";

export interface Problem {
  readonly operator: "+" | "-" | "x";
  readonly left: number;
  readonly right: number;
}

type Draw = (random: SeededRandom) => Problem;

const LOW = [0, 1, 10, 100];
const HIGH = [0, 9, 99, 999];

/** A sum or difference of numbers with so many digits; a difference is never below 0. */
const additive =
  (operator: "+" | "-", nDigits: number, nOtherDigits: number): Draw =>
  (random) => {
    const a = random.between(LOW[nDigits]!, HIGH[nDigits]!);
    const b = random.between(LOW[nOtherDigits]!, HIGH[nOtherDigits]!);
    if (operator === "+")
      return random.chance(0.5) ? { operator, left: a, right: b } : { operator, left: b, right: a };
    return { operator, left: Math.max(a, b), right: Math.min(a, b) };
  };

const product: Draw = (random) => ({
  operator: "x",
  left: random.between(1, 9),
  right: random.between(1, 9),
});

/** What is practised, and how often. */
const KINDS: readonly { readonly weight: number; readonly draw: Draw }[] = [
  { weight: 4, draw: additive("+", 1, 1) },
  { weight: 4, draw: additive("-", 1, 1) },
  { weight: 8, draw: additive("+", 2, 1) },
  { weight: 8, draw: additive("-", 2, 1) },
  { weight: 30, draw: additive("+", 2, 2) },
  { weight: 30, draw: additive("-", 2, 2) },
  { weight: 5, draw: additive("+", 3, 3) },
  { weight: 5, draw: additive("-", 3, 3) },
  { weight: 2, draw: additive("+", 3, 2) },
  { weight: 2, draw: additive("-", 3, 2) },
  { weight: 4, draw: product },
];

/**
 * What makes two problems one case: 38 + 47 is 47 + 38. Problems of single digits are too few to hold any out, so that
 * they have no key.
 */
export function problemKey({ operator, left, right }: Problem): string | null {
  if (left < 10 && right < 10) return null;
  return operator === "+"
    ? `${Math.min(left, right)} + ${Math.max(left, right)}`
    : `${left} ${operator} ${right}`;
}

export function solve({ operator, left, right }: Problem): number {
  if (operator === "x") return left * right;
  return operator === "+" ? left + right : left - right;
}

/** A problem in words or signs, with its answer. */
export function arithmeticTurn(random: SeededRandom, problem: Problem): Turn {
  const term = `${problem.left} ${problem.operator} ${problem.right}`;
  const user = random.pick([`What is ${term}?`, `What is ${term}?`, `${term} = ?`, `How much is ${term}?`]);
  return { user, assistant: String(solve(problem)) };
}

/** Any of the kinds that are practised. */
export function practiceProblem(random: SeededRandom): Problem {
  return drawFrom("train", () => random.pickWeighted(KINDS).draw(random), problemKey);
}

/** A sum or difference with so many digits on both sides. */
export function problemOf(
  random: SeededRandom,
  split: Split,
  operator: "+" | "-",
  nDigits: number,
  nOtherDigits = nDigits,
): Problem {
  const draw = additive(operator, nDigits, nOtherDigits);
  return drawFrom(split, () => draw(random), problemKey);
}

/** A product of two digits; there are 81, and training sees them all. */
export function productProblem(random: SeededRandom): Problem {
  return product(random);
}
