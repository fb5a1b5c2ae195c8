// Makes small .pth files for tests, byte by byte, in both containers: what torch.save writes and what it never would.

import { DTYPES } from "../../core/dtype.ts";
import type { StorageDType } from "./pickle-values.ts";
import { OP } from "./unpickler.ts";

const encoder = new TextEncoder();

function littleEndian(value: bigint, byteLength: number): number[] {
  const bytes: number[] = [];
  for (let i = 0; i < byteLength; i++) bytes.push(Number((value >> BigInt(8 * i)) & 255n));
  return bytes;
}

function u32(value: number): number[] {
  return littleEndian(BigInt(value), 4);
}

/** Pieces of pickle; each is the bytes of one or more opcodes. */
export type Pickle = readonly number[];

export const STORAGE_CLASS: Readonly<Record<StorageDType, string>> = {
  bf16: "BFloat16Storage",
  f16: "HalfStorage",
  f32: "FloatStorage",
  f64: "DoubleStorage",
  i64: "LongStorage",
  i32: "IntStorage",
  i16: "ShortStorage",
  i8: "CharStorage",
  u8: "ByteStorage",
  bool: "BoolStorage",
};

export function text(value: string): Pickle {
  const bytes = encoder.encode(value);
  return [OP.BINUNICODE, ...u32(bytes.byteLength), ...bytes];
}

/** BININT1, BININT2, BININT or LONG1, whichever is the shortest, as Python does. */
export function int(value: number | bigint): Pickle {
  const big = BigInt(value);
  if (big >= 0n && big < 256n) return [OP.BININT1, Number(big)];
  if (big >= 0n && big < 65536n) return [OP.BININT2, ...littleEndian(big, 2)];
  if (BigInt.asIntN(32, big) === big) return [OP.BININT, ...littleEndian(big, 4)];
  let byteLength = 5;
  while (BigInt.asIntN(8 * byteLength, big) !== big) byteLength++;
  return [OP.LONG1, byteLength, ...littleEndian(big, byteLength)];
}

export function tuple(...items: readonly Pickle[]): Pickle {
  if (items.length === 0) return [OP.EMPTY_TUPLE];
  const short = [OP.TUPLE1, OP.TUPLE2, OP.TUPLE3][items.length - 1];
  return short === undefined ? [OP.MARK, ...items.flat(), OP.TUPLE] : [...items.flat(), short];
}

export function list(...items: readonly Pickle[]): Pickle {
  return [OP.EMPTY_LIST, OP.MARK, ...items.flat(), OP.APPENDS];
}

export function dict(entries: Readonly<Record<string, Pickle>>): Pickle {
  return [OP.EMPTY_DICT, ...setItems(entries)];
}

export function setItems(entries: Readonly<Record<string, Pickle>>): Pickle {
  return [
    OP.MARK,
    ...Object.entries(entries).flatMap(([key, value]) => [...text(key), ...value]),
    OP.SETITEMS,
  ];
}

export function global(module: string, name: string): Pickle {
  return [OP.GLOBAL, ...encoder.encode(`${module}\n${name}\n`)];
}

export function call(module: string, name: string, ...args: readonly Pickle[]): Pickle {
  return [...global(module, name), ...tuple(...args), OP.REDUCE];
}

/** A whole pickle around one value. */
export function pickle(value: Pickle, protocol = 2): Uint8Array<ArrayBuffer> {
  return Uint8Array.from([OP.PROTO, protocol, ...value, OP.STOP]);
}

export interface TensorSpec {
  /** Storage key. */
  readonly key: string;
  readonly dtype: StorageDType;
  /** Elements of the whole storage. */
  readonly nStored: number;
  readonly offset?: number;
  readonly shape: readonly number[];
  /** Row-major where left out. */
  readonly strides?: readonly number[];
  /** Legacy files: the part of the storage that the tensor's own storage is. */
  readonly view?: { readonly key: string; readonly start: number; readonly nElements: number };
}

export function rowMajor(shape: readonly number[]): number[] {
  const strides: number[] = [];
  let stride = 1;
  for (const dimension of shape.toReversed()) {
    strides.unshift(stride);
    stride *= Math.max(1, dimension);
  }
  return strides;
}

export function storage(spec: Omit<TensorSpec, "shape">, isLegacy = false): Pickle {
  const items = [
    text("storage"),
    global("torch", STORAGE_CLASS[spec.dtype]),
    text(spec.key),
    text("cpu"),
    int(spec.nStored),
  ];
  const view = spec.view;
  if (isLegacy)
    items.push(view === undefined ? [OP.NONE] : tuple(text(view.key), int(view.start), int(view.nElements)));
  return [...tuple(...items), OP.BINPERSID];
}

export function tensor(spec: TensorSpec, isLegacy = false): Pickle {
  return call(
    "torch._utils",
    "_rebuild_tensor_v2",
    storage(spec, isLegacy),
    int(spec.offset ?? 0),
    tuple(...spec.shape.map(int)),
    tuple(...(spec.strides ?? rowMajor(spec.shape)).map(int)),
    [OP.NEWFALSE],
    call("collections", "OrderedDict"),
  );
}

export interface ZipFile {
  readonly name: string;
  readonly bytes: Uint8Array;
  /** Overrides of what the headers say, to make damaged archives. */
  readonly method?: number;
  readonly flags?: number;
  readonly claimedBytes?: number;
  readonly claimedUnpackedBytes?: number;
  readonly localName?: string;
  readonly headerOffset?: number;
}

