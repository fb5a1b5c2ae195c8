import { expect, test } from "vitest";
import {
  byteLengthOf,
  countElements,
  DTYPES,
  isDType,
  isQuantized,
  isWeightDType,
  type DType,
} from "./dtype.ts";
import { ShapeError } from "./errors.ts";

const ALL = Object.keys(DTYPES) as DType[];

test("names are those of the table, and nothing that objects inherit", () => {
  expect(ALL.every(isDType)).toBe(true);
  expect(["F32", "q4_0 ", "", "toString", "__proto__", "constructor"].some(isDType)).toBe(false);
});

test("quantised are the types in blocks; weights are those and the floats", () => {
  const quantised = [
    "q4_0",
    "q4_1",
    "q5_0",
    "q5_1",
    "q8_0",
    "q2_k",
    "q3_k",
    "q4_k",
    "q5_k",
    "q6_k",
    "q8",
    "q4",
    "nf4",
    "sf4",
  ];
  expect(ALL.filter(isQuantized)).toEqual(quantised);
  expect(ALL.filter(isWeightDType)).toEqual(["f64", "f32", "f16", "bf16", ...quantised]);
});

test("a scalar has one element, a shape with a zero none", () => {
  expect(countElements([])).toBe(1);
  expect(countElements([3, 0, 5])).toBe(0);
  expect(countElements([2, 3, 5])).toBe(30);
});

test.each<[DType, readonly number[], number]>([
  ["f32", [], 4],
  ["f64", [3], 24],
  ["bf16", [2, 3], 12],
  ["bool", [5], 5],
  ["q4_0", [2, 64], 72],
  ["q8_0", [32], 34],
  ["q6_k", [3, 256], 630],
  ["q2_k", [0, 256], 0],
])("%s of shape %j takes %d bytes", (dtype, shape, byteLength) => {
  expect(byteLengthOf(dtype, shape)).toBe(byteLength);
});

test("rows that are no whole number of blocks are refused, even if all elements together are", () => {
  expect(() => byteLengthOf("q8_0", [32, 31])).toThrow(ShapeError);
  expect(() => byteLengthOf("q8_0", [])).toThrow(ShapeError);
  expect(() => byteLengthOf("q4_k", [256, 128])).toThrow(
    "q4_k stores blocks of 256 elements along the last dimension, but the shape is [256, 128]",
  );
});
