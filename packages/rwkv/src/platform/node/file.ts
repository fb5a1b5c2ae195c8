// Files of the local disk: reading at any offset, and replacing a file in one step. Hides the handles, the system's
// error codes, and the temporary file that makes a replacement all or nothing.

import { randomBytes } from "node:crypto";
import { constants, readSync, type Stats } from "node:fs";
import { open, realpath, rename, stat, unlink, type FileHandle } from "node:fs/promises";
import { dirname, join } from "node:path";
import type { ByteSink } from "../../core/byte-sink.ts";
import { checkRange, type ByteSource, type LocalFile } from "../../core/byte-source.ts";
import { DeviceError, FormatError, systemError, UsageError } from "../../core/errors.ts";
import { codeOf, describe, explain } from "./file-errors.ts";
import { openRows } from "./row-file.ts";

/** Most bytes of one system call: below the limit of 2^31 - 1, and short enough to notice an abort between two. */
const PIECE_BYTES = 64 * 2 ** 20;

/**
 * Files are written in pieces of so many bytes, each at a multiple of them: two huge pages of most systems. What is written
 * in smaller pieces, or across such multiples, Linux keeps in small pages, also when the file is mapped later.
 */
const BUFFER_BYTES = 4 * 2 ** 20;

/** Up to so many bytes are read at once: a model has hundreds of vectors, and each promise costs more than such a read. */
const SMALL_READ_BYTES = 64 * 2 ** 10;

/**
 * Opens a file for reading.
 * @throws UsageError if it does not exist, is no regular file, or may not be read
 * @throws DeviceError if the system fails in another way
 */
export async function fileSource(path: string): Promise<ByteSource> {
  try {
    // Before opening: to open a named pipe would wait for its writer for ever.
    checkRegular(path, await stat(path));
    const handle = await open(path, "r");
    try {
      const stats = await handle.stat();
      checkRegular(path, stats);
      return new FileSource(path, handle, stats);
    } catch (error) {
      await handle.close();
      throw error;
    }
  } catch (error) {
    throw explain(error, path, "read");
  }
}

class FileSource implements ByteSource {
  readonly name: string;
  readonly byteLength: number;
  readonly file: LocalFile;
  readonly #handle: FileHandle;
  #closed: Promise<void> | null = null;

  constructor(path: string, handle: FileHandle, stats: Stats) {
    this.name = path;
    this.byteLength = stats.size;
    this.file = { descriptor: handle.fd, byteLength: stats.size, openRows: () => openRows(path, stats) };
    this.#handle = handle;
  }

  async read(offset: number, target: Uint8Array, signal?: AbortSignal): Promise<void> {
    checkRange(this, offset, target.byteLength);
    let done = 0;
    while (done < target.byteLength) {
      signal?.throwIfAborted();
      const wanted = Math.min(PIECE_BYTES, target.byteLength - done);
      const bytesRead = await this.#readPiece(target, done, wanted, offset + done);
      if (bytesRead === 0) {
        throw new FormatError(
          `${this.name}: the file had ${this.byteLength} bytes when it was opened, but now ends at ${offset + done}. ` +
            `Another program is changing it: wait until that has finished, then open it again.`,
        );
      }
      done += bytesRead;
    }
  }

