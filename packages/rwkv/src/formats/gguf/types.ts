// The numbers that GGUF gives to metadata and tensor types, and what they stand for here.
// Format: docs/gguf.md of ggml-org/ggml; the tensor types are its enum ggml_type.

import type { DType } from "../../core/dtype.ts";

/** Metadata types by number. */
export const VALUE_TYPES = [
  "u8",
  "i8",
  "u16",
  "i16",
  "u32",
  "i32",
  "f32",
  "bool",
  "string",
  "array",
  "u64",
  "i64",
  "f64",
] as const;

export type GgufValueType = (typeof VALUE_TYPES)[number];

/** A metadata array: elements of one type, which may be arrays again. */
export type GgufArray = { readonly type: "array" } & (
  | {
      readonly elementType: "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "f32" | "f64";
      readonly value: readonly number[];
    }
  | { readonly elementType: "u64" | "i64"; readonly value: readonly (number | bigint)[] }
  | { readonly elementType: "bool"; readonly value: readonly boolean[] }
  | { readonly elementType: "string"; readonly value: readonly string[] }
  | { readonly elementType: "array"; readonly value: readonly GgufArray[] }
);

/** A metadata value with the type it is written in. */
export type GgufValue =
  | { readonly type: "u8" | "i8" | "u16" | "i16" | "u32" | "i32" | "f32" | "f64"; readonly value: number }
  | { readonly type: "u64" | "i64"; readonly value: number | bigint }
  | { readonly type: "bool"; readonly value: boolean }
  | { readonly type: "string"; readonly value: string }
  | GgufArray;

/** Bytes of one value; for strings and arrays the fewest, those of an empty one. */
export const VALUE_MIN_BYTES: Readonly<Record<GgufValueType, number>> = {
  u8: 1,
  i8: 1,
  u16: 2,
  i16: 2,
  u32: 4,
  i32: 4,
  f32: 4,
  bool: 1,
  string: 8,
  array: 12,
  u64: 8,
  i64: 8,
  f64: 8,
};

/** Tensor types by number; the published name alone where this library does not read the type. */
export const TENSOR_TYPES: ReadonlyMap<number, { readonly label: string; readonly dtype: DType | null }> =
  new Map([
    [0, { label: "F32", dtype: "f32" }],
    [1, { label: "F16", dtype: "f16" }],
    [2, { label: "Q4_0", dtype: "q4_0" }],
    [3, { label: "Q4_1", dtype: "q4_1" }],
    [4, { label: "Q4_2", dtype: null }],
    [5, { label: "Q4_3", dtype: null }],
    [6, { label: "Q5_0", dtype: "q5_0" }],
    [7, { label: "Q5_1", dtype: "q5_1" }],
    [8, { label: "Q8_0", dtype: "q8_0" }],
    [9, { label: "Q8_1", dtype: null }],
    [10, { label: "Q2_K", dtype: "q2_k" }],
    [11, { label: "Q3_K", dtype: "q3_k" }],
    [12, { label: "Q4_K", dtype: "q4_k" }],
    [13, { label: "Q5_K", dtype: "q5_k" }],
    [14, { label: "Q6_K", dtype: "q6_k" }],
    [15, { label: "Q8_K", dtype: null }],
    [16, { label: "IQ2_XXS", dtype: null }],
    [17, { label: "IQ2_XS", dtype: null }],
    [18, { label: "IQ3_XXS", dtype: null }],
    [19, { label: "IQ1_S", dtype: null }],
    [20, { label: "IQ4_NL", dtype: null }],
    [21, { label: "IQ3_S", dtype: null }],
    [22, { label: "IQ2_S", dtype: null }],
    [23, { label: "IQ4_XS", dtype: null }],
    [24, { label: "I8", dtype: "i8" }],
    [25, { label: "I16", dtype: "i16" }],
    [26, { label: "I32", dtype: "i32" }],
    [27, { label: "I64", dtype: "i64" }],
    [28, { label: "F64", dtype: "f64" }],
    [29, { label: "IQ1_M", dtype: null }],
    [30, { label: "BF16", dtype: "bf16" }],
    [34, { label: "TQ1_0", dtype: null }],
    [35, { label: "TQ2_0", dtype: null }],
    [39, { label: "MXFP4", dtype: null }],
  ]);

/** GGUF stores at most this many dimensions per tensor (GGML_MAX_DIMS). */
export const MAX_DIMENSIONS = 4;

/** Where tensor data starts and each tensor starts, unless `general.alignment` says otherwise. */
export const DEFAULT_ALIGNMENT = 32;

/** The next multiple of `alignment` at or after `address`. */
export function alignUp(address: number, alignment: number): number {
  return Math.ceil(address / alignment) * alignment;
}
