// Random access to the bytes of a checkpoint, wherever they are: a buffer, a Blob or File, an open file handle, a
// web server that answers range requests. Parsers know only this interface, so that each works on all of them.

import { FormatError } from "./errors.ts";

/** Bytes at fixed addresses. Reads may overlap and run at the same time. */
export interface ByteSource {
  /** What messages call it: a path, a file name or an address. */
  readonly name: string;
  /** Total number of bytes, known before the first read. */
  readonly byteLength: number;
  /**
   * Fills `target` with the bytes from `offset` on.
   * @throws FormatError if `offset + target.byteLength` lies past the end
   */
  read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** The file that the bytes are, where they are one of this machine. */
  readonly file?: LocalFile | undefined;
  /** Releases what lies underneath; reads fail afterwards. May be called more than once. */
  close(): Promise<void>;
}

/** A file of this machine, for what its bytes serve beside being read in order: to be mapped, or looked up row by row. */
export interface LocalFile {
  /** The system's number of the open file, valid until its source is closed. */
  readonly descriptor: number;
  readonly byteLength: number;
  /**
   * Opens the file once more, to be read beyond the source's end.
   * @throws FormatError if it was replaced or changed meanwhile
   */
  openRows(): RowReader;
}

/** Reads small pieces of a file without waiting. */
export interface RowReader {
  /**
   * Fills `target` with the bytes from `offset` on.
   * @throws FormatError if the file was changed meanwhile, DeviceError if the system fails, UsageError after `close`
   */
  read(offset: number, target: Uint8Array): void;
  /** May be called more than once. */
  close(): void;
}

/** Fills `target` with the bytes from `offset` on. */
export type ReadPart = (offset: number, target: Uint8Array, signal?: AbortSignal) => Promise<void>;

/** A handle of a file: of the origin private file system, or of a file that a person has picked. */
export interface FileHandle {
  readonly name: string;
  /** The file as it is now. */
  getFile(): Promise<Blob>;
}

/** Where bytes lie in a file of this machine. */
export interface FilePlace {
  readonly file: LocalFile;
  readonly offset: number;
}

/** @throws FormatError naming the source and the missing range */
export function checkRange(source: ByteSource, offset: number, byteLength: number): void {
  if (offset >= 0 && offset + byteLength <= source.byteLength) return;
  throw new FormatError(
    `${source.name}: bytes ${String(offset)} to ${String(offset + byteLength)} are needed, but the file has ` +
      `${String(source.byteLength)}. It looks cut short: download it again and compare the size with the publisher's.`,
  );
}

/** A source over bytes already in memory; they are not copied. */
export function bytesSource(bytes: Uint8Array, name = "bytes"): ByteSource {
  const source: ByteSource = {
    name,
    byteLength: bytes.byteLength,
    // eslint-disable-next-line @typescript-eslint/require-await -- async turns the range error into a rejection
    async read(offset, target) {
      checkRange(source, offset, target.byteLength);
      target.set(bytes.subarray(offset, offset + target.byteLength));
    },
    close: () => Promise.resolve(),
  };
  return source;
}

/** Most bytes one `Blob.slice` read holds beside its target. */
const BLOB_PIECE_BYTES = 16 * 2 ** 20;

/** A source over a `Blob` or `File`; only the slices asked for are read. */
export function blobSource(blob: Blob, name = "name" in blob ? String(blob.name) : "blob"): ByteSource {
  const source: ByteSource = {
    name,
    byteLength: blob.size,
    async read(offset, target, signal) {
      checkRange(source, offset, target.byteLength);
      for (let done = 0; done < target.byteLength; done += BLOB_PIECE_BYTES) {
        signal?.throwIfAborted();
        const end = Math.min(done + BLOB_PIECE_BYTES, target.byteLength);
        const piece = await blob.slice(offset + done, offset + end).arrayBuffer();
        target.set(new Uint8Array(piece), done);
      }
    },
    close: () => Promise.resolve(),
  };
  return source;
}