  async #readPiece(target: Uint8Array, at: number, wanted: number, position: number): Promise<number> {
    if (this.#closed !== null) throw new UsageError(`${this.name} was closed and cannot be read any more.`);
    try {
      if (wanted <= SMALL_READ_BYTES) return readSync(this.#handle.fd, target, at, wanted, position);
      return (await this.#handle.read(target, at, wanted, position)).bytesRead;
    } catch (error) {
      throw explain(error, this.name, "read");
    }
  }

  close(): Promise<void> {
    this.#closed ??= this.#handle.close();
    return this.#closed;
  }
}

/** A file that appears under its name only once it is complete. */
export interface AtomicFile extends ByteSink {
  /**
   * Makes what was written durable and gives it its name; a file of that name is replaced. Once.
   * @throws DeviceError if the system fails; nothing was replaced, and nothing is left behind
   */
  commit(): Promise<void>;
  /** Removes what was written. Does nothing after `commit` or a failure, so that it can stand in a `finally`. */
  discard(): Promise<void>;
}

/**
 * Starts a file that will be called `path`. Until `commit`, the bytes are in a hidden file in the same folder, and a
 * file that is already at `path` stays as it is. A link is followed; the mode of a replaced file is kept.
 * @throws UsageError if the folder does not exist or may not be written, or `path` is a folder or device
 * @throws DeviceError if the system fails in another way
 */
export async function atomicFile(path: string): Promise<AtomicFile> {
  try {
    const existing = await statIfThere(path);
    if (existing !== null) checkRegular(path, existing);
    const target = existing === null ? path : await realpath(path);
    const temporary = join(dirname(target), `.rwkv-${randomBytes(8).toString("hex")}.partial`);
    const handle = await open(temporary, constants.O_WRONLY | constants.O_CREAT | constants.O_EXCL);
    const file = new TemporaryFile(target, temporary, handle);
    if (existing !== null) await file.takeMode(existing.mode);
    return file;
  } catch (error) {
    throw explain(error, path, "write");
  }
}

class TemporaryFile implements AtomicFile {
  readonly #path: string;
  readonly #temporary: string;
  readonly #handle: FileHandle;
  /** What comes before the next multiple of `BUFFER_BYTES`. */
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #nBuffered = 0;
  #bytesWritten = 0;
  #isOpen = true;

  constructor(path: string, temporary: string, handle: FileHandle) {
    this.#path = path;
    this.#temporary = temporary;
    this.#handle = handle;
  }

  async takeMode(mode: number): Promise<void> {
    await this.#attempt(() => this.#handle.chmod(mode & 0o777));
  }

  async write(bytes: Uint8Array): Promise<void> {
    this.#checkOpen();
    await this.#attempt(async () => {
      for (let done = 0; done < bytes.byteLength;) {
        const nTaken = Math.min(BUFFER_BYTES - this.#nBuffered, bytes.byteLength - done);
        this.#buffer.set(bytes.subarray(done, done + nTaken), this.#nBuffered);
        this.#nBuffered += nTaken;
        done += nTaken;
        if (this.#nBuffered === BUFFER_BYTES) await this.#flush();
      }
    });
  }

  async #flush(): Promise<void> {
    for (let done = 0; done < this.#nBuffered;) {
      const { bytesWritten } = await this.#handle.write(this.#buffer, done, this.#nBuffered - done);
      done += bytesWritten;
      this.#bytesWritten += bytesWritten;
    }
    this.#nBuffered = 0;
  }

  async commit(): Promise<void> {
    this.#checkOpen();
    await this.#attempt(async () => {
      await this.#flush();
      // The data before the name: after a crash the name must not stand for an empty file.
      await this.#handle.sync();
      await this.#handle.close();
      await rename(this.#temporary, this.#path);
    });
    this.#isOpen = false;
    await syncFolder(dirname(this.#path));
  }

  async discard(): Promise<void> {
    if (!this.#isOpen) return;
    await this.#remove();
  }

  #checkOpen(): void {
    if (this.#isOpen) return;
    throw new UsageError(
      `${this.#path}: the file was committed or discarded, or a write failed. Start another one.`,
    );
  }

  async #attempt(work: () => Promise<void>): Promise<void> {
    try {
      await work();
    } catch (cause) {
      await this.#remove();
      const reason = SPACE_CODES.has(codeOf(cause)) ? "there is no room for more" : describe(cause);
      throw new DeviceError(
        `${this.#path} could not be written: ${reason}, after ${this.#bytesWritten} bytes. Nothing was replaced and ` +
          `nothing is left behind. Make room on that disk or choose another, then try again.`,
        { cause },
      );
    }
  }

  async #remove(): Promise<void> {
    this.#isOpen = false;
    // The error that led here is the one to report; if even this fails, the hidden file stays.
    await Promise.allSettled([this.#handle.close()]);
    await Promise.allSettled([unlink(this.#temporary)]);
  }
}

/** Makes the new name itself durable, where folders can be opened at all (not on Windows). */
async function syncFolder(folder: string): Promise<void> {
  if (process.platform === "win32") return;
  const handle = await open(folder, "r").catch(() => null);
  if (handle === null) return; // a folder may be writable but not readable; the file is complete either way
  await Promise.allSettled([handle.sync()]); // some network file systems refuse
  await handle.close();
}

async function statIfThere(path: string): Promise<Stats | null> {
  try {
    return await stat(path);
  } catch (error) {
    if (codeOf(error) === "ENOENT") return null;
    throw error;
  }
}

function checkRegular(path: string, stats: Stats): void {
  if (stats.isFile()) return;
  const what = stats.isDirectory() ? "a folder" : "a device, pipe or socket";
  throw new UsageError(`${path} is ${what}; a file is expected. Give the path of the file itself.`, {
    cause: systemError("EISDIR", `${path} is ${what}`),
  });
}

const SPACE_CODES: ReadonlySet<string> = new Set(["ENOSPC", "EDQUOT", "EFBIG"]);
