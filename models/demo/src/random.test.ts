import { expect, test } from "vitest";
import { drawFrom, isHeldOut, SeededRandom } from "./random.ts";
import { problemKey, problemOf } from "./tasks/arithmetic.ts";

test("a fifth of all pairs of two-digit operands is held out", () => {
  let nHeldOut = 0;
  for (let left = 10; left < 100; left++) {
    for (let right = 10; right <= left; right++) if (isHeldOut(`${left} - ${right}`)) nHeldOut++;
  }
  // 4095 draws with probability 1/5: a standard deviation is 26.
  expect(nHeldOut).toBeGreaterThan(819 - 4 * 26);
  expect(nHeldOut).toBeLessThan(819 + 4 * 26);
});

test("a sum is held out in both orders or in none", () => {
  expect(problemKey({ operator: "+", left: 47, right: 38 })).toBe(
    problemKey({ operator: "+", left: 38, right: 47 }),
  );
  expect(problemKey({ operator: "-", left: 47, right: 38 })).not.toBe(
    problemKey({ operator: "-", left: 48, right: 38 }),
  );
});

test("training and evaluation draw from different sides", () => {
  const random = new SeededRandom(1, 1);
  for (let i = 0; i < 500; i++) {
    expect(isHeldOut(problemKey(problemOf(random, "train", "+", 2))!)).toBe(false);
    expect(isHeldOut(problemKey(problemOf(random, "held-out", "+", 2))!)).toBe(true);
  }
});

test("a case without a key serves both sides", () => {
  expect(
    drawFrom(
      "held-out",
      () => 5,
      () => null,
    ),
  ).toBe(5);
});

test("streams of a seed differ, and the numbers are spread evenly", () => {
  const draws = (stream: number) => {
    const random = new SeededRandom(9, stream);
    return Array.from({ length: 4000 }, () => random.below(8));
  };
  expect(draws(0)).not.toEqual(draws(1));
  const counts = new Array<number>(8).fill(0);
  for (const n of draws(2)) counts[n]!++;
  // 4000 draws with probability 1/8: a standard deviation is 21.
  for (const count of counts) expect(Math.abs(count - 500)).toBeLessThan(4 * 21);
});

test("weights are the odds", () => {
  const random = new SeededRandom(10, 0);
  let nHeavy = 0;
  const items = [{ weight: 1 }, { weight: 3 }];
  for (let i = 0; i < 4000; i++) if (random.pickWeighted(items) === items[1]) nHeavy++;
  expect(Math.abs(nHeavy - 3000)).toBeLessThan(4 * 28);
});

test("a sample has no item twice, and no more than there are", () => {
  const random = new SeededRandom(11, 0);
  for (let i = 0; i < 100; i++) expect(new Set(random.sample([1, 2, 3, 4], 3)).size).toBe(3);
  expect(random.sample([1, 2], 5).sort()).toEqual([1, 2]);
});
