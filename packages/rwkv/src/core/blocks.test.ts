import { readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { dequantizeBlocks, LEVELS, quantizeQ8_0 } from "./blocks.ts";
import { DTYPES, isDType, isQuantized, type QuantDType } from "./dtype.ts";
import { ShapeError, UsageError } from "./errors.ts";

interface Vectors {
  readonly decode: Readonly<Record<string, { bytes: string; values: string }>>;
  readonly encode: { readonly q8_0: { values: string; bytes: string } };
}

// Made by scripts/make-block-vectors.py from the published formulas, and equal to what the gguf package decodes.
const vectors = JSON.parse(
  readFileSync(new URL("./testdata/blocks.json", import.meta.url), "utf8"),
) as Vectors;

function bytesOf(base64: string): Uint8Array {
  return Uint8Array.from(Buffer.from(base64, "base64"));
}

function floatsOf(base64: string): Float32Array {
  return new Float32Array(bytesOf(base64).buffer);
}

const QUANT_DTYPES = (Object.keys(DTYPES) as (keyof typeof DTYPES)[]).filter(isQuantized);

describe.each(QUANT_DTYPES)("%s", (dtype: QuantDType) => {
  test("blocks decode to the values of the published formulas, bit for bit", () => {
    const vector = vectors.decode[dtype]!;
    const want = floatsOf(vector.values);
    const bytes = bytesOf(vector.bytes);
    const unaligned = new Uint8Array(bytes.length + 1).subarray(1);
    unaligned.set(bytes);
    for (const input of [bytes, unaligned]) {
      const got = new Float32Array(want.length);
      dequantizeBlocks(dtype, got, input);
      expect(new Uint32Array(got.buffer)).toEqual(new Uint32Array(want.buffer));
    }
  });

  test("part of a block, or room for another number of elements, is refused", () => {
    const { blockElements, blockBytes } = DTYPES[dtype];
    const decode = (nElements: number, nBytes: number) => () =>
      dequantizeBlocks(dtype, new Float32Array(nElements), new Uint8Array(nBytes));
    expect(decode(blockElements, blockBytes - 1)).toThrow(ShapeError);
    expect(decode(2 * blockElements, blockBytes)).toThrow(ShapeError);
    expect(decode(blockElements - 1, blockBytes)).toThrow(`${dtype} stores ${blockElements} elements`);
  });
});

/** Values that a variable with that density, even and of any scale, is below with the ascending probabilities. */
function quantiles(density: (x: number) => number, probabilities: readonly number[]): number[] {
  // The middle rule, far beyond where the tails matter.
  const STEP = 1e-3;
  const [from, to] = [-50, 50];
  const parts = Array.from({ length: (to - from) / STEP }, (_, i) => STEP * density(from + (i + 0.5) * STEP));
  const total = parts.reduce((sum, part) => sum + part);
  let below = 0;
  let i = 0;
  return probabilities.map((probability) => {
    while (below + parts[i]! < probability * total) below += parts[i++]!;
    return from + (i + (probability * total - below) / parts[i]!) * STEP;
  });
}

test.each([
  { dtype: "nf4", name: "the normal distribution", density: (x: number) => Math.exp((-x * x) / 2) },
  {
    dtype: "sf4",
    name: "Student's t, 5 degrees of freedom",
    density: (x: number) => (1 + (x * x) / 5) ** -3,
  },
] as const)("the levels of $dtype are quantiles of $name", ({ dtype, density }) => {
  const e = (1 / 30 + 1 / 32) / 2;
  const probabilities = [
    ...Array.from({ length: 7 }, (_, i) => e + ((0.5 - e) * i) / 7),
    ...Array.from({ length: 9 }, (_, i) => 0.5 + ((0.5 - e) * i) / 8),
  ];
  const levels = quantiles(density, probabilities);
  expect(levels.map((level) => Math.round((127 * level) / levels[15]!) + 0)).toEqual(LEVELS[dtype]);
});

test("every quantised dtype has a vector", () => {
  expect(Object.keys(vectors.decode).filter(isDType).sort()).toEqual([...QUANT_DTYPES].sort());
});

describe("quantizeQ8_0", () => {
  test("gives the bytes of ggml's reference rule: ties, zeros and scales that vanish in f16 included", () => {
    const { values, bytes } = vectors.encode.q8_0;
    const want = bytesOf(bytes);
    const got = new Uint8Array(want.length + 1).subarray(1);
    quantizeQ8_0(got, floatsOf(values));
    expect(Buffer.from(got)).toEqual(Buffer.from(want));
  });

  test("every value comes back within half a step, plus the rounding of the step to f16", () => {
    const magnitude = fc.float({ min: -1000, max: 1000, noNaN: true });
    fc.assert(
      fc.property(fc.array(magnitude, { minLength: 32, maxLength: 32 }), (list) => {
        const values = Float32Array.from(list);
        const bytes = new Uint8Array(34);
        quantizeQ8_0(bytes, values);
        const back = new Float32Array(32);
        dequantizeBlocks("q8_0", back, bytes);
        const largest = Math.max(...values.map(Math.abs));
        // half a step; 127 steps, each off by 2^-11 relative or 2^-25 absolute; f32 rounding of x / d
        const limit = largest / 254 + largest * 2 ** -11 + 127 * 2 ** -25 + largest * 2 ** -20;
        values.forEach((value, i) => {
          if (Math.abs(value - back[i]!) > limit)
            expect.fail(`[${i}] ${value} came back as ${back[i]!}; limit ${limit}`);
        });
      }),
      { seed: 7, numRuns: 500 },
    );
  });

  test.each([NaN, Infinity, -Infinity, 1e7])("a block with %d is refused, saying where", (value) => {
    const values = new Float32Array(64);
    values[40] = value;
    expect(() => quantizeQ8_0(new Uint8Array(68), values)).toThrow(UsageError);
    expect(() => quantizeQ8_0(new Uint8Array(68), values)).toThrow("elements 32 to 63");
  });

  test("a NaN is seen wherever it stands among larger values", () => {
    for (let place = 0; place < 32; place++) {
      const values = new Float32Array(32).fill(3);
      values[place] = NaN;
      expect(() => quantizeQ8_0(new Uint8Array(34), values)).toThrow("reach NaN");
    }
  });

  test("values that are not whole blocks are refused", () => {
    expect(() => quantizeQ8_0(new Uint8Array(34), new Float32Array(31))).toThrow(ShapeError);
  });
});
