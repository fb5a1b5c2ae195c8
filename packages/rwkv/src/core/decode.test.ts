import { describe, expect, test } from "vitest";
import { decodeToF32, encodeFromF32, type EncodedDType } from "./decode.ts";
import { byteLengthOf } from "./dtype.ts";
import { ShapeError } from "./errors.ts";

const ENCODED: readonly EncodedDType[] = ["f32", "f16", "bf16", "q8_0"];

/** 64 values that every type can hold exactly: whole numbers, 127 in each block of 32. */
const exactValues = Float32Array.from({ length: 64 }, (_, i) => (i % 32 === 5 ? 127 : (i % 32) * 3 - 40));

describe.each(ENCODED)("%s", (dtype) => {
  test("values survive encoding and decoding at any alignment", () => {
    const nBytes = byteLengthOf(dtype, [64]);
    for (let shift = 0; shift < 4; shift++) {
      const bytes = new Uint8Array(nBytes + 8).fill(0xa5);
      const inner = bytes.subarray(shift, shift + nBytes);
      encodeFromF32(dtype, exactValues, inner);
      expect([...bytes.subarray(0, shift), ...bytes.subarray(shift + nBytes)]).toEqual(
        new Array<number>(8).fill(0xa5),
      );
      const values = new Float32Array(66).fill(-1);
      decodeToF32(dtype, inner, values.subarray(1, 65));
      expect(values.subarray(1, 65)).toEqual(exactValues);
      expect([values[0], values[65]]).toEqual([-1, -1]);
    }
  });

  test("a length that does not fit is refused in both directions", () => {
    const bytes = new Uint8Array(byteLengthOf(dtype, [64]) - 1);
    expect(() => encodeFromF32(dtype, exactValues, bytes)).toThrow(ShapeError);
    expect(() => decodeToF32(dtype, bytes, new Float32Array(64))).toThrow(ShapeError);
  });
});

test("f32 bytes are little-endian, and NaN and -0 pass through", () => {
  const bytes = Uint8Array.of(0, 0, 0, 0x80, 0, 0, 0xc0, 0x7f, 0, 0, 0x80, 0x3f);
  const values = new Float32Array(3);
  decodeToF32("f32", bytes, values);
  expect([...values]).toEqual([-0, NaN, 1]);
});

test("f64 is rounded once, to the nearest f32", () => {
  const stored = [1 + 2 ** -24 + 2 ** -50, 1 + 2 ** -24, -Infinity, 1e300];
  const bytes = new Uint8Array(8 * stored.length + 1).subarray(1);
  const view = new DataView(bytes.buffer, bytes.byteOffset);
  stored.forEach((value, i) => view.setFloat64(8 * i, value, true));
  const values = new Float32Array(stored.length);
  decodeToF32("f64", bytes, values);
  expect([...values]).toEqual([1 + 2 ** -23, 1, -Infinity, Infinity]);
  expect(() => decodeToF32("f64", bytes, new Float32Array(3))).toThrow("3 elements of f64 take 24 bytes");
});
