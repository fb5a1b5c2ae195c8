// Where tables, weights, rows and states of a program lie in one of its memories. Hides how the memory grows and how freed regions are
// used again. Nobody may keep a view across an allocation: growing detaches the buffer behind it.

import { DeviceError } from "../../core/errors.ts";

export const PAGE_BYTES = 65536;
/** Regions start on cache lines, which also suits every vector load. */
const ALIGNMENT = 64;
/** Address 0 stays unused, and so does the last page: an address just behind a region must not wrap to 0. */
const FIRST_ADDRESS = ALIGNMENT;
const MAX_PAGES = 65535;
/** What 32-bit addresses reach. */
export const MEMORY_BYTES = MAX_PAGES * PAGE_BYTES;

/** A memory in pages; growing it detaches the buffer. */
export interface GrowableMemory {
  readonly buffer: ArrayBuffer;
  grow(nPages: number): unknown;
}

interface Region {
  readonly address: number;
  readonly byteLength: number;
}

/** Room in a memory. */
export interface Regions {
  /** The whole memory; valid until the next allocation, also one made elsewhere in it. */
  readonly bytes: Uint8Array;
  readonly words: Uint32Array;
  readonly floats: Float32Array;
  /**
   * @param what - what the region is for, for the message
   * @returns the region's address, a multiple of 64; its bytes are not cleared
   * @throws DeviceError if the memory cannot grow so far
   */
  allocate(byteLength: number, what: string): number;
  /** Gives a region back; the memory keeps its size, later regions take the place. */
  free(address: number): void;
}

/** All of the memory. */
export class Arena implements Regions {
  readonly memory: GrowableMemory;
  readonly #taken = new Map<number, Region>();
  /** By address, never two adjoining, none touching the end. */
  #free: Region[] = [];
  /** Behind the last region in use. */
  #end = FIRST_ADDRESS;
  #views: { bytes: Uint8Array; words: Uint32Array; floats: Float32Array };

  /** @param memory - empty, used by nobody else */
  constructor(memory: GrowableMemory) {
    this.memory = memory;
    this.#views = viewsOf(memory);
  }

  /** Bytes up to the last region in use. */
  get usedByteLength(): number {
    return this.#end;
  }

  get bytes(): Uint8Array {
    return this.#currentViews().bytes;
  }

  get words(): Uint32Array {
    return this.#currentViews().words;
  }

  get floats(): Float32Array {
    return this.#currentViews().floats;
  }

  allocate(byteLength: number, what: string): number {
    const needed = Math.max(1, Math.ceil(byteLength / ALIGNMENT)) * ALIGNMENT;
    const gap = this.#free.findIndex((region) => region.byteLength >= needed);
    if (gap >= 0) {
      const { address, byteLength: gapBytes } = this.#free[gap]!;
      const rest = { address: address + needed, byteLength: gapBytes - needed };
      this.#free.splice(gap, 1, ...(rest.byteLength > 0 ? [rest] : []));
      this.#taken.set(address, { address, byteLength: needed });
      return address;
    }
    const address = this.#end;
    this.#growTo(address + needed, byteLength, what);
    this.#end = address + needed;
    this.#taken.set(address, { address, byteLength: needed });
    return address;
  }

  /**
   * Grows the memory once, so that it need not grow for the next regions, of `byteLength` altogether.
   * @throws DeviceError if the memory cannot grow so far
   */
  reserve(byteLength: number, what: string): void {
    this.#growTo(this.#end + byteLength, byteLength, what);
  }

  free(address: number): void {
    const region = this.#taken.get(address);
    if (region === undefined) return;
    this.#taken.delete(address);
    const merged: Region[] = [];
    for (const next of [...this.#free, region].sort((a, b) => a.address - b.address)) {
      const last = merged.at(-1);
      if (last !== undefined && last.address + last.byteLength === next.address) {
        merged[merged.length - 1] = {
          address: last.address,
          byteLength: last.byteLength + next.byteLength,
        };
      } else {
        merged.push(next);
      }
    }
    const last = merged.at(-1)!;
    if (last.address + last.byteLength === this.#end) {
      this.#end = last.address;
      merged.pop();
    }
    this.#free = merged;
  }

  #growTo(end: number, byteLength: number, what: string): void {
    const nPages = Math.ceil(end / PAGE_BYTES);
    const havePages = this.memory.buffer.byteLength / PAGE_BYTES;
    if (nPages <= havePages) return;
    if (nPages > MAX_PAGES) {
      throw new DeviceError(
        `${what} needs ${gigabytes(byteLength)} GB, but its memory holds ${gigabytes(this.#end)} GB already and ` +
          `32-bit addresses end at ${gigabytes(MEMORY_BYTES)} GB. Keep fewer sequences, read in smaller chunks, load ` +
          `the model in a smaller type (q8_0, or a GGUF file of 4 bits), or use a smaller model.`,
      );
    }
    try {
      this.memory.grow(nPages - havePages);
    } catch (cause) {
      throw new DeviceError(
        `${what} needs ${gigabytes(byteLength)} GB more than the ${gigabytes(this.memory.buffer.byteLength)} GB that its memory has, ` +
          `but the system gives no more memory. Close other programs, use a smaller type (q8_0, or a GGUF file of ` +
          `4 bits), or a smaller model.`,
        { cause },
      );
    }
  }

  #currentViews(): { bytes: Uint8Array; words: Uint32Array; floats: Float32Array } {
    if (this.#views.bytes.buffer !== this.memory.buffer) this.#views = viewsOf(this.memory);
    return this.#views;
  }
}

/** Regions of an arena that are given back together. */
export class RegionGroup implements Regions {
  readonly #arena: Arena;
  readonly #addresses = new Set<number>();

  constructor(arena: Arena) {
    this.#arena = arena;
  }

  get bytes(): Uint8Array {
    return this.#arena.bytes;
  }

  get words(): Uint32Array {
    return this.#arena.words;
  }

  get floats(): Float32Array {
    return this.#arena.floats;
  }

  allocate(byteLength: number, what: string): number {
    const address = this.#arena.allocate(byteLength, what);
    this.#addresses.add(address);
    return address;
  }

  free(address: number): void {
    if (this.#addresses.delete(address)) this.#arena.free(address);
  }

  freeAll(): void {
    for (const address of this.#addresses) this.#arena.free(address);
    this.#addresses.clear();
  }
}

function viewsOf({ buffer }: GrowableMemory): {
  bytes: Uint8Array;
  words: Uint32Array;
  floats: Float32Array;
} {
  return {
    bytes: new Uint8Array(buffer),
    words: new Uint32Array(buffer),
    floats: new Float32Array(buffer),
  };
}

/** For messages. */
export function gigabytes(byteLength: number): string {
  return String(Number((byteLength / 1e9).toPrecision(3)));
}
