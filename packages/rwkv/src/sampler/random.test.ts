import fc from "fast-check";
import { expect, test } from "vitest";
import { UsageError } from "../core/errors.ts";
import { drawSeed, Random } from "./random.ts";

test("the outputs are those of xoshiro128starstar.c 1.1 with the state 1, 2, 3, 4", () => {
  const random = Random.fromState([1, 2, 3, 4]);
  expect(Array.from({ length: 10 }, () => random.nextU32())).toEqual([
    11520, 0, 5927040, 70819200, 2031721883, 1637235492, 1287239034, 3734860849, 3729100597, 4258142804,
  ]);
});

test("a generator made from a state continues exactly where that one was", () => {
  fc.assert(
    fc.property(fc.maxSafeNat(), fc.nat({ max: 50 }), (seed, n) => {
      const random = Random.fromSeed(seed);
      for (let i = 0; i < n; i++) random.nextU32();
      const state = random.state();
      const copy = Random.fromState(JSON.parse(JSON.stringify(state)) as number[]);
      expect(Array.from({ length: 5 }, () => copy.nextUnit())).toEqual(
        Array.from({ length: 5 }, () => random.nextUnit()),
      );
      expect(copy.state()).toEqual(random.state());
      expect(state).not.toEqual(random.state());
    }),
    { seed: 7, numRuns: 200 },
  );
});

test("seeds that differ in any of their 53 bits give states that differ in about half of theirs", () => {
  const bitsOf = (seed: number): bigint =>
    Random.fromSeed(seed)
      .state()
      .reduce((bits, word) => (bits << 32n) | BigInt(word), 0n);
  for (const seed of [0, 1, 42, 2 ** 32, Number.MAX_SAFE_INTEGER]) {
    for (let bit = 0; bit < 53; bit++) {
      const other = Number(BigInt(seed) ^ (1n << BigInt(bit)));
      const difference = (bitsOf(seed) ^ bitsOf(other)).toString(2).replaceAll("0", "").length;
      expect(difference).toBeGreaterThan(0);
      // The high half of a seed is mixed in after the first word, so 96 of the 128 bits depend on it.
      if (difference < 24 || difference > 96)
        expect.fail(`seed ${seed}, bit ${bit}: ${difference} bits differ`);
    }
  }
});

test("numbers of nextUnit lie in [0, 1), with the mean and spread of an even distribution", () => {
  const random = Random.fromSeed(7);
  const n = 100_000;
  let sum = 0;
  let squares = 0;
  for (let i = 0; i < n; i++) {
    const unit = random.nextUnit();
    if (!(unit >= 0 && unit < 1) || !Number.isInteger(unit * 2 ** 53))
      expect.fail(`${unit} is no such number`);
    sum += unit;
    squares += unit * unit;
  }
  // 5 standard errors: sqrt(1/12 / n) and sqrt(4/45 / n)
  expect(Math.abs(sum / n - 1 / 2)).toBeLessThan(5 * Math.sqrt(1 / 12 / n));
  expect(Math.abs(squares / n - 1 / 3)).toBeLessThan(5 * Math.sqrt(4 / 45 / n));
});

test("drawn seeds are valid seeds and differ", () => {
  const seeds = Array.from({ length: 100 }, drawSeed);
  for (const seed of seeds) Random.fromSeed(seed);
  expect(new Set(seeds).size).toBe(100);
});

test.each([-1, 0.5, NaN, Infinity, 2 ** 53])("the seed %d is refused", (seed) => {
  expect(() => Random.fromSeed(seed)).toThrow(UsageError);
  expect(() => Random.fromSeed(seed)).toThrow(`seed is ${seed}`);
});

test.each([[[]], [[1, 2, 3]], [[0, 0, 0, 0]], [[1, 2, 3, 2 ** 32]], [[1, -2, 3, 4]], [[1, 2, NaN, 4]]])(
  "the state %j is refused",
  (state: number[]) => {
    expect(() => Random.fromState(state)).toThrow(UsageError);
  },
);
