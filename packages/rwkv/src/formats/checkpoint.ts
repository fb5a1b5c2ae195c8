// What every reader of a checkpoint format returns: named tensors that are read when asked. Names, shapes and dtypes
// are the file's own (shapes in PyTorch order, last index fastest); `model/weights` gives them their meaning.

import type { FilePlace, ReadPart } from "../core/byte-source.ts";
import type { DType } from "../core/dtype.ts";
import type { WeightLayout } from "../core/layout.ts";

/** The container of a checkpoint, recognised by content. */
export type CheckpointFormat = "pth" | "safetensors" | "packed" | "gguf" | "rwkv.cpp";

/** The bytes of a matrix in the order in which the file keeps them. */
export interface PackedBytes {
  readonly layout: WeightLayout;
  readonly byteLength: number;
  /** Where a file of this machine has them. */
  readonly place?: FilePlace | undefined;
  /**
   * Fills `target`, of exactly `byteLength` bytes.
   * @throws FormatError if the file turns out to be shorter than its header says
   */
  read(target: Uint8Array, signal?: AbortSignal): Promise<void>;
}

/** One tensor of a checkpoint. Nothing but its description is in memory until `read`. */
export interface CheckpointTensor {
  /** The name in the file. */
  readonly name: string;
  readonly dtype: DType;
  /** PyTorch order, last index fastest; `[]` for a scalar. */
  readonly shape: readonly number[];
  /** Bytes of the row-major contiguous form that `read` delivers. */
  readonly byteLength: number;
  /** Where a file of this machine has just the bytes that `read` delivers. */
  readonly place?: FilePlace | undefined;
  /**
   * Fills `target`, of exactly `byteLength` bytes, with the elements in row-major order and in `dtype`, little-endian.
   * Strided tensors are gathered on the way.
   * @throws FormatError if the file turns out to be shorter than its header says
   */
  read(target: Uint8Array, signal?: AbortSignal): Promise<void>;
  /**
   * Fills `target` with bytes of what `read` delivers, from `offset` on; absent where only all of it can be read.
   * @throws as `read`
   */
  readonly readPart?: ReadPart | undefined;
  /** The same elements as the file has them, in the packed format. */
  readonly packed?: PackedBytes | undefined;
}

/** A value of a file's metadata; integers beyond 2^53 are bigints. */
export type MetadataValue = string | number | bigint | boolean | null | readonly MetadataValue[];

/** A checkpoint whose header has been read. */
export interface Checkpoint {
  readonly format: CheckpointFormat;
  /** What messages call it. */
  readonly name: string;
  /** Format version, where it has one: GGUF 2 or 3, rwkv.cpp 100 or 101, packed 1. */
  readonly formatVersion: number | null;
  /** By the name in the file, in file order. */
  readonly tensors: ReadonlyMap<string, CheckpointTensor>;
  /** GGUF key-value pairs, safetensors `__metadata__`, what the Python package noted in a .pth; else empty. */
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  /** The file of a tokenizer inside the checkpoint, as bytes; GGUF has its own form in the metadata. */
  readonly tokenizer?: CheckpointTensor | undefined;
  close(): Promise<void>;
}
