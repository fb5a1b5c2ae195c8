// Writes a zip archive as torch.save does: every entry stored, its data on a 64-byte boundary, zip64 fields where 32 bits do
// not suffice. An entry's checksum goes before its data, so the data must be there whole. zip.ts reads it back.

import type { ByteSink } from "../../core/byte-sink.ts";
import { writeInPieces } from "../writing.ts";
import { crc32 } from "./crc32.ts";

/** What data begins at a multiple of, for programs that map the file. */
const ALIGNMENT = 64;
/** Values from here on stand in a zip64 field. */
const MAX_U32 = 0xffffffff;
const MAX_U16 = 0xffff;
/** Versions of the format that a reader must know: stored entries, and zip64. */
const VERSION_PLAIN = 10;
const VERSION_ZIP64 = 45;
/** 1 January 1980, the first day that zip can say: the same tensors give the same file. */
const DATE = (1 << 5) | 1;
/** The extra field by which PyTorch pads. */
const PADDING_ID = 0x4246;
const PADDING_BYTE = 0x5a;

/** An entry that was written. */
export interface WrittenEntry {
  /** ASCII. */
  readonly name: string;
  readonly crc: number;
  readonly byteLength: number;
  readonly headerOffset: number;
}

export class ZipWriter {
  readonly #sink: ByteSink;
  readonly #entries: WrittenEntry[] = [];
  #offset = 0;

  constructor(sink: ByteSink) {
    this.#sink = sink;
  }

  async add(name: string, bytes: Uint8Array): Promise<void> {
    const { byteLength } = bytes;
    const entry = { name, crc: crc32(bytes), byteLength, headerOffset: this.#offset };
    const header = localHeader(entry);
    await this.#sink.write(header);
    await writeInPieces(this.#sink, bytes);
    this.#offset += header.byteLength + byteLength;
    this.#entries.push(entry);
  }

  /** Writes the directory; nothing may be added afterwards. */
  async finish(): Promise<void> {
    await this.#sink.write(directoryOf(this.#entries, this.#offset));
  }
}

/** The header before an entry's data, which begins at a multiple of ALIGNMENT. */
export function localHeader({ name, crc, byteLength, headerOffset }: WrittenEntry): Uint8Array {
  const isLarge = byteLength >= MAX_U32;
  const zip64 = isLarge ? [...u16(1), ...u16(16), ...u64(byteLength), ...u64(byteLength)] : [];
  const unpadded = headerOffset + 30 + name.length + zip64.length + 4;
  const nPadding = Math.ceil(unpadded / ALIGNMENT) * ALIGNMENT - unpadded;
  return Uint8Array.from([
    ...u32(0x04034b50),
    ...u16(isLarge ? VERSION_ZIP64 : VERSION_PLAIN),
    ...u16(0), // flags
    ...u16(0), // stored
    ...u16(0), // time
    ...u16(DATE),
    ...u32(crc),
    ...u32(isLarge ? MAX_U32 : byteLength),
    ...u32(isLarge ? MAX_U32 : byteLength),
    ...u16(name.length),
    ...u16(zip64.length + 4 + nPadding),
    ...ascii(name),
    ...zip64,
    ...u16(PADDING_ID),
    ...u16(nPadding),
    ...new Array<number>(nPadding).fill(PADDING_BYTE),
  ]);
}

/**
 * The central directory and the records that end the archive.
 * @param offset - where the directory begins
 */
export function directoryOf(entries: readonly WrittenEntry[], offset: number): Uint8Array {
  const directory = entries.flatMap(centralHeader);
  const byteLength = directory.length;
  const nEntries = entries.length;
  const isZip64 = nEntries >= MAX_U16 || byteLength >= MAX_U32 || offset >= MAX_U32;
  const zip64 = [
    ...u32(0x06064b50),
    ...u64(44), // bytes of this record that follow
    ...u16(VERSION_ZIP64),
    ...u16(VERSION_ZIP64),
    ...u32(0),
    ...u32(0),
    ...u64(nEntries),
    ...u64(nEntries),
    ...u64(byteLength),
    ...u64(offset),
    ...u32(0x07064b50), // its locator
    ...u32(0),
    ...u64(offset + byteLength),
    ...u32(1),
  ];
  return Uint8Array.from([
    ...directory,
    ...(isZip64 ? zip64 : []),
    ...u32(0x06054b50),
    ...u16(0),
    ...u16(0),
    ...u16(isZip64 ? MAX_U16 : nEntries),
    ...u16(isZip64 ? MAX_U16 : nEntries),
    ...u32(isZip64 ? MAX_U32 : byteLength),
    ...u32(isZip64 ? MAX_U32 : offset),
    ...u16(0), // comment
  ]);
}

function centralHeader({ name, crc, byteLength, headerOffset }: WrittenEntry): number[] {
  const isLarge = byteLength >= MAX_U32;
  const isFar = headerOffset >= MAX_U32;
  const values = [...(isLarge ? [byteLength, byteLength] : []), ...(isFar ? [headerOffset] : [])];
  const extra = values.length === 0 ? [] : [...u16(1), ...u16(8 * values.length), ...values.flatMap(u64)];
  return [
    ...u32(0x02014b50),
    ...u16(VERSION_ZIP64), // made by
    ...u16(extra.length > 0 ? VERSION_ZIP64 : VERSION_PLAIN),
    ...u16(0), // flags
    ...u16(0), // stored
    ...u16(0), // time
    ...u16(DATE),
    ...u32(crc),
    ...u32(isLarge ? MAX_U32 : byteLength),
    ...u32(isLarge ? MAX_U32 : byteLength),
    ...u16(name.length),
    ...u16(extra.length),
    ...u16(0), // comment
    ...u16(0), // disk
    ...u16(0), // attributes inside
    ...u32(0), // and outside
    ...u32(isFar ? MAX_U32 : headerOffset),
    ...ascii(name),
    ...extra,
  ];
}

function ascii(text: string): number[] {
  return Array.from(text, (character) => character.charCodeAt(0));
}

function u16(value: number): number[] {
  return [value & 255, (value >>> 8) & 255];
}

function u32(value: number): number[] {
  return [...u16(value & 0xffff), ...u16(value >>> 16)];
}

function u64(value: number): number[] {
  return [...u32(value % 2 ** 32), ...u32(Math.floor(value / 2 ** 32))];
}
