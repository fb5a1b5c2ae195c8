// Between the bytes of a weight in any stored type and f32 values. Bytes are little-endian and may start at any
// address. The hosts of every supported engine are little-endian too, so f32 is a plain copy.

import { dequantizeBlocks, quantizeQ8_0 } from "./blocks.ts";
import { DTYPES, type OwnQuantDType, type WeightDType } from "./dtype.ts";
import { ShapeError } from "./errors.ts";
import { bf16BytesToF32, f16BytesToF32, f32ToBf16Bytes, f32ToF16Bytes } from "./half.ts";
import { quantizeBlocks } from "./quantize.ts";

/** The types that values can be written in. */
export type EncodedDType = "f32" | "f16" | "bf16" | "q8_0" | OwnQuantDType;

/** All of them, from the most exact on. */
export const ENCODED_DTYPES: readonly EncodedDType[] = [
  "f32",
  "f16",
  "bf16",
  "q8",
  "q8_0",
  "q4",
  "nf4",
  "sf4",
];

function checkPlain(dtype: "f64" | "f32", nElements: number, nBytes: number): void {
  const { blockBytes } = DTYPES[dtype];
  if (nElements * blockBytes === nBytes) return;
  throw new ShapeError(
    `${nElements} elements of ${dtype} take ${nElements * blockBytes} bytes, but ${nBytes} were given.`,
  );
}

/**
 * Decodes the elements of a stored weight. Every type but f64 is exact: `out` holds the values the bytes stand for, or
 * for blocks with a minimum the f32 nearest to them.
 * @param bytes - whole elements or blocks, little-endian, at any alignment
 * @param out - `[n]`, the number of elements in `bytes`
 * @throws ShapeError if the lengths do not fit
 */
export function decodeToF32(dtype: WeightDType, bytes: Uint8Array, out: Float32Array): void {
  switch (dtype) {
    case "f64": {
      checkPlain(dtype, out.length, bytes.byteLength);
      const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
      for (let i = 0; i < out.length; i++) out[i] = view.getFloat64(8 * i, true);
      return;
    }
    case "f32":
      checkPlain(dtype, out.length, bytes.byteLength);
      new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(bytes);
      return;
    case "f16":
      f16BytesToF32(out, bytes);
      return;
    case "bf16":
      bf16BytesToF32(out, bytes);
      return;
    default:
      dequantizeBlocks(dtype, out, bytes);
  }
}

/**
 * Encodes values, rounding to nearest (ties to even in f16 and bf16, see `quantizeQ8_0` and `quantizeBlocks` for blocks).
 * @param values - `[n]`; for block types whole blocks
 * @param out - as many bytes as n elements take, at any alignment
 * @throws ShapeError if the lengths do not fit
 * @throws UsageError if a value is beyond what a block can hold
 */
export function encodeFromF32(dtype: EncodedDType, values: Float32Array, out: Uint8Array): void {
  switch (dtype) {
    case "f32":
      checkPlain(dtype, values.length, out.byteLength);
      out.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      return;
    case "f16":
      f32ToF16Bytes(out, values);
      return;
    case "bf16":
      f32ToBf16Bytes(out, values);
      return;
    case "q8_0":
      quantizeQ8_0(out, values);
      return;
    default:
      quantizeBlocks(dtype, out, values);
  }
}
