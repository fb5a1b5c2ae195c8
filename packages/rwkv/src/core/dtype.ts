// Element types and block layouts, under their published names. A quantised dtype stores rows of blocks along the
// last (fastest) dimension; q8, q4, nf4 and sf4 are this project's own, the other layouts are those of ggml
// (blocks.ts draws them all).

import { ShapeError } from "./errors.ts";

interface DTypeInfo {
  /** Elements in one block; 1 for plain types. */
  readonly blockElements: number;
  /** Bytes of one block. */
  readonly blockBytes: number;
}

export const DTYPES = {
  f64: { blockElements: 1, blockBytes: 8 },
  f32: { blockElements: 1, blockBytes: 4 },
  f16: { blockElements: 1, blockBytes: 2 },
  bf16: { blockElements: 1, blockBytes: 2 },
  i8: { blockElements: 1, blockBytes: 1 },
  i16: { blockElements: 1, blockBytes: 2 },
  i32: { blockElements: 1, blockBytes: 4 },
  i64: { blockElements: 1, blockBytes: 8 },
  u8: { blockElements: 1, blockBytes: 1 },
  u16: { blockElements: 1, blockBytes: 2 },
  u32: { blockElements: 1, blockBytes: 4 },
  u64: { blockElements: 1, blockBytes: 8 },
  bool: { blockElements: 1, blockBytes: 1 },
  q4_0: { blockElements: 32, blockBytes: 18 },
  q4_1: { blockElements: 32, blockBytes: 20 },
  q5_0: { blockElements: 32, blockBytes: 22 },
  q5_1: { blockElements: 32, blockBytes: 24 },
  q8_0: { blockElements: 32, blockBytes: 34 },
  q2_k: { blockElements: 256, blockBytes: 84 },
  q3_k: { blockElements: 256, blockBytes: 110 },
  q4_k: { blockElements: 256, blockBytes: 144 },
  q5_k: { blockElements: 256, blockBytes: 176 },
  q6_k: { blockElements: 256, blockBytes: 210 },
  q8: { blockElements: 64, blockBytes: 66 },
  q4: { blockElements: 64, blockBytes: 36 },
  nf4: { blockElements: 64, blockBytes: 34 },
  sf4: { blockElements: 64, blockBytes: 34 },
} as const satisfies Record<string, DTypeInfo>;

/** Any element type that a file may hold, under its published name. */
export type DType = keyof typeof DTYPES;

/** Types whose values are real numbers, that is everything a weight may be stored in. */
export type FloatDType = "f64" | "f32" | "f16" | "bf16";
/** Block types of ggml. */
export type GgmlQuantDType =
  "q4_0" | "q4_1" | "q5_0" | "q5_1" | "q8_0" | "q2_k" | "q3_k" | "q4_k" | "q5_k" | "q6_k";
/** Block types whose quants are the numbers of 16 levels. */
export type LevelDType = "nf4" | "sf4";
/** Block types of this project. */
export type OwnQuantDType = "q8" | "q4" | LevelDType;
export type QuantDType = GgmlQuantDType | OwnQuantDType;
/** Types that weights are stored in. */
export type WeightDType = FloatDType | QuantDType;

const FLOAT_DTYPES: ReadonlySet<string> = new Set<FloatDType>(["f64", "f32", "f16", "bf16"]);

export function isDType(name: string): name is DType {
  return Object.hasOwn(DTYPES, name);
}

/** Whether values of `dtype` come in blocks with shared scales. */
export function isQuantized(dtype: DType): dtype is QuantDType {
  return DTYPES[dtype].blockElements > 1;
}

/** Whether quants of `dtype` are the numbers of levels. */
export function hasLevels(dtype: DType): dtype is LevelDType {
  return dtype === "nf4" || dtype === "sf4";
}

/** Whether a weight may be stored in `dtype`. */
export function isWeightDType(dtype: DType): dtype is WeightDType {
  return FLOAT_DTYPES.has(dtype) || isQuantized(dtype);
}

/** Product of the dimensions; 1 for a scalar. Not checked against 2^53: bound the dimensions first. */
export function countElements(shape: readonly number[]): number {
  let product = 1;
  for (const dimension of shape) product *= dimension;
  return product;
}

/**
 * Bytes of a row-major tensor.
 * @throws ShapeError if the last dimension is not a whole number of blocks
 */
export function byteLengthOf(dtype: DType, shape: readonly number[]): number {
  const { blockElements, blockBytes } = DTYPES[dtype];
  const rowElements = shape.at(-1) ?? 1;
  if (rowElements % blockElements !== 0) {
    throw new ShapeError(
      `${dtype} stores blocks of ${String(blockElements)} elements along the last dimension, but the shape is ` +
        `[${shape.join(", ")}]. Use a plain dtype such as f16 for this tensor.`,
    );
  }
  return (countElements(shape) / blockElements) * blockBytes;
}
