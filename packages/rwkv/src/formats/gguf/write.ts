// Writes a GGUF file of version 3: header first, then one tensor at a time, so that memory holds the largest tensor and
// not the model. Format: docs/gguf.md of ggml-org/ggml.

import type { ByteSink } from "../../core/byte-sink.ts";
import { byteLengthOf, type DType } from "../../core/dtype.ts";
import { UnsupportedError, UsageError } from "../../core/errors.ts";
import type { CheckpointTensor } from "../checkpoint.ts";
import {
  alignUp,
  DEFAULT_ALIGNMENT,
  MAX_DIMENSIONS,
  TENSOR_TYPES,
  VALUE_TYPES,
  type GgufArray,
  type GgufValue,
  type GgufValueType,
} from "./types.ts";

export type { GgufArray, GgufValue } from "./types.ts";

const VERSION = 3;
const MAX_ALIGNMENT = 65536;

/** Smallest and largest value of each integer type. */
const INTEGER_RANGES: Partial<Readonly<Record<GgufValueType, readonly [bigint, bigint]>>> = {
  u8: [0n, 255n],
  i8: [-128n, 127n],
  u16: [0n, 65535n],
  i16: [-32768n, 32767n],
  u32: [0n, 2n ** 32n - 1n],
  i32: [-(2n ** 31n), 2n ** 31n - 1n],
  u64: [0n, 2n ** 64n - 1n],
  i64: [-(2n ** 63n), 2n ** 63n - 1n],
};

/**
 * Writes a whole GGUF file. Tensors are asked for in the order given, each once, and follow each other in the file.
 * @param sink - receives the bytes in order; not closed
 * @param tensors - with the names, dtypes and shapes (PyTorch order) that the file shall have
 * @param metadata - in the order of the file; `general.alignment` is obeyed
 * @throws UsageError for a name given twice, a value outside its type, an alignment that is no power of two from 8 to 65536
 * @throws UnsupportedError for more than four dimensions, or a dtype that GGUF does not have
 * @throws ShapeError for rows that are not whole blocks; in all these cases nothing is written
 */
export async function writeGguf(
  sink: ByteSink,
  tensors: readonly CheckpointTensor[],
  metadata: ReadonlyMap<string, GgufValue>,
): Promise<void> {
  const alignment = alignmentOf(metadata);
  const header = writeHeader(tensors, metadata, alignment);
  await sink.write(header);
  const padding = new Uint8Array(alignment);
  for (const tensor of tensors) {
    const bytes = new Uint8Array(tensor.byteLength);
    await tensor.read(bytes);
    await sink.write(bytes);
    const nPadding = alignUp(bytes.byteLength, alignment) - bytes.byteLength;
    if (nPadding > 0) await sink.write(padding.subarray(0, nPadding));
  }
}

function alignmentOf(metadata: ReadonlyMap<string, GgufValue>): number {
  const given = metadata.get("general.alignment");
  if (given === undefined) return DEFAULT_ALIGNMENT;
  if (given.type === "u32") {
    const alignment = given.value;
    if (alignment >= 8 && alignment <= MAX_ALIGNMENT && Number.isInteger(Math.log2(alignment)))
      return alignment;
  }
  const found = given.type === "array" ? "an array" : `${given.type} ${given.value.toString()}`;
  throw new UsageError(
    `general.alignment should be a u32 and a power of two from 8 to ${MAX_ALIGNMENT}, but is ${found}.`,
  );
}

/** Everything before the first tensor's bytes, padding included. */
function writeHeader(
  tensors: readonly CheckpointTensor[],
  metadata: ReadonlyMap<string, GgufValue>,
  alignment: number,
): Uint8Array {
  const writer = new HeaderWriter();
  writer.raw(Uint8Array.of(0x47, 0x47, 0x55, 0x46)); // "GGUF"
  writer.integer(4, VERSION);
  writer.integer(8, tensors.length);
  writer.integer(8, metadata.size);
  for (const [key, value] of metadata) {
    writer.string(key);
    writer.integer(4, VALUE_TYPES.indexOf(value.type));
    writeValue(writer, key, value);
  }
  let offset = 0;
  const names = new Set<string>();
  for (const tensor of tensors) {
    if (names.has(tensor.name))
      throw new UsageError(`tensor "${tensor.name}" was given twice; names are unique in GGUF.`);
    names.add(tensor.name);
    writeEntry(writer, tensor, offset);
    offset += alignUp(tensor.byteLength, alignment);
  }
  writer.raw(new Uint8Array(alignUp(writer.byteLength, alignment) - writer.byteLength));
  return writer.bytes();
}

