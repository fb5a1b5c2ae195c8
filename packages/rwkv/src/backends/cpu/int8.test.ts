// Products with activations rounded to 8 bits, against their definition, bit by bit: with plain and with relaxed SIMD,
// however many rows share a step, and however a matrix came.

import { describe, expect, test } from "vitest";
import { decodeToF32 } from "../../core/decode.ts";
import { byteLengthOf, DTYPES, type WeightDType } from "../../core/dtype.ts";
import { f16ToF32 } from "../../core/half.ts";
import { layoutByteLength, packMatrix } from "../../core/layout.ts";
import type { Backend, WeightUpload } from "../../ops/backend.ts";
import { findSimd, type Simd } from "./kernels.ts";
import { buildProgram, seededRandom, stepAll, uploadOf, wasmBackend } from "./testing.ts";

/** Types of blocks that are kept in panels, and whether they have a minimum. */
const HAS_MINIMUM: Readonly<Partial<Record<WeightDType, boolean>>> = {
  q8_0: false,
  q8: false,
  q4_0: false,
  q4_1: true,
  q4: true,
  nf4: false,
  sf4: false,
};
const DTYPES_HERE = Object.keys(HAS_MINIMUM) as WeightDType[];

/** Random quants, and scales of every size that is usual, subnormal ones included. */
function randomMatrix(dtype: WeightDType, nOut: number, nIn: number, random: () => number): Uint8Array {
  const { blockBytes } = DTYPES[dtype];
  const bytes = Uint8Array.from({ length: byteLengthOf(dtype, [nOut, nIn]) }, () => random() * 256);
  const halves = new DataView(bytes.buffer);
  for (let b = 0; b < bytes.length; b += blockBytes) {
    for (let at = 0; at < (HAS_MINIMUM[dtype]! ? 4 : 2); at += 2) {
      const exponent = Math.floor(random() * 16);
      halves.setUint16(b + at, (random() < 0.5 ? 0x8000 : 0) | (exponent << 10) | (random() * 1024), true);
    }
  }
  return bytes;
}

/** Rows whose blocks are random, all zero, tiny, huge, or of one sign. */
function randomRows(nRows: number, nIn: number, random: () => number): Float32Array {
  const scales = [1, 0, 1e-3, 1e-42, 1e30, 5];
  return Float32Array.from({ length: nRows * nIn }, (_, i) => {
    const scale = scales[Math.floor(i / 32) % scales.length]!;
    const value = random() * 2 - 1;
    return scale * (scale === 5 ? Math.abs(value) : value);
  });
}

function roundToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest === 0.5 ? floor + (floor & 1) : Math.round(value);
}

/** As the header of wasm/panel-int8.ts defines it. */
function productOf(dtype: WeightDType, bytes: Uint8Array, nOut: number, x: Float32Array): Float32Array {
  const { blockElements, blockBytes } = DTYPES[dtype];
  const nIn = x.length;
  const f = Math.fround;
  const halves = new DataView(bytes.buffer);
  const out = new Float32Array(nOut);
  const values = new Float32Array(blockElements);
  const block = new Uint8Array(blockBytes);
  for (let o = 0; o < nOut; o++) {
    let sum = 0;
    for (let first = 0; first < nIn; first += 32) {
      const start = ((o * nIn + first - (first % blockElements)) / blockElements) * blockBytes;
      const d = f16ToF32(halves.getUint16(start, true));
      const m = HAS_MINIMUM[dtype]! ? f16ToF32(halves.getUint16(start + 2, true)) : 0;
      // The quants are what the block's values are with a scale of 1 and no minimum.
      block.set(bytes.subarray(start, start + blockBytes));
      block.set(HAS_MINIMUM[dtype]! ? [0, 0x3c, 0, 0] : [0, 0x3c]);
      decodeToF32(dtype, block, values);
      const inputs = x.subarray(first, first + 32);
      const greatest = inputs.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
      const isTiny = greatest < 2 ** -100;
      const scale = Number.isFinite(greatest) ? f(greatest / 127) : NaN;
      const inverse = f(127 / greatest);
      let whole = 0;
      let total = 0;
      inputs.forEach((value, i) => {
        const q = isTiny || Number.isNaN(scale) ? 0 : roundToEven(f(value * inverse));
        whole += q * values[(first % blockElements) + i]!;
        total += q;
      });
      sum = f(sum + f(f(d * scale) * whole));
      if (HAS_MINIMUM[dtype]!) sum = f(sum + f(m * f(scale * total)));
    }
    out[o] = sum;
  }
  return out;
}

