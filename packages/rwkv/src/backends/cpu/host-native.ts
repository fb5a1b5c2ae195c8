// Programs in the native addon: weights lie behind the memory that 32-bit addresses reach, in the order that the kernels
// read, and threads of the addon run a step while JavaScript goes on.

import type { LocalFile } from "../../core/byte-source.ts";
import { byteLengthOf, isQuantized, type DType } from "../../core/dtype.ts";
import { DeviceError, FormatError } from "../../core/errors.ts";
import { hasLayouts, layoutByteLength, type WeightLayout } from "../../core/layout.ts";
import type { KernelSet, NativeKernels, NativeMemory, NativePool } from "../../core/native.ts";
import type { WeightUpload } from "../../ops/backend.ts";
import * as abi from "./abi.ts";
import { Arena, PAGE_BYTES, type GrowableMemory } from "./arena.ts";
import { dtypeNumber, layoutNumber } from "./encode.ts";
import type { EncodedPart, HostFactory, KernelWeight, ProgramHost, WeightPlace } from "./host.ts";
import { disposedMeanwhile, type Replay } from "./replay.ts";

const NAMES: Readonly<Record<KernelSet, string>> = { avx512: "AVX-512", avx2: "AVX2", neon: "NEON" };

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
    nThreads,
    hasInt8Activations: true,
    create: (_weightByteLength, mustSkipZeros = false) => createHost(kernels, pool, nThreads, mustSkipZeros),
  };
}

function createHost(
  { addon, kernelSet }: NativeKernels,
  pool: NativePool,
  nThreads: number,
  mustSkipZeros: boolean,
): ProgramHost {
  const memory = addon.createMemory();
  if (memory === null) {
    throw new DeviceError(
      "The native kernels reserve addresses for 4 GB and twice the machine's memory, which this system refuses. " +
        "Dispose models that are not needed, raise the limit of virtual memory (ulimit -v unlimited), or set " +
        "RWKV_NATIVE=0 to use WebAssembly.",
    );
  }
  const arena = new Arena(growable(addon, memory));
  const files = new Map<LocalFile, number | null>();
  const skips = (dtype: DType): boolean => mustSkipZeros || skipsByDefault(kernelSet, dtype);
  return {
    arenas: [arena],
    mapWeight: (upload) => mapWeight(addon, memory, files, upload, kernelLayout(upload, skips)),
    placeWeight: (upload) => placeWeight(addon, pool, memory, upload, kernelLayout(upload, skips)),
    nThreads,
    start: (parts) => {
      const [{ encoded, commands }] = parts as readonly [EncodedPart]; // one memory, one part
      return Promise.resolve(startReplay(addon, pool, memory, arena, encoded.context, commands.length));
    },
    release: () => addon.releaseMemory(memory),
  };
}

/**
 * Where half of the inputs are zero, bringing the quants of single inputs together may take longer than reading all of them:
 * with AVX2 it does for all blocks, with AVX-512 for those of 4 bits (docs/backends.md has the figures).
 */
function skipsByDefault(kernelSet: KernelSet, dtype: DType): boolean {
  if (!isQuantized(dtype)) return true;
  if (kernelSet === "avx512") return dtype === "q8_0" || dtype === "q8";
  return kernelSet !== "avx2";
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

/** Kernels expect panels and columns on cache lines. */
const MAPPED_ALIGNMENT = 64;

/**
 * Vectors are mapped out of files that are mapped already: a system that maps a page of a file maps many around it.
 * @param files - the addresses of those that are mapped; null for one that cannot be
 */
function mapWeight(
  addon: NativeKernels["addon"],
  memory: NativeMemory,
  files: Map<LocalFile, number | null>,
  upload: WeightUpload,
  wanted: WeightLayout,
): KernelWeight | null {
  const { place, shape, layout = "rows" } = upload;
  if (place === undefined || layout !== wanted) return null;
  if (place.offset % MAPPED_ALIGNMENT !== 0) return null;
  const { file, offset } = place;
  const isVector = shape.length < 2;
  let start = files.get(file);
  if (start === undefined) {
    if (isVector) return null;
    start = addon.mapFile(memory, file.descriptor, file.byteLength);
    files.set(file, start);
  }
  if (start === null) return null;
  const address = start + offset;
  // To read it then says what is wrong.
  if (isVector && !addon.areFinite(memory, address, shape[0] ?? 1)) return null;
  return { memory: 0, address, layout };
}

/** The order in which the kernels read a weight. */
function kernelLayout(
  { shape, dtype, hasSparseInputs = false }: WeightUpload,
  skips: (dtype: DType) => boolean,
): WeightLayout {
  if (shape.length < 2) return "rows";
  const isSkipped = hasSparseInputs && hasLayouts(dtype) && skips(dtype);
  return isSkipped ? "columns" : "panels"; // f64, which has no panels, was refused
}

/** Room is for whole panels or padded columns, and is not given back alone: a load that fails gives back the whole memory. */
function placeWeight(
  addon: NativeKernels["addon"],
  pool: NativePool,
  memory: NativeMemory,
  upload: WeightUpload,
  layout: WeightLayout,
): WeightPlace {
  const { name, shape, dtype } = upload;
  const [nOut = 1, nIn] = shape;
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
      if (!addon.areFilesUnchanged(memory)) {
        throw new FormatError(
          "A file that this model is mapped from has been changed or cut while the model was in use. A model's file must " +
            "stay as it is: load the model again.",
        );
      }
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
    },
  };
}
