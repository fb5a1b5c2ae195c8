// Programs in the native addon: weights lie behind the memory that 32-bit addresses reach, in the order that the kernels
// read, and threads of the addon run a step while JavaScript goes on.

import { byteLengthOf } from "../../core/dtype.ts";
import { DeviceError } from "../../core/errors.ts";
import { hasLayouts, layoutByteLength } from "../../core/layout.ts";
import type { NativeKernels, NativeMemory, NativePool } from "../../core/native.ts";
import type { WeightUpload } from "../../ops/backend.ts";
import * as abi from "./abi.ts";
import { Arena, PAGE_BYTES, type GrowableMemory } from "./arena.ts";
import { dtypeNumber, layoutNumber } from "./encode.ts";
import type { EncodedPart, HostFactory, ProgramHost, WeightPlace } from "./host.ts";
import { disposedMeanwhile, type Replay } from "./replay.ts";

const NAMES = { avx512: "AVX-512", avx2: "AVX2" } as const;

/** What an addon must have been built for. */
export const NATIVE_LAYOUT = Object.entries(abi)
  .map(([name, value]) => `${name}=${value}`)
  .sort()
  .join(" ");

export function nativeHosts(kernels: NativeKernels, nThreads: number): HostFactory {
  const { addon, kernelSet } = kernels;
  const pool = addon.createPool(kernelSet, nThreads);
  return {
    description: `cpu: native ${NAMES[kernelSet]}, ${nThreads} ${nThreads === 1 ? "thread" : "threads"}`,
    kernels: `native-${kernelSet}`,
    hasInt8Activations: true,
    create: () => createHost(kernels, pool, nThreads),
  };
}

function createHost({ addon }: NativeKernels, pool: NativePool, nThreads: number): ProgramHost {
  const memory = addon.createMemory();
  if (memory === null) {
    throw new DeviceError(
      "The native kernels reserve addresses for 4 GB and twice the machine's memory, which this system refuses. " +
        "Dispose models that are not needed, raise the limit of virtual memory (ulimit -v unlimited), or set " +
        "RWKV_NATIVE=0 to use WebAssembly.",
    );
  }
  const arena = new Arena(growable(addon, memory));
  return {
    arenas: [arena],
    placeWeight: (upload) => placeWeight(addon, pool, memory, upload),
    nThreads,
    start: (parts) => {
      const [{ encoded, commands }] = parts as readonly [EncodedPart]; // one memory, one part
      return Promise.resolve(startReplay(addon, pool, memory, arena, encoded.context, commands.length));
    },
  };
}

function growable(addon: NativeKernels["addon"], memory: NativeMemory): GrowableMemory {
  let buffer = addon.memoryBuffer(memory, PAGE_BYTES);
  return {
    get buffer() {
      return buffer;
    },
    grow(nPages) {
      buffer = addon.memoryBuffer(memory, buffer.byteLength + nPages * PAGE_BYTES);
    },
  };
}

/** Room is for whole panels or padded columns, and is not given back alone: a load that fails gives back the whole memory. */
function placeWeight(
  addon: NativeKernels["addon"],
  pool: NativePool,
  memory: NativeMemory,
  { name, shape, dtype, hasSparseInputs = false }: WeightUpload,
): WeightPlace {
  const [nOut = 1, nIn] = shape;
  // f64, which has no panels, was refused
  const layout = nIn === undefined ? "rows" : hasSparseInputs && hasLayouts(dtype) ? "columns" : "panels";
  const rowsByteLength = byteLengthOf(dtype, shape);
  const byteLength = layout === "rows" ? rowsByteLength : layoutByteLength(layout, dtype, shape);
  const place = addon.placeWeight(memory, byteLength);
  if (place === null) {
    throw new DeviceError(
      `weight "${name}" needs ${byteLength} bytes, but the program has twice the machine's memory already. ` +
        `Use a smaller type (q8_0), or a smaller model.`,
    );
  }
  const { address, buffer } = place;
  return {
    memory: 0,
    address,
    layout,
    bytes: (order) => new Uint8Array(buffer, 0, order === "rows" ? rowsByteLength : byteLength),
    seal(order) {
      const packTo = order === layout ? abi.LAYOUT_ROWS : layoutNumber(layout);
      addon.sealWeight(
        pool,
        memory,
        buffer,
        address,
        packTo,
        dtypeNumber(dtype),
        nOut,
        nIn ?? 0,
        rowsByteLength / nOut,
      );
    },
    release: () => undefined,
  };
}

function startReplay(
  addon: NativeKernels["addon"],
  pool: NativePool,
  memory: NativeMemory,
  arena: Arena,
  context: number,
  nCommands: number,
): Replay {
  const abortWord = (context + abi.CONTEXT_ABORT) / 4;
  let isDisposed = false;
  return {
    async run(_part, _rows, signal) {
      const abort = (): void => {
        arena.words[abortWord] = 1;
      };
      arena.words[abortWord] = 0;
      signal?.addEventListener("abort", abort, { once: true });
      try {
        await addon.step(pool, memory, context, nCommands);
      } finally {
        signal?.removeEventListener("abort", abort);
      }
      signal?.throwIfAborted();
      if (isDisposed) throw disposedMeanwhile();
    },
    dispose() {
      isDisposed = true;
      addon.releaseMemory(memory);
    },
  };
}
