// Sequential reading of a header out of a ByteSource. File contents are hostile: every read is bounded by the file's
// length before anything is allocated, and a failure names the file, the place and the field.

import type { ByteSource } from "./byte-source.ts";
import { FormatError } from "./errors.ts";

const WINDOW_BYTES = 64 * 1024;

/**
 * Little-endian reader with a window over its source. `await ensure(n, what)` brings the next n bytes into the window;
 * the synchronous getters then take from it and throw FormatError where it is used up.
 */
export class ByteReader {
  readonly source: ByteSource;
  readonly #end: number;
  #windowStart: number;
  #window: Uint8Array = new Uint8Array(0);
  #view: DataView = new DataView(new ArrayBuffer(0));
  #offset = 0;

  constructor(source: ByteSource, start = 0, end = source.byteLength) {
    this.source = source;
    this.#windowStart = start;
    this.#end = Math.min(end, source.byteLength);
  }

  /** Absolute address of the next byte. */
  get position(): number {
    return this.#windowStart + this.#offset;
  }

  /** Bytes that the getters can take before the next `ensure`. */
  get available(): number {
    return this.#window.byteLength - this.#offset;
  }

  /** Bytes between the position and the end of what may be read. */
  get remaining(): number {
    return this.#end - this.position;
  }

  /**
   * Makes the next `byteLength` bytes available to the getters.
   * @param what - the field, for the message
   * @throws FormatError if the file ends before
   */
  async ensure(byteLength: number, what: string): Promise<void> {
    const isCount = Number.isSafeInteger(byteLength) && byteLength >= 0;
    if (isCount && byteLength <= this.available) return;
    if (!isCount || byteLength > this.remaining) {
      throw new FormatError(
        `${this.source.name}: ${what} at byte ${this.position} needs ${byteLength} bytes, but only ` +
          `${this.remaining} are left. The file looks cut short or damaged: download it again and compare its size.`,
      );
    }
    const position = this.position;
    const window = new Uint8Array(Math.min(Math.max(byteLength, WINDOW_BYTES), this.remaining));
    await this.source.read(position, window);
    this.#window = window;
    this.#view = new DataView(window.buffer);
    this.#windowStart = position;
    this.#offset = 0;
  }

  /** Moves to an absolute address, forwards or backwards, without reading. */
  seek(position: number, what: string): void {
    if (!Number.isSafeInteger(position) || position < 0 || position > this.#end) {
      throw new FormatError(
        `${this.source.name}: ${what} would end at byte ${position}, but the file ends at ${this.#end}. ` +
          `It looks cut short or damaged: download it again and compare its size.`,
      );
    }
    const offset = position - this.#windowStart;
    if (offset >= 0 && offset <= this.#window.byteLength) {
      this.#offset = offset;
    } else {
      this.#windowStart = position;
      this.#window = new Uint8Array(0);
      this.#view = new DataView(this.#window.buffer);
      this.#offset = 0;
    }
  }

  u8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  u16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  u32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  i32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }

  f32(): number {
    return this.#view.getFloat32(this.#take(4), true);
  }

  f64(): number {
    return this.#view.getFloat64(this.#take(8), true);
  }

  u64(): bigint {
    return this.#view.getBigUint64(this.#take(8), true);
  }

  i64(): bigint {
    return this.#view.getBigInt64(this.#take(8), true);
  }

  /** The next bytes as text: a copy for each string of a vocabulary would leave as many buffers to the garbage collector. */
  text(byteLength: number, decoder: TextDecoder): string {
    const start = this.#take(byteLength);
    return decoder.decode(this.#window.subarray(start, start + byteLength));
  }

  /** The next bytes; a copy. */
  bytes(byteLength: number): Uint8Array {
    const start = this.#take(byteLength);
    return this.#window.slice(start, start + byteLength);
  }

  #take(byteLength: number): number {
    const start = this.#offset;
    if (!(byteLength >= 0 && start + byteLength <= this.#window.byteLength)) {
      throw new FormatError(
        `${this.source.name}: byte ${this.position}: ${byteLength} bytes are read, but only ` +
          `${this.#window.byteLength - start} were announced. The file is damaged: download it again.`,
      );
    }
    this.#offset += byteLength;
    return start;
  }
}
