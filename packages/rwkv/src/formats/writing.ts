// What the writers of formats have in common: which names they refuse, the one buffer that tensors pass through, and
// pieces small enough for a sink that copies.

import type { ByteSink } from "../core/byte-sink.ts";
import { byteLengthOf } from "../core/dtype.ts";
import { DeviceError, UsageError } from "../core/errors.ts";
import type { CheckpointTensor } from "./checkpoint.ts";
import { quoted } from "./range-tensor.ts";

/** Most bytes given to the sink at once, so that one that copies does not double the largest tensor. */
const WRITE_PIECE_BYTES = 16 * 2 ** 20;

/**
 * Checks that tensors can be told apart in the file, and are as long as they say.
 * @param format - what messages call it
 * @throws UsageError naming the tensor
 */
export function checkTensors(format: string, tensors: readonly CheckpointTensor[]): void {
  const names = new Set<string>();
  for (const { name, dtype, shape, byteLength } of tensors) {
    const where = `Tensor ${quoted(name)} cannot be written as ${format}:`;
    if (names.has(name)) throw new UsageError(`${where} there are two of that name. Rename one.`);
    if (!isWellFormed(name)) throw new UsageError(`${where} the name is not valid Unicode. Rename it.`);
    if (byteLengthOf(dtype, shape) !== byteLength) {
      throw new UsageError(
        `${where} ${dtype} [${shape.join(", ")}] takes ${byteLengthOf(dtype, shape)} bytes, but it has ${byteLength}.`,
      );
    }
    names.add(name);
  }
}

/** Whether every surrogate has its partner; the others would all turn into the same U+FFFD. */
export function isWellFormed(text: string): boolean {
  return !/\p{Surrogate}/u.test(text);
}

/**
 * A buffer for the largest of the tensors.
 * @throws DeviceError if there is no memory for it
 */
export function tensorBuffer(tensors: readonly CheckpointTensor[]): Uint8Array {
  const byteLength = tensors.reduce((most, tensor) => Math.max(most, tensor.byteLength), 0);
  try {
    return new Uint8Array(byteLength);
  } catch (cause) {
    throw new DeviceError(
      `The largest tensor needs a buffer of ${byteLength} bytes, which could not be had. Close other programs, or ` +
        `convert on a machine with more memory.`,
      { cause },
    );
  }
}

export async function writeInPieces(sink: ByteSink, bytes: Uint8Array): Promise<void> {
  for (let start = 0; start < bytes.byteLength; start += WRITE_PIECE_BYTES) {
    await sink.write(bytes.subarray(start, start + WRITE_PIECE_BYTES));
  }
}
