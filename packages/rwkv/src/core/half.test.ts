import { describe, expect, test } from "vitest";
import { RwkvError } from "./errors.ts";
import {
  bf16BytesToF32,
  bf16ToF32,
  f16BytesToF32,
  f16ToF32,
  f32ToBf16,
  f32ToBf16Bytes,
  f32ToF16,
  f32ToF16Bytes,
} from "./half.ts";

const N_PATTERNS = 0x10000;

/** Value of a float with the given field widths, straight from the definition; NaN payloads are not told apart. */
function valueByDefinition(bits: number, nMantissaBits: number, bias: number): number {
  const mantissa = (bits & ((1 << nMantissaBits) - 1)) / (1 << nMantissaBits);
  const exponentMax = 2 * bias + 1;
  const exponent = (bits >> nMantissaBits) & exponentMax;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === exponentMax) return mantissa === 0 ? sign * Infinity : NaN;
  if (exponent === 0) return sign * mantissa * 2 ** (1 - bias);
  return sign * (1 + mantissa) * 2 ** (exponent - bias);
}

/** The f32 next to `value`, away from zero (+1) or towards it (-1); for positive values. */
function neighbour(value: number, step: 1 | -1): number {
  const f32 = new Float32Array([value]);
  new Uint32Array(f32.buffer)[0]! += step;
  return f32[0]!;
}

const FORMATS = [
  { name: "f16", decode: f16ToF32, encode: f32ToF16, nMantissaBits: 10, bias: 15, infinity: 0x7c00 },
  { name: "bf16", decode: bf16ToF32, encode: f32ToBf16, nMantissaBits: 7, bias: 127, infinity: 0x7f80 },
];

describe.each(FORMATS)("$name", ({ name, decode, encode, nMantissaBits, bias, infinity }) => {
  test("all 65,536 patterns decode to the value of their definition", () => {
    for (let bits = 0; bits < N_PATTERNS; bits++) {
      const want = valueByDefinition(bits, nMantissaBits, bias);
      if (!Object.is(decode(bits), want))
        expect.fail(`${name} ${bits.toString(16)}: ${decode(bits)}, not ${want}`);
    }
  });

  test("all 65,536 patterns survive decoding and encoding; NaN stays NaN", () => {
    for (let bits = 0; bits < N_PATTERNS; bits++) {
      const value = decode(bits);
      const back = encode(value);
      const isRight = Number.isNaN(value) ? Number.isNaN(decode(back)) : back === bits;
      if (!isRight) expect.fail(`${name} ${bits.toString(16)}: came back as ${back.toString(16)}`);
    }
  });

  test("between any two neighbours the nearer one is taken, half way the even one", () => {
    for (let below = 0; below < infinity; below++) {
      const above = below + 1;
      // Past the largest finite value the next step would have been, were it not infinity.
      const upper = above === infinity ? 2 * decode(below) - decode(below - 1) : decode(above);
      const middle = (decode(below) + upper) / 2;
      const even = below % 2 === 0 ? below : above;
      const got = [
        encode(neighbour(middle, -1)),
        encode(middle),
        encode(neighbour(middle, 1)),
        encode(-middle),
      ];
      const want = [below, even, above, even | 0x8000];
      if (got.join() !== want.join())
        expect.fail(`${name} around ${middle}: ${got.join()}, not ${want.join()}`);
    }
  });

  test("values beyond the range become infinity, values below it zero, with their sign", () => {
    expect(decode(encode(3.4e38))).toBe(name === "f16" ? Infinity : decode(0x7f7f + 1));
    expect(encode(Infinity)).toBe(infinity);
    expect(encode(-Infinity)).toBe(infinity | 0x8000);
    expect(encode(1e-45)).toBe(0);
    expect(encode(-1e-45)).toBe(0x8000);
    expect(encode(-0)).toBe(0x8000);
  });
});

test.each([
  { name: "f16", toF32: f16BytesToF32, toBytes: f32ToF16Bytes, decode: f16ToF32 },
  { name: "bf16", toF32: bf16BytesToF32, toBytes: f32ToBf16Bytes, decode: bf16ToF32 },
])("$name in bulk, at an odd address, is what one value at a time gives", ({ toF32, toBytes, decode }) => {
  const bytes = new Uint8Array(2 * N_PATTERNS + 1).subarray(1);
  for (let bits = 0; bits < N_PATTERNS; bits++) {
    bytes[2 * bits] = bits;
    bytes[2 * bits + 1] = bits >> 8;
  }
  const values = new Float32Array(N_PATTERNS + 1).subarray(1);
  toF32(values, bytes);
  const back = new Uint8Array(2 * N_PATTERNS + 3).subarray(3);
  toBytes(back, values);
  for (let bits = 0; bits < N_PATTERNS; bits++) {
    const value = decode(bits);
    if (!Object.is(values[bits], value)) expect.fail(`${bits.toString(16)} decodes to ${values[bits]!}`);
    if (!Number.isNaN(value)) {
      const encoded = back[2 * bits]! | (back[2 * bits + 1]! << 8);
      if (encoded !== bits) expect.fail(`${bits.toString(16)} came back as ${encoded.toString(16)}`);
    }
  }
});

test.each([f16BytesToF32, bf16BytesToF32])(
  "bulk decoding into an array of another length is refused",
  (toF32) => {
    expect(() => toF32(new Float32Array(3), new Uint8Array(5))).toThrow(RwkvError);
    expect(() => toF32(new Float32Array(3), new Uint8Array(5))).toThrow("take 6 bytes, but 5");
  },
);

test.each([f32ToF16Bytes, f32ToBf16Bytes])(
  "bulk encoding into an array of another length is refused",
  (toBytes) => {
    expect(() => toBytes(new Uint8Array(7), new Float32Array(3))).toThrow("take 6 bytes, but 7");
  },
);