/** Products of all rows, `perStep` of them in each step. */
async function products(
  backend: Backend,
  upload: WeightUpload,
  x: Float32Array,
  perStep: number,
): Promise<Float32Array> {
  const [nOut, nIn] = upload.shape as [number, number];
  const builder = backend.createBuilder({ maxRows: perStep, activations: "int8" });
  const w = await builder.weight(upload);
  const program = await buildProgram(builder, nIn, nOut, ({ x: input }) => {
    const product = builder.scratch("product", [nOut], "token");
    return (ops) => {
      ops.matmul(product, w, input);
      return product;
    };
  });
  const slot = program.createSlot();
  const all: number[] = [];
  for (let at = 0; at < x.length; at += perStep * nIn) {
    all.push(...(await stepAll(program, slot, x.subarray(at, at + perStep * nIn), nIn)));
  }
  program.dispose();
  return Float32Array.from(all);
}

function firstDifference(got: Float32Array, want: Float32Array, nOut: number): string | null {
  for (let i = 0; i < want.length; i++) {
    if (Object.is(got[i]! + 0, want[i]! + 0)) continue;
    return `row ${Math.floor(i / nOut)}, output ${i % nOut} is ${got[i]!}, expected ${want[i]!}`;
  }
  return null;
}

const KINDS: readonly Simd[] = findSimd() === "relaxed" ? ["simd", "relaxed"] : ["simd"];
if (!KINDS.includes("relaxed"))
  console.log("skipped: kernels with relaxed SIMD, which this engine does not have");

describe.each(KINDS)("with kernels of kind %s", (simd) => {
  describe.each(DTYPES_HERE)("%s", (dtype) => {
    const shapes = [
      [5, 64],
      [16, 192],
      [50, 448],
    ] as const;
    test.each(shapes)(
      "[%i, %i] is the exact sum of each block, scaled, in any number of rows",
      async (nOut, nIn) => {
        const random = seededRandom(nOut);
        const bytes = randomMatrix(dtype, nOut, nIn, random);
        const nRows = 39; // a chunk of 32 rows, a tile, three single ones
        const x = randomRows(nRows, nIn, random);
        const want = new Float32Array(nRows * nOut);
        for (let row = 0; row < nRows; row++) {
          want.set(productOf(dtype, bytes, nOut, x.subarray(row * nIn, (row + 1) * nIn)), row * nOut);
        }
        const backend = await wasmBackend(simd);
        const upload = uploadOf("w", [nOut, nIn], bytes, dtype);
        for (const perStep of [1, 4, 7, 39]) {
          expect(firstDifference(await products(backend, upload, x, perStep), want, nOut)).toBeNull();
        }
      },
    );

    test("an infinite or undefined input makes all outputs of its row NaN, and no other", async () => {
      const random = seededRandom(3);
      const bytes = randomMatrix(dtype, 16, 128, random);
      const x = randomRows(5, 128, random);
      const upload = uploadOf("w", [16, 128], bytes, dtype);
      const backend = await wasmBackend(simd);
      const usual = await products(backend, upload, x, 5);
      x[3 * 128 + 70] = Infinity;
      x[4 * 128 + 5] = NaN;
      for (const perStep of [1, 5]) {
        const got = await products(backend, upload, x, perStep);
        expect(got.subarray(0, 48)).toEqual(usual.subarray(0, 48));
        expect(got.subarray(48).every(Number.isNaN)).toBe(true);
      }
    });

    test("a matrix that comes in panels gives the bits of one that comes in rows", async () => {
      const random = seededRandom(4);
      const shape = [37, 128] as const;
      const rows = randomMatrix(dtype, ...shape, random);
      const packed = new Uint8Array(layoutByteLength("panels", dtype, shape));
      packMatrix("panels", dtype, shape, rows, packed);
      const x = randomRows(3, 128, random);
      const backend = await wasmBackend(simd);
      const upload = {
        ...uploadOf("w", shape, packed, dtype),
        layout: "panels" as const,
        byteLength: packed.length,
      };
      expect(await products(backend, upload, x, 3)).toEqual(
        await products(backend, uploadOf("w", shape, rows, dtype), x, 3),
      );
    });

    test.each(["rows", "panels"] as const)("an infinite scale in %s is not lost", async (layout) => {
      const random = seededRandom(5);
      const shape = [20, 128] as const;
      const rows = randomMatrix(dtype, ...shape, random);
      const rowBytes = byteLengthOf(dtype, [128]);
      new DataView(rows.buffer).setUint16(18 * rowBytes, 0x7c00, true);
      const bytes = new Uint8Array(layoutByteLength(layout, dtype, shape));
      packMatrix(layout, dtype, shape, rows, bytes);
      const upload = { ...uploadOf("w", shape, bytes, dtype), layout, byteLength: bytes.length };
      const got = await products(await wasmBackend(simd), upload, new Float32Array(128).fill(1), 1);
      got.forEach((value, o) => {
        expect(Number.isFinite(value)).toBe(o !== 18);
      });
    });
  });
});
