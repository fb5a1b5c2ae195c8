// The directory of a zip archive, as torch.save writes them: stored entries only, zip64 beyond 4 GiB. Hides where an
// entry's bytes are. Format: PKWARE's APPNOTE.TXT, sections 4.3 and 4.5.3.
//
//   local header, name, extra, data  ...  central directory  [zip64 end, zip64 locator]  end record, comment
//
// Sizes in local headers may be zero (flag bit 3), so the central directory alone is believed. Local headers are read
// when an entry is, since over the network each is one more request.

import { ByteReader } from "../../core/byte-reader.ts";
import type { ByteSource } from "../../core/byte-source.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import { MAX_ZIP_ENTRIES } from "./limits.ts";

const LOCAL_SIGNATURE = 0x04034b50;
const CENTRAL_SIGNATURE = 0x02014b50;
const END_SIGNATURE = 0x06054b50;
const ZIP64_END_SIGNATURE = 0x06064b50;
const ZIP64_LOCATOR_SIGNATURE = 0x07064b50;

const LOCAL_BYTES = 30;
const CENTRAL_BYTES = 46;
const END_BYTES = 22;
const ZIP64_END_BYTES = 56;
const ZIP64_LOCATOR_BYTES = 20;
const MAX_COMMENT_BYTES = 0xffff;

const ZIP64_EXTRA_ID = 1;
/** A 32-bit field whose value stands in the zip64 extra field. */
const IN_ZIP64 = 0xffffffff;
const FLAG_ENCRYPTED = 1;
const METHOD_STORED = 0;

const DAMAGED = `It looks cut short or damaged: download it again and compare its size with the publisher's.`;

export interface ZipEntry {
  readonly name: string;
  /** Bytes of the data as they stand in the file. */
  readonly byteLength: number;
  /** Bytes after unpacking, the same for what is stored as it is. */
  readonly unpackedByteLength: number;
  readonly flags: number;
  readonly method: number;
  readonly headerOffset: number;
  readonly nameByteLength: number;
  /** Where the data must end at the latest: the next entry, or the directory. */
  readonly limit: number;
}

interface Directory {
  readonly offset: number;
  readonly byteLength: number;
  readonly nEntries: number;
}

/**
 * The entries of the archive, by name, in directory order. They lie inside the file and do not overlap.
 * @throws FormatError if the archive is cut short or damaged, or names an entry twice
 * @throws UnsupportedError for an archive split over several files
 */
export async function readZipEntries(source: ByteSource): Promise<ReadonlyMap<string, ZipEntry>> {
  const directory = await findDirectory(source);
  const reader = new ByteReader(source, directory.offset, directory.offset + directory.byteLength);
  const entries: Omit<ZipEntry, "limit">[] = [];
  for (let i = 0; i < directory.nEntries; i++) entries.push(await readCentralEntry(reader));

  const limits = limitsOf(entries, directory.offset, source.name);
  const byName = new Map<string, ZipEntry>();
  for (const [i, entry] of entries.entries()) {
    if (byName.has(entry.name)) {
      throw new FormatError(
        `${source.name}: the zip directory lists ${JSON.stringify(entry.name)} twice. ${DAMAGED}`,
      );
    }
    byName.set(entry.name, { ...entry, limit: limits[i]! });
  }
  return byName;
}

/**
 * Address of the entry's first byte, from its local header.
 * @throws FormatError if the header is damaged or leaves no room for the data
 * @throws UnsupportedError if the entry is compressed or encrypted after all
 */
export async function locateZipData(
  source: ByteSource,
  entry: ZipEntry,
  signal?: AbortSignal,
): Promise<number> {
  const header = new Uint8Array(LOCAL_BYTES + entry.nameByteLength);
  await source.read(entry.headerOffset, header, signal);
  const view = new DataView(header.buffer);
  const nameByteLength = view.getUint16(26, true);
  const name = decodeName(header.subarray(LOCAL_BYTES));
  if (
    view.getUint32(0, true) !== LOCAL_SIGNATURE ||
    nameByteLength !== entry.nameByteLength ||
    name !== entry.name
  ) {
    throw new FormatError(
      `${source.name}: expected the zip header of ${JSON.stringify(entry.name)} at byte ${entry.headerOffset}, but ` +
        `something else is there. ${DAMAGED}`,
    );
  }
  checkStored({ ...entry, flags: view.getUint16(6, true), method: view.getUint16(8, true) }, source.name);
  const dataOffset = entry.headerOffset + header.byteLength + view.getUint16(28, true);
  if (dataOffset + entry.byteLength > entry.limit) {
    throw new FormatError(
      `${source.name}: zip entry ${JSON.stringify(entry.name)} takes bytes ${dataOffset} to ` +
        `${dataOffset + entry.byteLength}, but must end by ${entry.limit}. ${DAMAGED}`,
    );
  }
  return dataOffset;
}

