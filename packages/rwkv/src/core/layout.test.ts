import { describe, expect, test } from "vitest";
import { byteLengthOf, DTYPES, isDType, isWeightDType, type WeightDType } from "./dtype.ts";
import { ShapeError, UsageError } from "./errors.ts";
import { hasLayouts, layoutByteLength, packMatrix, unpackMatrix } from "./layout.ts";

const DTYPES_WITH_LAYOUTS = Object.keys(DTYPES).filter(isDType).filter(isWeightDType).filter(hasLayouts);

function pattern(nBytes: number): Uint8Array {
  let state = 1;
  return Uint8Array.from({ length: nBytes }, () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state >>> 24;
  });
}

describe.each(["panels", "columns"] as const)("%s", (layout) => {
  test.each(DTYPES_WITH_LAYOUTS)("of %s go back to the same rows", (dtype: WeightDType) => {
    const block = DTYPES[dtype].blockElements;
    for (const shape of [
      [1, block],
      [70, 3 * block],
      [128, 2 * block],
    ]) {
      const rows = pattern(byteLengthOf(dtype, shape));
      const packed = new Uint8Array(layoutByteLength(layout, dtype, shape));
      packMatrix(layout, dtype, shape, rows, packed);
      const back = new Uint8Array(rows.length);
      unpackMatrix(layout, dtype, shape, packed, back);
      expect(Buffer.compare(back, rows)).toBe(0);
    }
  });

  test("types that have rows only, and lengths that do not fit, are refused", () => {
    expect(() => layoutByteLength(layout, "q4_k", [16, 256])).toThrow(UsageError);
    const rows = new Uint8Array(64);
    expect(() => packMatrix(layout, "f32", [1, 16], rows, new Uint8Array(64))).toThrow(ShapeError);
    expect(() => layoutByteLength(layout, "f32", [16])).toThrow(ShapeError);
  });
});

test("a panel holds the weights of 16 outputs input by input", () => {
  const rows = Uint8Array.from(new Uint8Array(Float32Array.from({ length: 34 }, (_, i) => i).buffer));
  const packed = new Uint8Array(layoutByteLength("panels", "f32", [17, 2]));
  packMatrix("panels", "f32", [17, 2], rows, packed);
  const values = new Float32Array(packed.buffer);
  expect([...values.subarray(0, 18)]).toEqual([...[...Array(16).keys()].map((o) => 2 * o), 1, 3]);
  expect([...values.subarray(32, 34)]).toEqual([32, 0]);
});

test("a panel of q8_0 holds scales, then four biased quants of each output", () => {
  const rows = pattern(16 * 34);
  const packed = new Uint8Array(16 * 34);
  packMatrix("panels", "q8_0", [16, 32], rows, packed);
  expect([...packed.subarray(2, 4)]).toEqual([...rows.subarray(34, 36)]);
  // the second word of output 3: its inputs 4 to 7
  const word = packed.subarray(32 + 64 + 12, 32 + 64 + 16);
  expect([...word]).toEqual([...rows.subarray(3 * 34 + 6, 3 * 34 + 10)].map((q) => q ^ 0x80));
});

test("columns hold an input's quants of all outputs, of 4 bits two in a byte", () => {
  const eight = pattern(64 * 34);
  const packed8 = new Uint8Array(64 * 34);
  packMatrix("columns", "q8_0", [64, 32], eight, packed8);
  expect(packed8[128 + 5 * 64 + 7]).toBe(eight[7 * 34 + 2 + 5]! ^ 0x80);

  const four = pattern(64 * 18);
  const packed4 = new Uint8Array(64 * 18);
  packMatrix("columns", "q4_0", [64, 32], four, packed4);
  // input 20 of outputs 9 and 41: the high nibbles of byte 4
  const pair = packed4[128 + 20 * 32 + 9]!;
  expect(pair & 15).toBe(four[9 * 18 + 2 + 4]! >> 4);
  expect(pair >> 4).toBe(four[41 * 18 + 2 + 4]! >> 4);
});
