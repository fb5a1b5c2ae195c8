// The numbers of the reference backend: f32, or f64 for gradient checks and for measuring what f32 itself costs.
// Kernels read them as JavaScript numbers, so all their arithmetic is f64; only a store rounds.

import { decodeToF32 } from "../../core/decode.ts";
import { countElements, type WeightDType } from "../../core/dtype.ts";
import { DeviceError } from "../../core/errors.ts";

export type Values = Float32Array | Float64Array;

/** What values are rounded to when they are stored. */
export type Storage = "f32" | "f64";

const ELEMENT_BYTES = { f32: 4, f64: 8 } as const;

/**
 * @param what - what the values are for, for the message
 * @throws DeviceError if there is no memory
 */
export function allocate(storage: Storage, shape: readonly number[], what: string): Values {
  const nElements = countElements(shape);
  try {
    return storage === "f64" ? new Float64Array(nElements) : new Float32Array(nElements);
  } catch (cause) {
    throw new DeviceError(
      `no memory for ${what}: [${shape.join(", ")}] in ${storage} takes ${nElements * ELEMENT_BYTES[storage]} bytes. ` +
        `The reference backend holds everything decoded: use the cpu backend for a model of this size.`,
      { cause },
    );
  }
}

/** Decodes a stored weight into `out`; f64 weights keep all their bits where the storage has room for them. */
export function decodeWeight(dtype: WeightDType, bytes: Uint8Array, out: Values): void {
  if (out instanceof Float32Array) {
    decodeToF32(dtype, bytes, out);
  } else if (dtype === "f64") {
    new Uint8Array(out.buffer, out.byteOffset, out.byteLength).set(bytes);
  } else {
    const values = new Float32Array(out.length);
    decodeToF32(dtype, bytes, values);
    out.set(values);
  }
}
