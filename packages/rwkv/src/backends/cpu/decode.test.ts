import { describe, expect, test } from "vitest";
import { decodeToF32 } from "../../core/decode.ts";
import { byteLengthOf, DTYPES, type WeightDType } from "../../core/dtype.ts";
import { f16ToF32 } from "../../core/half.ts";
import { createCpuBackend } from "./cpu.ts";
import { buildProgram, seededRandom, stepAll, uploadOf } from "./testing.ts";

const backend = await createCpuBackend();

/** Where the f16 scales of a block are, so that random blocks get finite ones. */
const SCALES: Readonly<Partial<Record<WeightDType, readonly number[]>>> = {
  q4_0: [0],
  q4_1: [0, 2],
  q5_0: [0],
  q5_1: [0, 2],
  q8_0: [0],
  q2_k: [80, 82],
  q3_k: [108],
  q4_k: [0, 2],
  q5_k: [0, 2],
  q6_k: [208],
  q8: [0],
  q4: [0, 2],
  nf4: [0],
  sf4: [0],
};

/** Random blocks with finite scales of every size, subnormal ones included; plain types get finite values. */
function randomBlocks(dtype: WeightDType, nBlocks: number, random: () => number): Uint8Array {
  const { blockBytes } = DTYPES[dtype];
  const bytes = Uint8Array.from({ length: nBlocks * blockBytes }, () => random() * 256);
  const halves = new DataView(bytes.buffer);
  for (let b = 0; b < bytes.length; b += blockBytes) {
    for (const at of SCALES[dtype] ?? []) {
      const exponent = Math.floor(random() * 31);
      const sign = random() < 0.5 ? 0x8000 : 0;
      halves.setUint16(b + at, sign | (exponent << 10) | Math.floor(random() * 1024), true);
    }
  }
  return bytes;
}

/** Element [o, i] of a matrix, as its product with the unit vector i shows it: `nRows` unit vectors in each step. */
async function valuesOf(
  dtype: WeightDType,
  bytes: Uint8Array,
  nOut: number,
  nIn: number,
  nRows: number,
): Promise<Float32Array> {
  const builder = backend.createBuilder({ maxRows: nRows });
  const w = await builder.weight(uploadOf("w", [nOut, nIn], bytes, dtype));
  const program = await buildProgram(builder, nIn, nOut, ({ x }) => {
    const product = builder.scratch("product", [nOut], "token");
    return (ops) => {
      ops.matmul(product, w, x);
      return product;
    };
  });
  const slot = program.createSlot();
  const values = new Float32Array(nOut * nIn);
  for (let first = 0; first < nIn; first += nRows) {
    const n = Math.min(nRows, nIn - first);
    const units = new Float32Array(n * nIn);
    for (let row = 0; row < n; row++) units[row * nIn + first + row] = 1;
    const products = await stepAll(program, slot, units, nIn);
    for (let row = 0; row < n; row++) {
      for (let o = 0; o < nOut; o++) values[o * nIn + first + row] = products[row * nOut + o]!;
    }
  }
  program.dispose();
  return values;
}

/** The first element that differs in its bits; sums with zeros leave no -0, so both zeros count as one. */
function firstDifference(got: Float32Array, want: Float32Array): string | null {
  for (let i = 0; i < want.length; i++) {
    if (Object.is(got[i]! + 0, want[i]! + 0)) continue;
    return `element ${i} is ${got[i]!}, expected ${want[i]!}`;
  }
  return null;
}

describe.each(Object.keys(SCALES) as WeightDType[])("%s", (dtype) => {
  const blocks = DTYPES[dtype].blockElements === 32 ? 3 : 2;
  const nIn = blocks * DTYPES[dtype].blockElements;

  test.each([1, 2, 5])("random blocks have the values of core/decode, %i rows in a step", async (nRows) => {
    const repeats = process.env["RWKV_TEST_LONG"] === undefined ? 1 : 100;
    const random = seededRandom(7);
    for (let i = 0; i < repeats; i++) {
      const nOut = 7; // a group of four, and rest
      const bytes = randomBlocks(dtype, nOut * blocks, random);
      const want = new Float32Array(nOut * nIn);
      decodeToF32(dtype, bytes, want);
      expect(firstDifference(await valuesOf(dtype, bytes, nOut, nIn, nRows), want)).toBeNull();
    }
  });
});

describe.each(["f16", "bf16"] as const)("%s", (dtype) => {
  /** Every bit pattern, or every finite one, once, alone in a row of zeros at one of nIn columns. */
  async function everyPattern(nIn: number, nRows: number, isFinite = false): Promise<void> {
    const nOut = 65536;
    const infinity = dtype === "f16" ? 0x7c00 : 0x7f80;
    const isLeftOut = (bits: number): boolean => isFinite && (bits & 0x7fff) >= infinity;
    const bytes = new Uint8Array(byteLengthOf(dtype, [nOut, nIn]));
    const view = new DataView(bytes.buffer);
    const ones = new Float32Array(nIn * nRows);
    for (let bits = 0; bits < nOut; bits++) {
      if (!isLeftOut(bits)) view.setUint16(2 * (bits * nIn + (bits % nIn)), bits, true);
    }
    ones.fill(1);
    const builder = backend.createBuilder({ maxRows: nRows });
    const w = await builder.weight(uploadOf("w", [nOut, nIn], bytes, dtype));
    const program = await buildProgram(builder, nIn, nOut, ({ x }) => {
      const product = builder.scratch("product", [nOut], "token");
      return (ops) => {
        ops.matmul(product, w, x);
        return product;
      };
    });
    const got = await stepAll(program, program.createSlot(), ones, nIn);
    const want = new Float32Array(nOut);
    const patterns = Uint8Array.from({ length: 2 * nOut }, (_, i) =>
      isLeftOut(i >> 1) ? 0 : (i >> 1) >> (8 * (i & 1)),
    );
    decodeToF32(dtype, patterns, want);
    for (let row = 0; row < nRows; row++) {
      expect(firstDifference(got.subarray(row * nOut, (row + 1) * nOut), want)).toBeNull();
    }
    program.dispose();
  }

  test("every finite bit pattern has its value in the kernel for one row", () => everyPattern(9, 1, true));
  test("every finite bit pattern has its value in a tile of rows", () => everyPattern(8, 5, true));
  test("every bit pattern has its value, infinities and NaN too", () => everyPattern(9, 2));
});

test("a scale beside ordinary ones that is subnormal keeps its value", async () => {
  const bytes = new Uint8Array(4 * 16);
  const view = new DataView(bytes.buffer);
  for (let i = 0; i < 32; i++) view.setUint16(2 * i, i === 13 ? 3 : 0x3c00 + i, true);
  const got = await valuesOf("f16", bytes, 4, 8, 1);
  expect(got[13]).toBe(f16ToF32(3));
  expect(got[12]).toBe(f16ToF32(0x3c00 + 12));
});
