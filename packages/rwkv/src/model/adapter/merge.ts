// A model's weights with an adapter merged into them: W + (alpha / rank) B A, summed in f64 and rounded once. Each matrix is
// merged when it is read, so that no more than one is in memory twice.

import { decodeToF32, encodeFromF32, type EncodedDType } from "../../core/decode.ts";
import { byteLengthOf, isQuantized, type WeightDType } from "../../core/dtype.ts";
import { residualScale } from "../export.ts";
import { checkRange, deviceDType, readValues } from "../values.ts";
import type { CanonicalWeight, CanonicalWeights } from "../weights/canonical.ts";
import { MADE_BY_READ } from "../weights/view.ts";
import type { Adapter, LowRankPair } from "./read.ts";

/** How an adapter is merged. */
export interface MergeOptions {
  readonly alpha: number;
  /** Whether matrices are rounded again later, so that merging shall not round them to the type of the file. */
  readonly keepsF32: boolean;
}

/**
 * @returns weights whose changed matrices are in the type of the file, or in f16 where that has blocks; in f32 if asked.
 * They read from the adapter, which must stay open as long as the model's file
 */
export function mergeAdapter(
  weights: CanonicalWeights,
  adapter: Adapter,
  { alpha, keepsF32 }: MergeOptions,
): CanonicalWeights {
  const tensors = new Map<string, CanonicalWeight>();
  for (const [name, weight] of weights.tensors) {
    // what the file divided, the adapter's share must be divided by too
    const divisor = residualScale(name, weights.rescaleEveryNLayers);
    const pair = adapter.pairs.get(name);
    const replacement = adapter.replaced.get(name);
    if (pair !== undefined) {
      const dtype = keepsF32 ? "f32" : mergedDType(weight.dtype);
      tensors.set(name, merged(weight, pair, alpha / pair.rank / divisor, dtype));
    } else if (replacement !== undefined) {
      tensors.set(name, divisor === 1 ? replacement : divided(replacement, divisor));
    } else {
      tensors.set(name, weight);
    }
  }
  return { ...weights, tensors };
}

function mergedDType(stored: WeightDType): EncodedDType {
  const dtype = deviceDType(stored);
  return isQuantized(dtype) ? "f16" : dtype;
}

/** W + scale B A. */
function merged(
  weight: CanonicalWeight,
  pair: LowRankPair,
  scale: number,
  dtype: EncodedDType,
): CanonicalWeight {
  const { name, shape } = weight;
  const [nRows, nColumns] = shape as readonly [number, number];
  return {
    ...weight,
    ...MADE_BY_READ,
    dtype,
    byteLength: byteLengthOf(dtype, shape),
    async read(target, signal) {
      const stored = new Uint8Array(weight.byteLength);
      await weight.read(stored, signal);
      const [a, b] = [await pair.readA(signal), await pair.readB(signal)];
      signal?.throwIfAborted();
      const storedRowBytes = byteLengthOf(weight.dtype, [nColumns]);
      const rowBytes = byteLengthOf(dtype, [nColumns]);
      const row = new Float32Array(nColumns);
      const sums = new Float64Array(nColumns);
      for (let i = 0; i < nRows; i++) {
        decodeToF32(weight.dtype, stored.subarray(i * storedRowBytes, (i + 1) * storedRowBytes), row);
        sums.fill(0);
        for (let k = 0; k < pair.rank; k++) {
          const factor = b[i * pair.rank + k]!;
          const start = k * nColumns;
          for (let j = 0; j < nColumns; j++) sums[j] = sums[j]! + factor * a[start + j]!;
        }
        for (let j = 0; j < nColumns; j++) row[j] = row[j]! + scale * sums[j]!;
        checkRange(name, dtype, row);
        encodeFromF32(dtype, row, target.subarray(i * rowBytes, (i + 1) * rowBytes));
      }
    },
  };
}

/** The weight in f32, every value divided. */
function divided(weight: CanonicalWeight, divisor: number): CanonicalWeight {
  return {
    ...weight,
    ...MADE_BY_READ,
    dtype: "f32",
    byteLength: byteLengthOf("f32", weight.shape),
    async read(target, signal) {
      const values = await readValues(weight, signal);
      target.set(new Uint8Array(values.map((value) => value / divisor).buffer));
    },
  };
}
