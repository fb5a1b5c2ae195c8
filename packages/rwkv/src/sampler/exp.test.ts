import { expect, test } from "vitest";
import { expOfNonPositive, expStepsOf, logOfPositive, N_EXP_STEPS } from "./exp.ts";

test("exp(x) is within 1.1e-8 of Math.exp, relatively, from 0 to -104", () => {
  for (let x = 0; x >= -103.9; x -= 0.000731) {
    const error = Math.abs(expOfNonPositive(x) / Math.exp(x) - 1);
    if (!(error < 1.1e-8))
      expect.fail(`exp(${x}) is ${expOfNonPositive(x)}, Math.exp ${Math.exp(x)}, error ${error}`);
  }
});

test("exp(0) is 1, and there is nothing below -104", () => {
  expect(expOfNonPositive(0)).toBe(1);
  expect(expOfNonPositive(-0)).toBe(1);
  expect(expOfNonPositive(-104)).toBe(0);
  expect(expOfNonPositive(-1e30)).toBe(0);
  expect(expOfNonPositive(-Infinity)).toBe(0);
});

test("exp never falls as x rises, by more than its error", () => {
  for (let x = -20; x < 0; x += 0.00037) {
    expect(expOfNonPositive(x + 0.00037)).toBeGreaterThan(expOfNonPositive(x));
  }
});

test("the logarithm is within 4 units in the last place of Math.log", () => {
  for (let x = 1e-300; x < 1e300; x *= 1.0137) {
    const want = Math.log(x);
    // Near 1 the logarithm is small, and what counts is the error of x.
    const error = Math.abs(logOfPositive(x) - want) / Math.max(Math.abs(want), 1e-2);
    if (!(error < 4 * 2 ** -52)) expect.fail(`log(${x}) is ${logOfPositive(x)}, Math.log ${want}`);
  }
  expect(logOfPositive(1)).toBe(0);
});

test("steps of 1/128 are counted down from the largest, and all that is far below shares the last", () => {
  const values = Float32Array.of(2, 2 - 1 / 128, 2 - 1 / 200, -10, -200, -Infinity);
  const steps = new Uint16Array(6);
  expStepsOf(values, 6, 2, steps);
  expect(Array.from(steps)).toEqual([0, 1, 1, 12 * 128, N_EXP_STEPS - 1, N_EXP_STEPS - 1]);
});
