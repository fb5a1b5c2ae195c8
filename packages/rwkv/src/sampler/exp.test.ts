import { expect, test } from "vitest";
import { expOfNonPositive } from "./exp.ts";

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
