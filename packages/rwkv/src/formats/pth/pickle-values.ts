// What can be inside the pickle of a checkpoint. Plain data without behaviour: nothing the file names is ever looked up
// or called. Values may share parts and contain themselves, so nothing may walk them without a bound.

import type { DType } from "../../core/dtype.ts";

/** Element types that PyTorch has a storage class for. */
export type StorageDType = Extract<
  DType,
  "bf16" | "f16" | "f32" | "f64" | "i64" | "i32" | "i16" | "i8" | "u8" | "bool"
>;

export interface PickleTuple {
  readonly kind: "tuple";
  readonly items: readonly PickleValue[];
}

export interface PickleList {
  readonly kind: "list";
  readonly items: PickleValue[];
}

/** A dict or an OrderedDict. Keys that are no primitive count as equal only if they are the same object. */
export interface PickleDict {
  readonly kind: "dict";
  readonly entries: Map<PickleValue, PickleValue>;
}

/** One of the few classes and functions that a checkpoint may mention, as an inert symbol. */
export type PickleGlobal =
  | { readonly kind: "ordered dict class" }
  | { readonly kind: "tensor function" }
  | { readonly kind: "parameter function" }
  | { readonly kind: "storage class"; readonly dtype: StorageDType };

/** Elements `start` to `start + nElements` of the stored run of bytes called `key`. */
export interface PickleStorage {
  readonly kind: "storage";
  readonly key: string;
  readonly dtype: StorageDType;
  /** Elements under `key` in the file. */
  readonly nStored: number;
  readonly start: number;
  readonly nElements: number;
}

/** A view of a storage as the file describes it; whether it fits is checked when its storage is known. */
export interface PickleTensor {
  readonly kind: "tensor";
  readonly storage: PickleStorage;
  /** In elements, from the storage's start. */
  readonly offset: number;
  readonly shape: readonly number[];
  /** In elements, one for each dimension. */
  readonly strides: readonly number[];
}

export type PickleObject =
  PickleTuple | PickleList | PickleDict | PickleGlobal | PickleStorage | PickleTensor;

/** Integers are numbers where they are safe, and bigints beyond. */
export type PickleValue = null | boolean | number | bigint | string | PickleObject;

export function isKind<K extends PickleObject["kind"]>(
  value: PickleValue | undefined,
  kind: K,
): value is Extract<PickleObject, { kind: K }> {
  return typeof value === "object" && value !== null && value.kind === kind;
}

/** Whether the value is a count, an index or a stride: an integer from 0 to 2^53 - 1. */
export function isCount(value: PickleValue | undefined): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

/** The value in a few words, for messages. */
export function describeValue(value: PickleValue | undefined): string {
  if (value === undefined) return "nothing";
  if (value === null) return "None";
  if (typeof value === "string") {
    return value.length <= 40 ? `the text ${JSON.stringify(value)}` : `a text of ${value.length} characters`;
  }
  if (typeof value !== "object") return `the ${typeof value} ${String(value).slice(0, 40)}`;
  switch (value.kind) {
    case "tuple":
    case "list":
      return `a ${value.kind} of ${value.items.length} values`;
    case "dict":
      return `a dictionary of ${value.entries.size} entries`;
    case "tensor":
      return `a tensor of shape [${value.shape.join(", ")}]`;
    default:
      return `a ${value.kind}`;
  }
}
