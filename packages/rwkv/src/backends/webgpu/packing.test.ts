import { expect, test } from "vitest";
import { decodeToF32 } from "../../core/decode.ts";
import { byteLengthOf, DTYPES, hasLevels, isDType, isQuantized, isWeightDType } from "../../core/dtype.ts";
import { f16ToF32, f32ToF16Bytes } from "../../core/half.ts";
import { LEVELS } from "../../core/blocks.ts";
import {
  BLOCK_FORMATS,
  PANEL_OUTPUTS,
  PLANE_WORDS,
  rowFormat,
  type GpuDType,
  type Plane,
} from "./kernels/formats.ts";
import { packRows, panelPacking } from "./packing.ts";

const DTYPES_HERE = Object.keys(DTYPES)
  .filter(isDType)
  .filter(isWeightDType)
  .filter((dtype): dtype is GpuDType => dtype !== "f64");

/** Quant of an input out of a plane that begins at the byte `at`, as kernels/formats.ts draws it. */
function quantIn(plane: Plane, row: Uint8Array, at: number, input: number): number {
  const block = at + 4 * PLANE_WORDS[plane] * Math.floor(input / 32);
  const [half, j, i] = [(input >> 4) & 1, (input >> 2) & 3, input & 3];
  switch (plane) {
    case "bytes":
      return (row[block + (input & 31)]! << 24) >> 24;
    case "nibbles":
      return (row[block + 4 * j + i]! >> (4 * half)) & 15;
    case "crumbs":
      return (row[block + 4 * half + i]! >> (2 * j)) & 3;
    case "bits":
      return (row[block + i]! >> (4 * half + j)) & 1;
    default:
      return plane satisfies never;
  }
}

const ZEROS: Readonly<Partial<Record<GpuDType, number>>> = { q4_0: 8, q5_0: 16, q3_k: 4, q6_k: 32 };

test.each(DTYPES_HERE)("rows of %s on the GPU stand for the values of the file", (dtype) => {
  let seed = 1;
  const random = (): number => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  const { blockElements, blockBytes } = DTYPES[dtype];
  const nIn = isQuantized(dtype) ? 3 * blockElements : 70;
  const nRows = 3;
  const bytes = Uint8Array.from({ length: byteLengthOf(dtype, [nRows, nIn]) }, () => 256 * random());
  const {
    halves = [],
    hasScales = false,
    first,
    second = null,
  } = isQuantized(dtype) ? BLOCK_FORMATS[dtype] : {};
  for (let b = 0; b < bytes.length && isQuantized(dtype); b += blockBytes) {
    for (const half of halves) {
      f32ToF16Bytes(bytes.subarray(b + half, b + half + 2), Float32Array.of(random() - 0.5));
    }
  }
  const want = new Float32Array(nRows * nIn);
  decodeToF32(dtype, bytes, want);

  const format = rowFormat(dtype, nIn);
  const rowBytes = 4 * format.rowWords;
  expect(rowBytes % 16).toBe(0);
  const packed = new Uint8Array(nRows * rowBytes);
  packRows(dtype, nIn, format, bytes, packed);
  for (let r = 0; r < nRows; r++) {
    const row = packed.subarray(r * rowBytes, (r + 1) * rowBytes);
    const wanted = want.subarray(r * nIn, (r + 1) * nIn);
    if (first === undefined) {
      const nBytes = nIn * blockBytes;
      const values = new Float32Array(nIn);
      decodeToF32(dtype, row.slice(0, nBytes), values);
      expect(values).toEqual(wanted);
      expect(row.subarray(nBytes).every((byte) => byte === 0)).toBe(true);
      continue;
    }
    const view = new DataView(packed.buffer, row.byteOffset, rowBytes);
    for (let input = 0; input < nIn; input++) {
      let q = quantIn(first, row, 0, input);
      if (second !== null) {
        q |= quantIn(second, row, 4 * format.secondAt, input) << (first === "nibbles" ? 4 : 2);
      }
      q = hasLevels(dtype) ? LEVELS[dtype][q]! : q - (ZEROS[dtype] ?? 0);
      const field = 4 * format.fieldsAt + 2 * halves.length * Math.floor(input / blockElements);
      const d = f16ToF32(view.getUint16(field, true));
      const m = halves.length === 2 ? f16ToF32(view.getUint16(field + 2, true)) : 0;
      let [scale, minimum] = [d, m];
      if (hasScales) {
        const scales = 4 * format.scalesAt;
        const [unit, block] = [input >> 4, input >> 5];
        if (dtype === "q2_k") {
          const both = row[scales + unit]!;
          [scale, minimum] = [d * (both & 15), -m * (both >> 4)];
        } else if (halves.length === 2) {
          [scale, minimum] = [d * row[scales + 2 * block]!, -m * row[scales + 2 * block + 1]!];
        } else {
          scale = d * view.getInt8(scales + unit);
        }
      }
      expect(Math.fround(scale * q + minimum) + 0).toBe(wanted[input]! + 0);
    }
  }
});

test.each(["f32", "f16", "bf16"] as const)(
  "panels of %s have the outputs of an input side by side",
  (dtype) => {
    const [nOut, nIn] = [PANEL_OUTPUTS + 6, 5];
    const { nTogether, words, pack } = panelPacking(dtype, nIn);
    expect(nTogether).toBe(PANEL_OUTPUTS);
    const { blockBytes } = DTYPES[dtype];
    const rows = Uint8Array.from({ length: nOut * nIn * blockBytes }, (_, i) => (i * 2654435761) >>> 13);
    const packed = new Uint8Array(2 * 4 * words);
    pack(rows, packed);
    for (let output = 0; output < 2 * PANEL_OUTPUTS; output++) {
      for (let input = 0; input < nIn; input++) {
        const panel = Math.floor(output / PANEL_OUTPUTS) * 4 * words;
        const at = panel + (PANEL_OUTPUTS * input + (output % PANEL_OUTPUTS)) * blockBytes;
        const from = (output * nIn + input) * blockBytes;
        const want = output < nOut ? rows.subarray(from, from + blockBytes) : new Uint8Array(blockBytes);
        expect(packed.subarray(at, at + blockBytes)).toEqual(want);
      }
    }
  },
);