/** Reads the end record, and the zip64 one where there is one. */
async function findDirectory(source: ByteSource): Promise<Directory> {
  const tail = new Uint8Array(
    Math.min(source.byteLength, ZIP64_LOCATOR_BYTES + END_BYTES + MAX_COMMENT_BYTES),
  );
  const tailOffset = source.byteLength - tail.byteLength;
  await source.read(tailOffset, tail);
  const view = new DataView(tail.buffer);

  let end = tail.byteLength - END_BYTES;
  // The comment after the record runs to the end of the file; that tells it from the same four bytes elsewhere.
  while (
    end >= 0 &&
    !(
      view.getUint32(end, true) === END_SIGNATURE &&
      end + END_BYTES + view.getUint16(end + 20, true) === tail.byteLength
    )
  ) {
    end--;
  }
  if (end < 0)
    throw new FormatError(
      `${source.name}: the file begins like a zip archive, but has no end record. ${DAMAGED}`,
    );

  const locator = end - ZIP64_LOCATOR_BYTES;
  const isZip64 = locator >= 0 && view.getUint32(locator, true) === ZIP64_LOCATOR_SIGNATURE;
  const directory = isZip64
    ? await readZip64End(
        source,
        readOffset(view.getBigUint64(locator + 8, true), source),
        tailOffset + locator,
      )
    : {
        nDisks: view.getUint16(end + 4, true) + 1,
        nEntries: view.getUint16(end + 10, true),
        byteLength: view.getUint32(end + 12, true),
        offset: view.getUint32(end + 16, true),
        endOffset: tailOffset + end,
      };
  if (directory.nDisks !== 1) {
    throw new UnsupportedError(
      `${source.name}: the zip archive is split over ${directory.nDisks} files. Join them first.`,
    );
  }
  const { offset, byteLength, nEntries, endOffset } = directory;
  if (offset + byteLength > endOffset || nEntries * CENTRAL_BYTES > byteLength) {
    throw new FormatError(
      `${source.name}: the zip directory of ${nEntries} entries is given as ${byteLength} bytes from byte ${offset}, but ` +
        `must end by ${endOffset}. ${DAMAGED}`,
    );
  }
  if (nEntries > MAX_ZIP_ENTRIES) {
    throw new FormatError(
      `${source.name}: the zip directory lists ${nEntries} entries; at most ${MAX_ZIP_ENTRIES} are expected of a model. ` +
        `Save the weights alone with torch.save(model.state_dict(), "model.pth").`,
    );
  }
  return directory;
}

async function readZip64End(source: ByteSource, offset: number, limit: number) {
  const record = new Uint8Array(ZIP64_END_BYTES);
  const view = new DataView(record.buffer);
  if (offset + ZIP64_END_BYTES <= limit) await source.read(offset, record);
  if (view.getUint32(0, true) !== ZIP64_END_SIGNATURE) {
    throw new FormatError(
      `${source.name}: expected the zip64 end record at byte ${offset}, but it is not there. ${DAMAGED}`,
    );
  }
  return {
    nDisks: view.getUint32(16, true) + 1,
    nEntries: readOffset(view.getBigUint64(32, true), source),
    byteLength: readOffset(view.getBigUint64(40, true), source),
    offset: readOffset(view.getBigUint64(48, true), source),
    endOffset: offset,
  };
}

async function readCentralEntry(reader: ByteReader): Promise<Omit<ZipEntry, "limit">> {
  const { source, position } = reader;
  await reader.ensure(CENTRAL_BYTES, "an entry of the zip directory");
  const fixed = new DataView(reader.bytes(CENTRAL_BYTES).buffer);
  if (fixed.getUint32(0, true) !== CENTRAL_SIGNATURE) {
    throw new FormatError(
      `${source.name}: expected an entry of the zip directory at byte ${position}. ${DAMAGED}`,
    );
  }
  const nameByteLength = fixed.getUint16(28, true);
  const extraByteLength = fixed.getUint16(30, true);
  const commentByteLength = fixed.getUint16(32, true);
  await reader.ensure(nameByteLength + extraByteLength + commentByteLength, "an entry of the zip directory");
  const name = decodeName(reader.bytes(nameByteLength));
  const extra = reader.bytes(extraByteLength);
  reader.bytes(commentByteLength);

  const [unpackedByteLength, byteLength, headerOffset] = widen(
    [fixed.getUint32(24, true), fixed.getUint32(20, true), fixed.getUint32(42, true)],
    extra,
    `${source.name}: zip entry ${JSON.stringify(name)} at byte ${position}`,
  );
  return {
    name,
    nameByteLength,
    flags: fixed.getUint16(8, true),
    method: fixed.getUint16(10, true),
    byteLength: readOffset(byteLength, source),
    unpackedByteLength: Number(unpackedByteLength),
    headerOffset: readOffset(headerOffset, source),
  };
}