function writeEntry(writer: HeaderWriter, tensor: CheckpointTensor, offset: number): void {
  const { name, dtype, shape, byteLength } = tensor;
  if (shape.length > MAX_DIMENSIONS) {
    throw new UnsupportedError(
      `tensor "${name}" has the shape [${shape.join(", ")}], but GGUF stores at most ${MAX_DIMENSIONS} dimensions. ` +
        `Leave out dimensions of 1.`,
    );
  }
  const expected = byteLengthOf(dtype, shape);
  if (byteLength !== expected) {
    throw new UsageError(
      `tensor "${name}" of shape [${shape.join(", ")}] takes ${expected} bytes in ${dtype}, but says it has ${byteLength}.`,
    );
  }
  writer.string(name);
  // A scalar is a vector of one element: ggml has no tensor without dimensions.
  const dimensions = shape.length === 0 ? [1] : shape.toReversed();
  writer.integer(4, dimensions.length);
  for (const dimension of dimensions) writer.integer(8, dimension);
  writer.integer(4, tensorTypeOf(dtype, name));
  writer.integer(8, offset);
}

function tensorTypeOf(dtype: DType, name: string): number {
  for (const [id, type] of TENSOR_TYPES) if (type.dtype === dtype) return id;
  throw new UnsupportedError(
    `tensor "${name}" is of dtype ${dtype}, which GGUF does not have. Convert it to f32 or f16 first.`,
  );
}

function writeValue(writer: HeaderWriter, key: string, value: GgufValue): void {
  switch (value.type) {
    case "array":
      writeArray(writer, key, value);
      return;
    case "string":
      writer.string(value.value);
      return;
    case "bool":
      writer.integer(1, value.value ? 1 : 0);
      return;
    default:
      writeNumber(writer, key, value.type, value.value);
  }
}

function writeArray(writer: HeaderWriter, key: string, array: GgufArray): void {
  writer.integer(4, VALUE_TYPES.indexOf(array.elementType));
  writer.integer(8, array.value.length);
  switch (array.elementType) {
    case "array":
      for (const inner of array.value) writeArray(writer, key, inner);
      return;
    case "string":
      for (const text of array.value) writer.string(text);
      return;
    case "bool":
      for (const flag of array.value) writer.integer(1, flag ? 1 : 0);
      return;
    default:
      for (const number of array.value) writeNumber(writer, key, array.elementType, number);
  }
}

type NumberType = Exclude<GgufValueType, "array" | "string" | "bool">;

function writeNumber(writer: HeaderWriter, key: string, type: NumberType, value: number | bigint): void {
  if (type === "f32" || type === "f64") {
    writer.float(type === "f32" ? 4 : 8, Number(value));
    return;
  }
  const [least, most] = INTEGER_RANGES[type]!;
  if (typeof value === "number" && !Number.isInteger(value)) {
    throw new UsageError(`metadata "${key}": ${value} is not a whole number, but its type is ${type}.`);
  }
  if (value < least || value > most) {
    throw new UsageError(
      `metadata "${key}": ${value.toString()} is outside ${type}, which goes from ${least.toString()} to ${most.toString()}.`,
    );
  }
  writer.integer(Number(type.slice(1)) / 8, value);
}

/** A buffer that grows. Integers wrap into their width, so signed and unsigned are written alike. */
class HeaderWriter {
  #bytes = new Uint8Array(4096);
  #view = new DataView(this.#bytes.buffer);
  #length = 0;
  readonly #utf8 = new TextEncoder();

  get byteLength(): number {
    return this.#length;
  }

  bytes(): Uint8Array {
    return this.#bytes.subarray(0, this.#length);
  }

  raw(bytes: Uint8Array): void {
    const start = this.#grow(bytes.byteLength);
    this.#bytes.set(bytes, start);
  }

  string(text: string): void {
    const bytes = this.#utf8.encode(text);
    this.integer(8, bytes.byteLength);
    this.raw(bytes);
  }

  integer(byteLength: number, value: number | bigint): void {
    const start = this.#grow(byteLength);
    if (byteLength === 8) this.#view.setBigUint64(start, BigInt(value), true);
    else if (byteLength === 4) this.#view.setUint32(start, Number(value), true);
    else if (byteLength === 2) this.#view.setUint16(start, Number(value), true);
    else this.#view.setUint8(start, Number(value));
  }

  float(byteLength: 4 | 8, value: number): void {
    const start = this.#grow(byteLength);
    if (byteLength === 8) this.#view.setFloat64(start, value, true);
    else this.#view.setFloat32(start, value, true);
  }

  #grow(byteLength: number): number {
    const start = this.#length;
    this.#length += byteLength;
    if (this.#length > this.#bytes.byteLength) {
      const larger = new Uint8Array(Math.max(this.#length, 2 * this.#bytes.byteLength));
      larger.set(this.#bytes.subarray(0, start));
      this.#bytes = larger;
      this.#view = new DataView(larger.buffer);
    }
    return start;
  }
}
