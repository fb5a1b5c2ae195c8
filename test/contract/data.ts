// Seeded values for the contract cases: plain rows and vectors, unit vectors per head, and weights in every stored
// type. The block layouts are those drawn in packages/rwkv/src/core/blocks.ts.

import { decodeToF32, encodeFromF32 } from "../../packages/rwkv/src/core/decode.ts";
import { byteLengthOf, countElements, DTYPES, type WeightDType } from "../../packages/rwkv/src/core/dtype.ts";
import { f32ToF16Bytes } from "../../packages/rwkv/src/core/half.ts";

/** Uniform in [-1, 1). */
export type Random = () => number;

/** Mulberry32 (Tommy Ettinger, public domain): 32 bits of state, enough for test data. */
export function seeded(seed: number): Random {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let z = Math.imul(state ^ (state >>> 15), state | 1);
    z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
    return ((z ^ (z >>> 14)) >>> 0) / 2 ** 31 - 1;
  };
}

/** The next element of an array of `nElements`, given its index. */
export type Fill = (random: Random, i: number) => number;

export const uniform =
  (scale: number): Fill =>
  (random) =>
    scale * random();

export const between =
  (low: number, high: number): Fill =>
  (random) =>
    low + ((high - low) * (random() + 1)) / 2;

export const constant =
  (value: number): Fill =>
  () =>
    value;

/** Cycles through `values`. */
export const cycle =
  (...values: readonly number[]): Fill =>
  (_random, i) =>
    values[i % values.length]!;

export function fillArray(nElements: number, fill: Fill, random: Random): Float32Array {
  return Float32Array.from({ length: nElements }, (_, i) => fill(random, i));
}

/** Random vectors of length 1, one per head. */
export function unitHeads(nElements: number, headElements: number, random: Random): Float32Array {
  const values = fillArray(nElements, uniform(1), random);
  for (let start = 0; start < nElements; start += headElements) {
    const head = values.subarray(start, start + headElements);
    const length = Math.hypot(...head);
    for (let i = 0; i < headElements; i++) head[i] = head[i]! / length;
  }
  return values;
}

/** Where the f16 scales (and minima) stand in a block, and about what greatest number they are multiplied by. */
const SCALES = {
  q4_0: { offsets: [0], most: 8 },
  q4_1: { offsets: [0, 2], most: 15 },
  q5_0: { offsets: [0], most: 16 },
  q5_1: { offsets: [0, 2], most: 31 },
  q8_0: { offsets: [0], most: 128 },
  q2_k: { offsets: [80, 82], most: 3 * 15 },
  q3_k: { offsets: [108], most: 4 * 32 },
  q4_k: { offsets: [0, 2], most: 15 * 63 },
  q5_k: { offsets: [0, 2], most: 31 * 63 },
  q6_k: { offsets: [208], most: 32 * 127 },
  q8: { offsets: [0], most: 128 },
  q4: { offsets: [0, 2], most: 15 },
  nf4: { offsets: [0], most: 127 },
  sf4: { offsets: [0], most: 127 },
} as const;

/** Every weight type but f64, which is f32 by the time it reaches a device (model/values.ts). */
export type DeviceDType = Exclude<WeightDType, "f64">;

export interface StoredWeight {
  readonly dtype: DeviceDType;
  readonly shape: readonly number[];
  readonly bytes: Uint8Array;
  /** What the bytes stand for. */
  readonly values: Float32Array;
}

/** A weight whose values come from `fill`; of a block all quants are random and `fill` gives about the greatest value. */
export function storedWeight(
  dtype: DeviceDType,
  shape: readonly number[],
  fill: Fill,
  random: Random,
): StoredWeight {
  const nElements = countElements(shape);
  const bytes = new Uint8Array(byteLengthOf(dtype, shape));
  switch (dtype) {
    case "f32":
    case "f16":
    case "bf16":
      encodeFromF32(dtype, fillArray(nElements, fill, random), bytes);
      break;
    default: {
      for (let b = 0; b < bytes.length; b++) bytes[b] = 128 + 128 * random();
      const { blockBytes } = DTYPES[dtype];
      const { offsets, most } = SCALES[dtype];
      for (let block = 0; block < bytes.length; block += blockBytes) {
        for (const offset of offsets) {
          const scale = Float32Array.of(fill(random, block / blockBytes) / most);
          f32ToF16Bytes(bytes.subarray(block + offset, block + offset + 2), scale);
        }
      }
    }
  }
  const values = new Float32Array(nElements);
  decodeToF32(dtype, bytes, values);
  return { dtype, shape, bytes, values };
}
