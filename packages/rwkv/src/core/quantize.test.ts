import { describe, expect, test } from "vitest";
import { dequantizeBlocks, LEVELS } from "./blocks.ts";
import { DTYPES, hasLevels, type OwnQuantDType } from "./dtype.ts";
import { ShapeError, UsageError } from "./errors.ts";
import { f16ToF32, f32ToF16 } from "./half.ts";
import { quantizeBlocks } from "./quantize.ts";

const SCHEMES = ["q8", "q4", "nf4", "sf4"] as const satisfies readonly OwnQuantDType[];

function quantize(dtype: OwnQuantDType, values: Float32Array): Uint8Array {
  const out = new Uint8Array((values.length / 64) * DTYPES[dtype].blockBytes);
  quantizeBlocks(dtype, out, values);
  return out;
}

function roundTrip(dtype: OwnQuantDType, values: Float32Array): Float32Array {
  const back = new Float32Array(values.length);
  dequantizeBlocks(dtype, back, quantize(dtype, values));
  return back;
}

/** Numbers that look like weights: sums of six uniform ones, by a linear congruential generator. */
function weights(nElements: number, offset = 0): Float32Array {
  let state = 12345;
  return Float32Array.from({ length: nElements }, () => {
    let sum = 0;
    for (let i = 0; i < 6; i++) {
      state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
      sum += state / 2 ** 32 - 0.5;
    }
    return 0.05 * (sum + offset);
  });
}

function squaredError(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, i) => sum + (value - b[i]!) ** 2, 0);
}

/** What a block would lose by the obvious rule, from its largest value or its extremes, with exact d and m. */
function obviousError(dtype: OwnQuantDType, values: Float32Array): number {
  let error = 0;
  for (let o = 0; o < values.length; o += 64) {
    const block = values.subarray(o, o + 64);
    const least = dtype === "q4" ? Math.min(...block) : 0;
    const most = dtype === "q4" ? Math.max(...block) : Math.max(...block.map(Math.abs));
    const levels = hasLevels(dtype) ? LEVELS[dtype] : Array.from({ length: 256 }, (_, i) => i - 127);
    const d = (most - least) / (dtype === "q4" ? 15 : 127);
    for (const x of block) {
      const scaled = (x - least) / d;
      const nearest = levels.reduce((a, b) => (Math.abs(b - scaled) < Math.abs(a - scaled) ? b : a));
      error += (x - least - d * nearest) ** 2;
    }
  }
  return error;
}

describe.each(SCHEMES)("%s", (dtype) => {
  test.each([0, 1.5])("errs less than the obvious rule does, on values around %s", (offset) => {
    const values = weights(64 * 64, offset);
    expect(squaredError(values, roundTrip(dtype, values))).toBeLessThan(obviousError(dtype, values));
  });

  test("a block that can be stored exactly is", () => {
    const out = quantize(dtype, weights(64));
    const exact = new Float32Array(64);
    dequantizeBlocks(dtype, exact, out);
    const again = roundTrip(dtype, exact);
    // d may differ by a rounding of f16
    const limit = Math.max(...exact.map(Math.abs)) * 2 ** -10;
    exact.forEach((value, i) => expect(Math.abs(again[i]! - value)).toBeLessThanOrEqual(limit));
  });

  test("zeros stay zero, equal values what they are, but for what is below the smallest d", () => {
    expect(roundTrip(dtype, new Float32Array(64))).toEqual(new Float32Array(64));
    for (const value of [1e-30, -1e-7, 0.25, -3]) {
      const back = roundTrip(dtype, new Float32Array(64).fill(value));
      for (const got of back)
        expect(Math.abs(got - value)).toBeLessThanOrEqual(Math.abs(value) / 500 + 127 * 2 ** -25);
    }
  });

  test("a value far outside does not take the others with it further than half a step", () => {
    const values = weights(64);
    values[17] = 4;
    const back = roundTrip(dtype, values);
    // steps of the coarsest grid: the distance of two neighbouring levels for the largest value or the range
    const step = { q8: 4 / 126, q4: 4.2 / 14, nf4: (4 / 120) * 35, sf4: (4 / 80) * 47 }[dtype];
    values.forEach((value, i) => expect(Math.abs(back[i]! - value)).toBeLessThanOrEqual(step / 2 + 1e-3));
  });

  test("refuses what is not finite or beyond f16, and lengths that do not fit", () => {
    const limit = dtype === "q4" ? 65504 : 127 * 65504;
    for (const value of [NaN, Infinity, -Infinity, 1.01 * limit]) {
      const values = new Float32Array(128);
      values[70] = value;
      expect(() => quantize(dtype, values)).toThrow(UsageError);
      expect(() => quantize(dtype, values)).toThrow(/elements 64 to 127/);
    }
    const back = roundTrip(dtype, new Float32Array(64).fill(limit));
    for (const value of back) expect(Math.abs(value - limit)).toBeLessThan(limit / 500);
    expect(() => quantizeBlocks(dtype, new Uint8Array(66), new Float32Array(63))).toThrow(ShapeError);
    expect(() => quantizeBlocks(dtype, new Uint8Array(65), new Float32Array(64))).toThrow(ShapeError);
  });
});

test.each(["nf4", "sf4"] as const)("%s errs hardly more than the best d of all", (dtype) => {
  const values = weights(64 * 64);
  let least = 0;
  for (let o = 0; o < values.length; o += 64) {
    const block = values.subarray(o, o + 64);
    const largest = Math.max(...block.map(Math.abs));
    let leastOfBlock = Infinity;
    // From the largest value at 1/2 of the outermost level to it at 3/2, with either sign.
    for (let step = 250; step <= 750; step++) {
      for (const d of [(largest * 500) / 127 / step, (-largest * 500) / 127 / step]) {
        let error = 0;
        for (const x of block) {
          const scaled = x / d;
          let distance = Infinity;
          for (const level of LEVELS[dtype]) distance = Math.min(distance, Math.abs(level - scaled));
          error += (d * distance) ** 2;
        }
        leastOfBlock = Math.min(leastOfBlock, error);
      }
    }
    least += leastOfBlock;
  }
  const error = squaredError(values, roundTrip(dtype, values));
  expect(error).toBeLessThan(1.03 * least);
});

test.each(["nf4", "sf4"] as const)("a negative d of %s mirrors its levels, where that errs less", (dtype) => {
  const d = f16ToF32(f32ToF16(0.001));
  const values = Float32Array.from({ length: 64 }, (_, i) => -d * LEVELS[dtype][i % 16]!);
  expect(quantize(dtype, values)[1]! >> 7).toBe(1);
  expect(Math.sqrt(squaredError(values, roundTrip(dtype, values)))).toBeLessThan(1e-3 * d);
});
