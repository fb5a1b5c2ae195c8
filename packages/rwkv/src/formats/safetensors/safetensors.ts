// safetensors files: `| u64 n | n bytes of JSON header | data |`, little-endian. Hides where the data begins and in
// which order it is written. Source: huggingface/safetensors; the header's rules are in header.ts.

import { ByteReader } from "../../core/byte-reader.ts";
import type { ByteSink } from "../../core/byte-sink.ts";
import type { ByteSource } from "../../core/byte-source.ts";
import { DTYPES } from "../../core/dtype.ts";
import { FormatError, UsageError } from "../../core/errors.ts";
import type { Checkpoint, CheckpointTensor } from "../checkpoint.ts";
import { quoted, rangeTensor, type TensorRange } from "../range-tensor.ts";
import { checkTensors, isWellFormed, tensorBuffer, writeInPieces } from "../writing.ts";
import { encodeHeader, hasSafetensorsName, isReservedName, MAX_HEADER_BYTES, parseHeader } from "./header.ts";

/** Bytes of the header's length. */
const PREFIX_BYTES = 8;

/** What the header of a file says, with addresses in the file. */
export interface SafetensorsFile {
  /** In the order of the JSON text. */
  readonly ranges: readonly TensorRange[];
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Reads the header of one safetensors file.
 * @param source - stays open, and the caller's
 * @throws FormatError if the header is damaged or contradicts the file's length
 * @throws UnsupportedError for dtypes such as F8_E4M3
 */
export async function readSafetensorsHeader(source: ByteSource): Promise<SafetensorsFile> {
  const reader = new ByteReader(source);
  await reader.ensure(PREFIX_BYTES, "the length of the safetensors header");
  const headerByteLength = Number(reader.u64());
  if (headerByteLength > MAX_HEADER_BYTES) {
    throw new FormatError(
      `${source.name}: the first 8 bytes announce a safetensors header of ${headerByteLength} bytes, but at most ` +
        `${MAX_HEADER_BYTES} are allowed. The file is damaged or not safetensors: download it again.`,
    );
  }
  await reader.ensure(headerByteLength, "the safetensors header");
  const text = decodeUtf8(reader.bytes(headerByteLength), `${source.name}: the safetensors header`);
  const dataStart = PREFIX_BYTES + headerByteLength;
  const { entries, metadata } = parseHeader(text, source.byteLength - dataStart, source.name);
  const ranges = entries.map(({ name, dtype, shape, begin, end }) => {
    return { name, dtype, shape, offset: dataStart + begin, byteLength: end - begin };
  });
  return { ranges, metadata };
}

/**
 * Reads one safetensors file.
 * @param source - stays open, and the caller's, if this fails; closed by the checkpoint's `close` otherwise
 * @throws FormatError, UnsupportedError as `readSafetensorsHeader`
 */
export async function readSafetensors(source: ByteSource): Promise<Checkpoint> {
  return safetensorsCheckpoint(source, await readSafetensorsHeader(source));
}

/** The checkpoint of plain tensors. */
export function safetensorsCheckpoint(source: ByteSource, { ranges, metadata }: SafetensorsFile): Checkpoint {
  return {
    format: "safetensors",
    name: source.name,
    formatVersion: null,
    tensors: new Map(ranges.map((range) => [range.name, rangeTensor(source, range)])),
    metadata,
    close: () => source.close(),
  };
}

/** @throws FormatError naming `where` if the bytes are not UTF-8 */
export function decodeUtf8(bytes: Uint8Array, where: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(`${where} is not UTF-8 text. The file is damaged: download it again.`, { cause });
  }
}

/**
 * Writes a safetensors file. One tensor is in memory at a time, in a buffer of the largest one's length. Data is
 * ordered by element size, largest first, so that every tensor is aligned to its elements; otherwise as given.
 * @param metadata - becomes `__metadata__`; loaders of PyTorch look for `format: pt`
 * @throws UsageError for quantised or repeated tensors, before anything is written
 * @throws DeviceError if there is no memory for the largest tensor, before anything is written
 */
export async function writeSafetensors(
  sink: ByteSink,
  tensors: readonly CheckpointTensor[],
  metadata: ReadonlyMap<string, string>,
): Promise<void> {
  const inOrder = [...tensors].sort((a, b) => DTYPES[b.dtype].blockBytes - DTYPES[a.dtype].blockBytes);
  await writeInOrder(sink, inOrder, metadata);
}

/**
 * The same, with the data in the order given.
 * @param alignment - the data of the first tensor begins at a multiple of it
 */
export async function writeInOrder(
  sink: ByteSink,
  tensors: readonly CheckpointTensor[],
  metadata: ReadonlyMap<string, string>,
  alignment?: number,
): Promise<void> {
  checkWritable(tensors, metadata);
  const header = encodeHeader(tensors, metadata, alignment);
  if (header.byteLength - PREFIX_BYTES > MAX_HEADER_BYTES) {
    throw new UsageError(
      `The safetensors header would have ${header.byteLength - PREFIX_BYTES} bytes, but at most ${MAX_HEADER_BYTES} ` +
        `are allowed. Shorten the metadata.`,
    );
  }
  const buffer = tensorBuffer(tensors);
  await sink.write(header);
  for (const tensor of tensors) {
    const bytes = buffer.subarray(0, tensor.byteLength);
    await tensor.read(bytes);
    await writeInPieces(sink, bytes);
  }
}

function checkWritable(tensors: readonly CheckpointTensor[], metadata: ReadonlyMap<string, string>): void {
  for (const { name, dtype } of tensors) {
    const where = `Tensor ${quoted(name)} cannot be written as safetensors:`;
    if (!hasSafetensorsName(dtype)) {
      throw new UsageError(`${where} the format has no ${dtype}. Convert it to f16, bf16 or f32 first.`);
    }
    if (isReservedName(name)) throw new UsageError(`${where} the name is reserved. Rename it.`);
  }
  checkTensors("safetensors", tensors);
  for (const [key, value] of metadata) {
    if (isWellFormed(key) && isWellFormed(value)) continue;
    throw new UsageError(
      `Metadata ${quoted(key)} cannot be written as safetensors: it is not valid Unicode.`,
    );
  }
}
