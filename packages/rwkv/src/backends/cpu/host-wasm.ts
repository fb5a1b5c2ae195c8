// Programs in WebAssembly: weights, tables, rows and states share a memory. Its addresses have 32 bits, so weights that
// are too many for one go on in the next, in the order in which they come. How steps run: replay.ts and pool.ts.

import { byteLengthOf, isQuantized } from "../../core/dtype.ts";
import { DeviceError } from "../../core/errors.ts";
import {
  hasLayouts,
  layoutByteLength,
  PANEL_OUTPUTS,
  unpackMatrix,
  type WeightLayout,
} from "../../core/layout.ts";
import type { WeightUpload } from "../../ops/backend.ts";
import { Arena, gigabytes, MEMORY_BYTES } from "./arena.ts";
import { dtypeNumber } from "./encode.ts";
import type { EncodedPart, HostFactory, ProgramHost, WeightPlace } from "./host.ts";
import { instantiatePacking, type Packing, type Simd } from "./kernels.ts";
import type { Replay, Replayer } from "./replay.ts";

/** Weights that one memory takes: the last quarter is for rows and states, which come when all weights are in. */
const MOST_WEIGHT_BYTES = 0.75 * MEMORY_BYTES;
/** What weights take beyond their bytes: each begins on a cache line, and no model has more than some thousands. */
const PADDING_BYTES = 2 ** 18;

const ADVICE =
  "Load the model in a smaller type (q8_0, or a GGUF file of 4 bits) or a smaller model, or use native kernels, " +
  "which have no such limit.";

/** @param mostWeightBytes - what one memory takes of a program's weights */
export function wasmHosts(
  replayer: Replayer,
  simd: Simd,
  description: string,
  mostWeightBytes = MOST_WEIGHT_BYTES,
): HostFactory {
  return {
    description,
    kernels: `wasm-${simd}`,
    nThreads: replayer.nThreads,
    hasInt8Activations: true,
    create: (weightByteLength) => new WasmHost(replayer, mostWeightBytes, weightByteLength),
  };
}

class WasmHost implements ProgramHost {
  readonly nThreads: number;
  readonly arenas: Arena[] = [];
  readonly #replayer: Replayer;
  readonly #memories: WebAssembly.Memory[] = [];
  /** For each memory, once it is needed, what brings weights into order. */
  readonly #packings: Promise<Packing>[] = [];
  readonly #mostWeightBytes: number;
  /** Of all weights, or 0. */
  readonly #expectedBytes: number;
  #placedBytes = 0;
  /** Bytes of weights in the last memory. */
  #filledBytes = 0;

  constructor(replayer: Replayer, mostWeightBytes: number, expectedBytes: number) {
    this.#replayer = replayer;
    this.nThreads = replayer.nThreads;
    this.#mostWeightBytes = mostWeightBytes;
    this.#expectedBytes = expectedBytes;
    this.#open("the program");
  }

  /**
   * Matrices are kept in panels, or in columns if their inputs are mostly zero, unless they have f16 numbers that are not
   * finite, which only kernels of rows heed. Blocks are kept in panels always: there is no prefetching here, and with half
   * of the inputs zero, as in untrained models, skipping takes almost twice as long as reading all of them.
   */
  placeWeight({ name, shape, dtype, hasSparseInputs = false }: WeightUpload): WeightPlace {
    const what = `weight "${name}"`;
    const [nOut = 1, nIn] = shape;
    const rowsByteLength = byteLengthOf(dtype, shape);
    const packed = hasSparseInputs && !isQuantized(dtype) ? "columns" : "panels";
    let layout: WeightLayout = nIn !== undefined && hasLayouts(dtype) ? packed : "rows";
    const byteLength = layout === "rows" ? rowsByteLength : layoutByteLength(layout, dtype, shape);
    // Rows that fill up the last panel or segment of outputs are not counted: they are few.
    const most = this.#mostWeightBytes;
    if (rowsByteLength > most) {
      throw new DeviceError(
        `${what} needs ${gigabytes(rowsByteLength)} GB, but a memory of WebAssembly, which ends at ` +
          `${gigabytes(MEMORY_BYTES)} GB, takes ${gigabytes(most)} GB of weights beside rows and states. ${ADVICE}`,
      );
    }
    if (this.#filledBytes + rowsByteLength > most) this.#open(what);
    const memory = this.#memories.length - 1;
    const arena = this.arenas[memory]!;
    const address = arena.allocate(byteLength, what);
    this.#filledBytes += rowsByteLength;
    this.#placedBytes += rowsByteLength;
    const bytes = (order: WeightLayout): Uint8Array =>
      arena.bytes.subarray(address, address + (order === "rows" ? rowsByteLength : byteLength));
    return {
      memory,
      address,
      get layout() {
        return layout;
      },
      bytes,
      seal: async (order) => {
        if (layout === "rows") return;
        const packing = await this.#packingIn(memory);
        const rowBytes = rowsByteLength / nOut;
        const number = dtypeNumber(dtype);
        if (order === "rows") {
          const rowsAside = layout === "columns" ? nOut : PANEL_OUTPUTS;
          const scratch = arena.allocate(rowsAside * rowBytes, "room to pack weights in");
          if (layout === "columns") packing.packColumns(number, address, nOut, nIn!, scratch);
          else packing.pack(number, address, nOut, rowBytes, scratch);
          arena.free(scratch);
        }
        const isFinite =
          layout === "columns"
            ? packing.isFiniteColumns(number, address, byteLength)
            : packing.isFinitePanels(number, address, byteLength);
        if (isFinite === 0) {
          unpackMatrix(layout, dtype, shape, bytes(layout).slice(), bytes("rows"));
          layout = "rows";
        }
      },
      release: () => {
        arena.free(address);
        this.#filledBytes -= rowsByteLength;
        this.#placedBytes -= rowsByteLength;
      },
    };
  }

  start(parts: readonly EncodedPart[]): Promise<Replay> {
    return this.#replayer.start(parts.map((part) => ({ ...part, memory: this.#memories[part.memory]! })));
  }

  release(): void {
    // The garbage collector frees memories that nobody holds.
  }

  #packingIn(memory: number): Promise<Packing> {
    return (this.#packings[memory] ??= instantiatePacking(this.#replayer.module, this.#memories[memory]!));
  }

  /**
   * Begins the next memory, with room for all weights that are still to come and fit: growing for each of them would
   * keep the garbage collector busy with buffers that are no longer valid.
   */
  #open(what: string): void {
    let memory: WebAssembly.Memory;
    try {
      memory = this.#replayer.createMemory();
    } catch (cause) {
      const [n, isShared] = [this.#memories.length, this.nThreads > 1];
      const reserved = `, ${gigabytes(MEMORY_BYTES)} GB reserved at once for ${this.nThreads} threads`;
      const held = ` The program has ${n} with ${gigabytes(this.#placedBytes)} GB of weights.`;
      throw new DeviceError(
        `${what} needs ${n > 0 ? "another" : "a"} memory of WebAssembly, but the system refuses its address space` +
          `${isShared ? reserved : ""}.${n > 0 ? held : ""} Dispose other models` +
          `${isShared ? ", load with one thread (threads: 1)" : ""}, or use a smaller model.`,
        { cause },
      );
    }
    const arena = new Arena(memory);
    const missingBytes = Math.max(0, this.#expectedBytes - this.#placedBytes);
    if (missingBytes > 0) {
      arena.reserve(Math.min(missingBytes, this.#mostWeightBytes) + PADDING_BYTES, "room for the weights");
    }
    this.#memories.push(memory);
    this.arenas.push(arena);
    this.#filledBytes = 0;
  }
}
