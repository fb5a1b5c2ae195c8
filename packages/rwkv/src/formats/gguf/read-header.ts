// Reads the header of one GGUF file: metadata and tensor table, checked against the file's length, so that whoever
// reads a tensor later finds its bytes where they should be. Format: docs/gguf.md of ggml-org/ggml.
//
//   'GGUF' | u32 version | u64 nTensors | u64 nPairs
//   nPairs   x { string key | u32 type | value }
//   nTensors x { string name | u32 nDimensions | u64 dimensions[] (fastest first) | u32 type | u64 offset }
//   padding to the alignment | tensor data: each tensor at an aligned offset from here

import { ByteReader } from "../../core/byte-reader.ts";
import type { ByteSource } from "../../core/byte-source.ts";
import { countElements, DTYPES, type DType } from "../../core/dtype.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import type { MetadataValue } from "../checkpoint.ts";
import { readCount, readName, readTypedValue } from "./read-values.ts";
import { alignUp, DEFAULT_ALIGNMENT, MAX_DIMENSIONS, TENSOR_TYPES } from "./types.ts";

const MAGIC = 0x46554747; // "GGUF"

/** Fewest bytes of a key-value pair: an empty key, a type, one byte. */
const PAIR_MIN_BYTES = 8 + 4 + 1;
/** Fewest bytes of an entry of the tensor table: an empty name, no dimensions. */
const ENTRY_MIN_BYTES = 8 + 4 + 4 + 8;

/** A tensor's place in the file. */
export interface GgufTensorEntry {
  readonly name: string;
  readonly dtype: DType;
  /** PyTorch order, last index fastest. */
  readonly shape: readonly number[];
  /** Absolute address of its first byte. */
  readonly position: number;
  readonly byteLength: number;
}

export interface GgufHeader {
  readonly version: number;
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  readonly tensors: readonly GgufTensorEntry[];
}

/**
 * Reads and checks the header of one file. Every tensor returned lies inside the file and overlaps no other.
 * @throws FormatError if the bytes are not a whole GGUF file
 * @throws UnsupportedError for version 1, big-endian files, and tensor types that cannot be decoded
 */
export async function readHeader(source: ByteSource): Promise<GgufHeader> {
  const reader = new ByteReader(source);
  const version = await readVersion(reader);
  const nTensors = await readCount(reader, ENTRY_MIN_BYTES, "the number of tensors");
  const nPairs = await readCount(reader, PAIR_MIN_BYTES, "the number of metadata pairs");

  const metadata = new Map<string, MetadataValue>();
  for (let i = 0; i < nPairs; i++) {
    const key = await readName(reader, `the key of metadata pair ${i}`);
    if (metadata.has(key)) {
      throw new FormatError(
        `${source.name}: the metadata key "${key}" stands twice, before byte ${reader.position}. ` +
          `The file is damaged or was written by a faulty tool: convert it again.`,
      );
    }
    metadata.set(key, await readTypedValue(reader, `the value of "${key}"`));
  }

  const relative: GgufTensorEntry[] = [];
  for (let i = 0; i < nTensors; i++) relative.push(await readEntry(reader, i));
  const alignment = alignmentOf(source, metadata);
  const dataStart = alignUp(reader.position, alignment);
  const tensors = relative.map((entry) => ({ ...entry, position: dataStart + entry.position }));
  checkPlacement(source, tensors, alignment, dataStart);
  return { version, metadata, tensors };
}

async function readVersion(reader: ByteReader): Promise<number> {
  const { name } = reader.source;
  await reader.ensure(8, "the magic and version");
  const magic = reader.u32();
  if (magic !== MAGIC) {
    throw new FormatError(
      `${name}: a GGUF file begins with the bytes 47 47 55 46, this one with ` +
        `${[0, 8, 16, 24].map((shift) => ((magic >>> shift) & 255).toString(16).padStart(2, "0")).join(" ")}. ` +
        `Check that this is the file you meant.`,
    );
  }
  const version = reader.u32();
  if (version === 2 || version === 3) return version;
  // Versions are small numbers, so a big-endian one has its low bytes clear.
  if (version !== 0 && version % 0x10000 === 0) {
    throw new UnsupportedError(
      `${name}: this is a big-endian GGUF file; only little-endian ones are read. Convert the model again without --bigendian.`,
    );
  }
  throw new UnsupportedError(
    `${name}: GGUF version ${version} is not read, only versions 2 and 3. ` +
      (version === 1 ? "Convert the model again with a current converter." : "Check the file for damage."),
  );
}

/** One entry of the tensor table; `position` is still relative to the start of the data. */
async function readEntry(reader: ByteReader, index: number): Promise<GgufTensorEntry> {
  const file = reader.source.name;
  const name = await readName(reader, `the name of tensor ${index}`);
  const what = `tensor "${name}"`;
  await reader.ensure(4, `the number of dimensions of ${what}`);
  const nDimensions = reader.u32();
  if (nDimensions > MAX_DIMENSIONS) {
    throw new FormatError(
      `${file}: ${what} has ${nDimensions} dimensions, but GGUF has at most ${MAX_DIMENSIONS}, before byte ` +
        `${reader.position}. The file is damaged: download it again.`,
    );
  }
  await reader.ensure(8 * nDimensions + 12, `the dimensions, type and offset of ${what}`);
  const announced = Array.from({ length: nDimensions }, () => reader.u64());
  const dtype = dtypeOf(reader.u32(), file, what);
  const dimensions = checkDimensions(reader, announced, dtype, what);
  const offset = reader.u64();
  if (offset > BigInt(reader.source.byteLength)) {
    throw new FormatError(
      `${file}: ${what} has the data offset ${offset.toString()}, but the file has ${reader.source.byteLength} ` +
        `bytes. It looks cut short: download it again and compare the size with the publisher's.`,
    );
  }
  const { blockElements, blockBytes } = DTYPES[dtype];
  const byteLength = (countElements(dimensions) / blockElements) * blockBytes;
  return { name, dtype, shape: shapeOf(dimensions), position: Number(offset), byteLength };
}

