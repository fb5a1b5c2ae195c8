// Reads what GGUF headers are made of: counts, strings and typed metadata values. Whatever a count announces is bounded
// by the bytes left in the file and by HEADER_LIMIT_BYTES before anything of its size exists.

import type { ByteReader } from "../../core/byte-reader.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import type { MetadataValue } from "../checkpoint.ts";
import { VALUE_MIN_BYTES, VALUE_TYPES, type GgufValueType } from "./types.ts";

/** Metadata and tensor table together; vocabularies of 256,000 tokens with merges stay below a third of this. */
const HEADER_LIMIT_BYTES = 32 * 2 ** 20;

/** Arrays within arrays; none of the published keys goes beyond 1. */
const MAX_NESTED_ARRAYS = 8;

const MAX_NAME_BYTES = 65535;

/** Elements of fixed width that are brought into the reader's window at a time. */
const PIECE_ELEMENTS = 4096;

// A byte order mark is a token like any other. Invalid UTF-8, which some vocabularies hold, becomes U+FFFD.
const utf8 = new TextDecoder("utf-8", { ignoreBOM: true });

/**
 * Takes a u64 that announces `minBytes` bytes or more per item. Its 8 bytes need not have been ensured.
 * @throws FormatError if that many items cannot follow in the file
 * @throws UnsupportedError if they would make a header beyond any that is known
 */
export async function readCount(reader: ByteReader, minBytes: number, what: string): Promise<number> {
  await reader.ensure(8, what);
  const position = reader.position;
  const announced = reader.u64();
  const most = Math.floor(reader.remaining / minBytes);
  if (announced > BigInt(most)) {
    throw new FormatError(
      `${reader.source.name}: ${what} at byte ${position} is ${announced.toString()}, but the ${reader.remaining} ` +
        `bytes that follow hold at most ${most}. The file is damaged or cut short: download it again.`,
    );
  }
  const count = Number(announced);
  if (reader.position + count * minBytes > HEADER_LIMIT_BYTES) {
    throw new UnsupportedError(
      `${reader.source.name}: ${what} at byte ${position} is ${count}, which makes the header longer than ` +
        `${HEADER_LIMIT_BYTES} bytes. Check that this is a language model in GGUF.`,
    );
  }
  return count;
}

/** A string of u64 length and UTF-8 bytes. */
export async function readString(reader: ByteReader, what: string): Promise<string> {
  const byteLength = await readCount(reader, 1, `the length of ${what}`);
  await reader.ensure(byteLength, what);
  return reader.text(byteLength, utf8);
}

/** The next string if the reader's window holds all of it, else null: a promise for each token of a vocabulary is slow. */
function bufferedString(reader: ByteReader): string | null {
  const { available, position } = reader;
  if (available < 8) return null;
  const byteLength = reader.u32();
  const isShort = reader.u32() === 0; // the high half of the length
  if (isShort && byteLength <= available - 8) return reader.text(byteLength, utf8);
  reader.seek(position, "a string");
  return null;
}

/** A key or a tensor's name: a string of at most 65,535 bytes, the format's own limit for keys. */
export async function readName(reader: ByteReader, what: string): Promise<string> {
  const { position } = reader;
  const name = await readString(reader, what);
  const byteLength = reader.position - position - 8;
  if (byteLength <= MAX_NAME_BYTES) return name;
  throw new FormatError(
    `${reader.source.name}: ${what} at byte ${position} has ${byteLength} bytes, but a name has at most ` +
      `${MAX_NAME_BYTES}. The file is damaged: download it again.`,
  );
}

type FixedWidthType = Exclude<GgufValueType, "string" | "array">;

/** A 64-bit integer: a number where that is exact, else a bigint. */
function exactInteger(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}

const FIXED_WIDTH_READERS: Readonly<Record<FixedWidthType, (reader: ByteReader) => MetadataValue>> = {
  u8: (reader) => reader.u8(),
  i8: (reader) => (reader.u8() << 24) >> 24,
  u16: (reader) => reader.u16(),
  i16: (reader) => (reader.u16() << 16) >> 16,
  u32: (reader) => reader.u32(),
  i32: (reader) => reader.i32(),
  f32: (reader) => reader.f32(),
  bool: (reader) => reader.u8() !== 0,
  u64: (reader) => exactInteger(reader.u64()),
  i64: (reader) => exactInteger(reader.i64()),
  f64: (reader) => reader.f64(),
};

async function readValueType(reader: ByteReader, what: string): Promise<GgufValueType> {
  await reader.ensure(4, `the type of ${what}`);
  const position = reader.position;
  const id = reader.u32();
  const type = VALUE_TYPES[id];
  if (type !== undefined) return type;
  throw new FormatError(
    `${reader.source.name}: ${what} has the value type ${id} at byte ${position}, but the types are 0 to ` +
      `${VALUE_TYPES.length - 1}. The file is damaged: download it again.`,
  );
}

async function readArray(reader: ByteReader, what: string, depth: number): Promise<MetadataValue[]> {
  if (depth > MAX_NESTED_ARRAYS) {
    throw new UnsupportedError(
      `${reader.source.name}: ${what} holds arrays within arrays beyond a depth of ${MAX_NESTED_ARRAYS}, at byte ` +
        `${reader.position}. The file is damaged or not a language model.`,
    );
  }
  const elementType = await readValueType(reader, `the elements of ${what}`);
  const minBytes = VALUE_MIN_BYTES[elementType];
  const count = await readCount(reader, minBytes, `the number of elements of ${what}`);
  const elements: MetadataValue[] = [];
  if (elementType === "string") {
    const element = `an element of ${what}`;
    for (let i = 0; i < count; i++)
      elements.push(bufferedString(reader) ?? (await readString(reader, element)));
  } else if (elementType === "array") {
    for (let i = 0; i < count; i++) elements.push(await readArray(reader, what, depth + 1));
  } else {
    const read = FIXED_WIDTH_READERS[elementType];
    while (elements.length < count) {
      const nPiece = Math.min(count - elements.length, PIECE_ELEMENTS);
      await reader.ensure(nPiece * minBytes, what);
      for (let i = 0; i < nPiece; i++) elements.push(read(reader));
    }
  }
  return elements;
}

/** A metadata value with its type in front, as it follows a key. */
export async function readTypedValue(reader: ByteReader, what: string): Promise<MetadataValue> {
  const type = await readValueType(reader, what);
  if (type === "string") return readString(reader, what);
  if (type === "array") return readArray(reader, what, 1);
  await reader.ensure(VALUE_MIN_BYTES[type], what);
  return FIXED_WIDTH_READERS[type](reader);
}
