// Buffers that kernels see. A memory keeps its identity when its buffer is replaced by a longer one; a place is where the
// values of a handle lie in it.

import type { Gpu } from "./gpu.ts";
import { USAGE } from "./usage.ts";

export class Memory {
  readonly label: string;
  #buffer: GPUBuffer | null = null;

  constructor(label: string) {
    this.label = label;
  }

  /** Null until there is one. */
  get buffer(): GPUBuffer | null {
    return this.#buffer;
  }

  /** Puts a buffer in the place of the present one, which is destroyed. */
  replace(gpu: Gpu, buffer: GPUBuffer): void {
    this.dispose(gpu);
    this.#buffer = buffer;
  }

  dispose(gpu: Gpu): void {
    if (this.#buffer !== null) gpu.destroyBuffer(this.#buffer);
    this.#buffer = null;
  }
}

/** Where the values of a handle lie: of row or slot `i` they begin at `at + i * stride`, counted in words of four bytes. */
export interface Place {
  readonly memory: Memory;
  readonly at: number;
  /** 0 where all rows have the same values. */
  readonly stride: number;
}

/** The usage of all buffers that kernels work on. */
export const KERNEL_USAGE = USAGE.storage | USAGE.copySrc | USAGE.copyDst;