function dtypeOf(id: number, file: string, what: string): DType {
  const type = TENSOR_TYPES.get(id);
  if (type?.dtype) return type.dtype;
  const readable = [...TENSOR_TYPES.values()].filter(({ dtype }) => dtype !== null).map(({ label }) => label);
  throw new UnsupportedError(
    `${file}: ${what} is stored as ${type?.label ?? "an unknown type"} (ggml type ${id}), which is not read. ` +
      `Take another file of this model; types that are read: ${readable.join(", ")}.`,
  );
}

/** Dimensions as numbers, whose product is bounded by what the whole file could hold. */
function checkDimensions(
  reader: ByteReader,
  announced: readonly bigint[],
  dtype: DType,
  what: string,
): number[] {
  const { name, byteLength } = reader.source;
  const { blockElements, blockBytes } = DTYPES[dtype];
  const mostElements = Math.floor(byteLength / blockBytes) * blockElements;
  const dimensions: number[] = [];
  let nElements = 1;
  for (const dimension of announced) {
    // Compared as bigint first: a product with an inexact factor could pass by rounding.
    const isBounded = dimension > 0n && dimension <= BigInt(mostElements);
    nElements = isBounded ? nElements * Number(dimension) : Infinity;
    if (nElements > mostElements) {
      throw new FormatError(
        `${name}: ${what} has the dimensions [${announced.join(", ")}] in ${dtype}, but the file of ${byteLength} ` +
          `bytes holds 1 to ${mostElements} elements. It is damaged or cut short: download it again.`,
      );
    }
    dimensions.push(Number(dimension));
  }
  const rowElements = dimensions[0] ?? 1;
  if (rowElements % blockElements !== 0) {
    throw new FormatError(
      `${name}: ${what} has rows of ${rowElements} elements, but ${dtype} stores blocks of ${blockElements}. ` +
        `The file is damaged or was written by a faulty tool: convert it again.`,
    );
  }
  return dimensions;
}

/**
 * PyTorch order. Some writers keep the outermost dimensions of 1 that the source had (a vector as [C, 1, 1]), and ggml's
 * own tools drop them on the next copy: dropped here, so that a model has one set of shapes whoever wrote it.
 */
function shapeOf(dimensions: readonly number[]): number[] {
  let nDimensions = dimensions.length;
  while (nDimensions > 1 && dimensions[nDimensions - 1] === 1) nDimensions--;
  return dimensions.slice(0, nDimensions).reverse();
}

function alignmentOf(source: ByteSource, metadata: ReadonlyMap<string, MetadataValue>): number {
  const alignment = metadata.get("general.alignment") ?? DEFAULT_ALIGNMENT;
  if (typeof alignment === "number" && alignment >= 1 && Number.isInteger(Math.log2(alignment)))
    return alignment;
  throw new FormatError(
    `${source.name}: general.alignment should be a power of two, but is ${JSON.stringify(alignment, jsonBigint)}. ` +
      `The file is damaged: download it again.`,
  );
}

function jsonBigint(_key: string, value: unknown): unknown {
  return typeof value === "bigint" ? value.toString() : value;
}

/** Every tensor aligned, inside the file, named once, and on bytes of its own. */
function checkPlacement(
  source: ByteSource,
  tensors: readonly GgufTensorEntry[],
  alignment: number,
  dataStart: number,
): void {
  const names = new Set<string>();
  for (const { name, position, byteLength } of tensors) {
    if (names.has(name)) {
      throw new FormatError(
        `${source.name}: the tensor name "${name}" stands twice in the table. ` +
          `The file is damaged or was written by a faulty tool: convert it again.`,
      );
    }
    names.add(name);
    if ((position - dataStart) % alignment !== 0) {
      throw new FormatError(
        `${source.name}: tensor "${name}" has the data offset ${position - dataStart}, which is no multiple of the ` +
          `alignment ${alignment}. The file is damaged: download it again.`,
      );
    }
    if (position + byteLength > source.byteLength) {
      throw new FormatError(
        `${source.name}: tensor "${name}" needs bytes ${position} to ${position + byteLength}, but the file has ` +
          `${source.byteLength}. It looks cut short: download it again and compare the size with the publisher's.`,
      );
    }
  }
  const byPosition = tensors.toSorted((a, b) => a.position - b.position);
  for (let i = 1; i < byPosition.length; i++) {
    const previous = byPosition[i - 1]!;
    const next = byPosition[i]!;
    if (next.position < previous.position + previous.byteLength) {
      throw new FormatError(
        `${source.name}: tensors "${previous.name}" and "${next.name}" overlap: the first takes bytes ` +
          `${previous.position} to ${previous.position + previous.byteLength}, the second starts at ` +
          `${next.position}. The file is damaged: download it again.`,
      );
    }
  }
}