export interface ZipOptions {
  /** Puts all sizes and addresses into zip64 fields. */
  readonly isZip64?: boolean;
  readonly comment?: string;
  /** Added to the number of entries that the end record gives. */
  readonly extraEntries?: number;
}

export interface ZipParts {
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** Where each file's data begins. */
  readonly dataOffsets: readonly number[];
  readonly directoryOffset: number;
}

/** A stored archive in torch.save's manner: no sizes in local headers, data on 64-byte boundaries. */
export function zip(files: readonly ZipFile[], options: ZipOptions = {}): ZipParts {
  const parts: Uint8Array[] = [];
  let byteLength = 0;
  const put = (...bytes: readonly (Uint8Array | readonly number[])[]): void => {
    for (const piece of bytes) {
      parts.push(Uint8Array.from(piece));
      byteLength += piece.length;
    }
  };
  const u16 = (value: number) => littleEndian(BigInt(value), 2);
  const u64 = (value: number) => littleEndian(BigInt(value), 8);

  const headerOffsets: number[] = [];
  const dataOffsets: number[] = [];
  for (const file of files) {
    headerOffsets.push(byteLength);
    const name = encoder.encode(file.localName ?? file.name);
    const paddingBytes = (64 - ((byteLength + 30 + name.length + 4) % 64)) % 64;
    put(u32(0x04034b50), u16(0), u16(file.flags ?? 8), u16(file.method ?? 0), new Uint8Array(16));
    put(u16(name.length), u16(4 + paddingBytes), name);
    put([0x46, 0x42], u16(paddingBytes), new Uint8Array(paddingBytes).fill(0x5a));
    dataOffsets.push(byteLength);
    put(file.bytes);
  }

  const directoryOffset = byteLength;
  for (const [i, file] of files.entries()) {
    const name = encoder.encode(file.name);
    const packed = file.claimedBytes ?? file.bytes.byteLength;
    const unpacked = file.claimedUnpackedBytes ?? packed;
    const headerOffset = file.headerOffset ?? headerOffsets[i]!;
    const extra = options.isZip64
      ? [...u16(1), ...u16(24), ...u64(unpacked), ...u64(packed), ...u64(headerOffset)]
      : [];
    const field = (value: number) => u32(options.isZip64 ? 0xffffffff : value);
    put(u32(0x02014b50), u16(0), u16(0), u16(file.flags ?? 8), u16(file.method ?? 0), new Uint8Array(8));
    put(field(packed), field(unpacked), u16(name.length), u16(extra.length), u16(0), u16(0), u16(0), u32(0));
    put(field(headerOffset), name, extra);
  }

  const directoryBytes = byteLength - directoryOffset;
  const nEntries = files.length + (options.extraEntries ?? 0);
  const endOffset = byteLength;
  if (options.isZip64) {
    put(u32(0x06064b50), u64(44), u16(0), u16(0), u32(0), u32(0), u64(nEntries), u64(nEntries));
    put(u64(directoryBytes), u64(directoryOffset));
    put(u32(0x07064b50), u32(0), u64(endOffset), u32(1));
  }
  const comment = encoder.encode(options.comment ?? "");
  const short = (value: number) => u16(options.isZip64 ? 0xffff : value);
  const long = (value: number) => u32(options.isZip64 ? 0xffffffff : value);
  put(u32(0x06054b50), u16(0), u16(0), short(nEntries), short(nEntries));
  put(long(directoryBytes), long(directoryOffset), u16(comment.length), comment);

  const bytes = new Uint8Array(byteLength);
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.byteLength;
  }
  return { bytes, dataOffsets, directoryOffset };
}

/** The zip files of a checkpoint: `data.pkl` around `top`, and the storages by key. */
export function archiveFiles(
  top: Pickle,
  storages: Readonly<Record<string, Uint8Array>>,
  protocol = 2,
): ZipFile[] {
  return [
    { name: "model/data.pkl", bytes: pickle(top, protocol) },
    ...Object.entries(storages).map(([key, bytes]) => ({ name: `model/data/${key}`, bytes })),
    { name: "model/version", bytes: encoder.encode("3\n") },
  ];
}

export function archive(
  top: Pickle,
  storages: Readonly<Record<string, Uint8Array>>,
): Uint8Array<ArrayBuffer> {
  return zip(archiveFiles(top, storages)).bytes;
}

export interface LegacyStorage {
  readonly key: string;
  readonly dtype: StorageDType;
  readonly bytes: Uint8Array;
}

/** A file in the form before PyTorch 1.6; any of the five pickles may be replaced by `pickles`. */
export function legacy(
  top: Pickle,
  storages: readonly LegacyStorage[],
  pickles: Readonly<Record<number, Pickle>> = {},
): Uint8Array<ArrayBuffer> {
  const system = dict({ protocol_version: int(1001), little_endian: [OP.NEWTRUE] });
  const keys = list(...storages.map(({ key }) => text(key)));
  const parts = [int(0x1950a86a20f9469cfc6cn), int(1001), system, top, keys].map((value, i) =>
    pickle(pickles[i] ?? value),
  );
  const bytes = parts.flatMap((part) => [...part]);
  for (const { dtype, bytes: stored } of storages) {
    bytes.push(...littleEndian(BigInt(stored.byteLength / DTYPES[dtype].blockBytes), 8), ...stored);
  }
  return Uint8Array.from(bytes);
}
