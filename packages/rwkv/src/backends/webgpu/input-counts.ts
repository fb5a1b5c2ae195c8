// How many inputs the products that skip zeros have seen, and how many of them were not zero. Kernels count for decode and other
// steps of few rows; the numbers come to the host with the logits of a step.

import type { ZeroInputs } from "../../ops/backend.ts";
import type { Tensor } from "../../ops/tensor.ts";
import type { Gpu } from "./gpu.ts";
import { MAX_ROW_GROUPS } from "./kernels/matmul.ts";
import { KERNEL_USAGE, Memory, type Place } from "./memory.ts";

/** For each matrix and group of rows: inputs seen, inputs not zero. */
const WORDS_PER_GROUP = 2;
const WORDS_PER_MATRIX = WORDS_PER_GROUP * MAX_ROW_GROUPS;

export class InputCounts {
  readonly #gpu: Gpu;
  readonly #memory = new Memory("input counts");
  readonly #places = new Map<Tensor, Place>();
  /** As they were last read; they wrap around at 2^32, which no two readings are apart. */
  #words = new Uint32Array(0);
  readonly #totals: [nInputs: number, nNonzero: number] = [0, 0];

  constructor(gpu: Gpu) {
    this.#gpu = gpu;
  }

  /** Where the kernels of a matrix count; to be called before `allocate`. */
  placeOf(matrix: Tensor): Place {
    let place = this.#places.get(matrix);
    if (place === undefined) {
      place = { memory: this.#memory, at: this.#places.size * WORDS_PER_MATRIX, stride: WORDS_PER_GROUP };
      this.#places.set(matrix, place);
    }
    return place;
  }

  async allocate(): Promise<void> {
    this.#words = new Uint32Array(this.#places.size * WORDS_PER_MATRIX);
    const { byteLength } = this.#words;
    if (byteLength === 0) return;
    const make = (): GPUBuffer => this.#gpu.createBuffer(this.#memory.label, byteLength, KERNEL_USAGE);
    this.#memory.replace(this.#gpu, await this.#gpu.allocating("counts of inputs", make));
  }

  get nWords(): number {
    return this.#words.length;
  }

  /** Adds the command that copies them to a buffer. */
  copyTo(encoder: GPUCommandEncoder, buffer: GPUBuffer, offset: number): void {
    if (this.nWords > 0) {
      encoder.copyBufferToBuffer(this.#memory.buffer!, 0, buffer, offset, this.#words.byteLength);
    }
  }

  /** @param words - what was copied */
  update(words: Uint32Array): void {
    words.forEach((word, i) => {
      this.#totals[i % WORDS_PER_GROUP]! += (word - this.#words[i]!) >>> 0;
    });
    this.#words.set(words);
  }

  /** Null if no product skips zeros. */
  get zeroInputs(): ZeroInputs | null {
    const [nInputs, nNonzero] = this.#totals;
    return this.nWords === 0 ? null : { nInputs, nZeros: nInputs - nNonzero };
  }

  dispose(): void {
    this.#memory.dispose(this.#gpu);
  }
}