/** Replaces the fields that did not fit into 32 bits by those of the zip64 extra field, which lists only them. */
function widen(
  fields: readonly [number, number, number],
  extra: Uint8Array,
  where: string,
): [bigint, bigint, bigint] {
  const zip64 = findExtra(extra, ZIP64_EXTRA_ID);
  const view = new DataView(zip64.buffer, zip64.byteOffset, zip64.byteLength);
  let next = 0;
  const wide = (field: number): bigint => {
    if (field !== IN_ZIP64) return BigInt(field);
    if (next + 8 > zip64.byteLength)
      throw new FormatError(`${where}: its zip64 sizes are missing. ${DAMAGED}`);
    next += 8;
    return view.getBigUint64(next - 8, true);
  };
  return [wide(fields[0]), wide(fields[1]), wide(fields[2])];
}

/** The extra field with that id; empty if there is none. */
function findExtra(extra: Uint8Array, wantedId: number): Uint8Array {
  const view = new DataView(extra.buffer, extra.byteOffset, extra.byteLength);
  for (let at = 0; at + 4 <= extra.byteLength;) {
    const id = view.getUint16(at, true);
    const end = at + 4 + view.getUint16(at + 2, true);
    if (id === wantedId && end <= extra.byteLength) return extra.subarray(at + 4, end);
    at = end;
  }
  return extra.subarray(0, 0);
}

/**
 * Where each entry must end: at the header of the one behind it.
 * @throws FormatError if one cannot, whatever its local header says
 */
function limitsOf(
  entries: readonly Omit<ZipEntry, "limit">[],
  directoryOffset: number,
  sourceName: string,
): number[] {
  const limits = new Array<number>(entries.length).fill(0);
  const backwards = entries
    .map((_, i) => i)
    .sort((a, b) => entries[b]!.headerOffset - entries[a]!.headerOffset);
  let limit = directoryOffset;
  for (const i of backwards) {
    const { name, headerOffset, nameByteLength, byteLength } = entries[i]!;
    const end = headerOffset + LOCAL_BYTES + nameByteLength + byteLength;
    if (end > limit) {
      throw new FormatError(
        `${sourceName}: zip entry ${JSON.stringify(name)} takes bytes ${headerOffset} to ${end}, but the next begins at ` +
          `${limit}. ${DAMAGED}`,
      );
    }
    limits[i] = limit;
    limit = headerOffset;
  }
  return limits;
}

/**
 * Refuses what would have to be unpacked; this also keeps small archives from claiming large contents.
 * @throws UnsupportedError if the entry is compressed or encrypted
 * @throws FormatError if its two sizes differ all the same
 */
export function checkStored(entry: Omit<ZipEntry, "limit">, sourceName: string): void {
  const isStored = entry.method === METHOD_STORED;
  const isEncrypted = (entry.flags & FLAG_ENCRYPTED) !== 0;
  if (!isStored || isEncrypted) {
    throw new UnsupportedError(
      `${sourceName}: zip entry ${JSON.stringify(entry.name)} is ` +
        `${isStored ? "encrypted" : `compressed by method ${entry.method}`}; torch.save stores entries as they are. If ` +
        `this is an archive around a model, unpack it; otherwise save the model again with torch.save.`,
    );
  }
  if (entry.byteLength !== entry.unpackedByteLength) {
    throw new FormatError(
      `${sourceName}: zip entry ${JSON.stringify(entry.name)} is stored as it is, but its sizes are ` +
        `${entry.unpackedByteLength} and ${entry.byteLength} bytes. ${DAMAGED}`,
    );
  }
}

/** A 64-bit size or address as a number; one past the file is as good as any other that is too large. */
function readOffset(value: bigint, source: ByteSource): number {
  if (value <= BigInt(source.byteLength)) return Number(value);
  throw new FormatError(
    `${source.name}: the zip archive mentions byte ${value}, but the file has ${source.byteLength}. ${DAMAGED}`,
  );
}

/** Names that are not UTF-8 occur in folders named in other encodings; only the part after the folder matters. */
function decodeName(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes);
}
