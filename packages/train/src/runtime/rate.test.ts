import { expect, test } from "vitest";
import { rateAt } from "./rate.ts";

const SCHEDULE = { from: 1e-3, to: 1e-4, warmupSteps: 10, plannedTokens: 1000 };

test("the rate follows a cosine by tokens from the first to the last value", () => {
  const rate = (nTokens: number): number => rateAt(SCHEDULE, 100, nTokens);
  expect(rate(0)).toBeCloseTo(1e-3, 12);
  expect(rate(500)).toBeCloseTo((1e-3 + 1e-4) / 2, 12);
  expect(rate(250)).toBeCloseTo(1e-4 + 9e-4 * ((1 + Math.SQRT1_2) / 2), 12);
  expect(rate(1000)).toBeCloseTo(1e-4, 12);
  expect(rate(2000)).toBeCloseTo(1e-4, 12);
});

test("it rises from a hundredth in the first steps", () => {
  expect(rateAt(SCHEDULE, 0, 0)).toBeCloseTo(1e-5, 12);
  expect(rateAt(SCHEDULE, 5, 0)).toBeCloseTo(1e-3 * (0.01 + 0.99 * 0.5), 12);
  expect(rateAt(SCHEDULE, 10, 0)).toBeCloseTo(1e-3, 12);
});
