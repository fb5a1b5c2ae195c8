// A tensor whose elements lie in one contiguous, row-major range of the file: all of safetensors, GGUF and rwkv.cpp. Hides
// where that is; nothing is read until asked.

import type { ByteSource } from "../core/byte-source.ts";
import type { DType } from "../core/dtype.ts";
import { ShapeError } from "../core/errors.ts";
import type { CheckpointTensor } from "./checkpoint.ts";

export interface TensorRange {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Absolute address of the first byte. */
  readonly offset: number;
  readonly byteLength: number;
}

/** The tensor at `range` of `source`; the range has been checked against the file's length. */
export function rangeTensor(source: ByteSource, range: TensorRange): CheckpointTensor {
  const { name, dtype, shape, offset, byteLength } = range;
  return {
    name,
    dtype,
    shape,
    byteLength,
    place: source.file && { file: source.file, offset },
    async read(target, signal) {
      checkTarget(source, range, target);
      signal?.throwIfAborted();
      await source.read(offset, target, signal);
    },
    readPart: (start, target, signal) => source.read(offset + start, target, signal),
  };
}

/** @throws ShapeError unless the target holds exactly the tensor's bytes */
export function checkTarget(
  source: ByteSource,
  { name, byteLength }: Pick<CheckpointTensor, "name" | "byteLength">,
  target: Uint8Array,
): void {
  if (target.byteLength === byteLength) return;
  throw new ShapeError(
    `${source.name}: tensor ${quoted(name)} has ${byteLength} bytes, but ${target.byteLength} were given to ` +
      `read into. Pass an array of tensor.byteLength bytes.`,
  );
}

/** More tensors than any RWKV model has; a file that claims them is hostile or another kind of model. */
export const MAX_TENSORS = 65_536;

const QUOTED_CHARACTERS = 80;

/** A name out of a file, fit for a message: quoted, escaped and not too long. */
export function quoted(name: string): string {
  if (name.length <= QUOTED_CHARACTERS) return JSON.stringify(name);
  return `${JSON.stringify(name.slice(0, QUOTED_CHARACTERS))}... (${name.length} characters)`;
}
