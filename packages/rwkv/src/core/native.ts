// What the native addon offers to the cpu backend. The addon itself (packages/native) is found by the platform: core and
// the backend know this interface alone.

/** Instruction sets that the addon has kernels for. */
export const KERNEL_SETS = ["avx512", "avx2", "neon"] as const;

export type KernelSet = (typeof KERNEL_SETS)[number];

/** Threads with a kernel set; idle ones sleep and keep no process alive. */
export type NativePool = object & { readonly __kind?: "pool" };

/** A range of addresses: the part that grows, and weights behind it. Freed at the latest with its handle. */
export type NativeMemory = object & { readonly __kind?: "memory" };

/** A place in a memory for the bytes of one weight. */
export interface NativeWeight {
  /** From the start of the memory; beyond 32 bits. */
  readonly address: number;
  readonly buffer: ArrayBuffer;
}

/** The functions of the addon. They check nothing: arguments come from the backend alone. */
export interface NativeAddon {
  /** The constants of backends/cpu/abi.ts that it was built for, as `NAME=value`, sorted and separated by spaces. */
  readonly layout: string;
  /** Kernel sets that this processor can run, best first. */
  readonly kernelSets: readonly KernelSet[];
  createPool(kernelSet: KernelSet, nThreads: number): NativePool;
  /** @returns null if the system gives no addresses */
  createMemory(): NativeMemory | null;
  /** The first `byteLength` bytes of the memory; the buffer given before is detached. */
  memoryBuffer(memory: NativeMemory, byteLength: number): ArrayBuffer;
  /** @returns null if the range of addresses is used up */
  placeWeight(memory: NativeMemory, byteLength: number): NativeWeight | null;
  /**
   * Maps the first `byteLength` bytes of an open file into the memory, to be read by kernels only. The descriptor may be
   * closed afterwards.
   * @returns the address of the first byte, on a huge page; null if the file is shorter or cannot be mapped
   */
  mapFile(memory: NativeMemory, fileDescriptor: number, byteLength: number): number | null;
  /** Whether `n` f32 numbers in the memory are all finite. */
  areFinite(memory: NativeMemory, address: number, n: number): boolean;
  /** Whether all mapped files have the length and the time of writing that they had when they were mapped. */
  areFilesUnchanged(memory: NativeMemory): boolean;
  /**
   * Detaches the buffer of a weight whose bytes are in, and brings the rows of a matrix into the order `packTo`
   * (LAYOUT_... of backends/cpu/abi.ts; LAYOUT_ROWS leaves the bytes as they are), which its place has room for.
   */
  sealWeight(
    pool: NativePool,
    memory: NativeMemory,
    buffer: ArrayBuffer,
    address: number,
    packTo: number,
    dtype: number,
    nOut: number,
    nIn: number,
    rowBytes: number,
  ): void;
  /** Detaches the memory's buffer and frees it, once no step works on it; every weight is sealed. */
  releaseMemory(memory: NativeMemory): void;
  /** Replays a command list; ends early once the abort word of the context is set. */
  step(pool: NativePool, memory: NativeMemory, context: number, nRecords: number): Promise<undefined>;
  /**
   * Bytes per second in which `nThreads` threads read `byteLength` bytes of memory, the best of `nReads` times; 0 if the
   * system gives no such memory. Returns when that is done.
   */
  readBandwidth(nThreads: number, byteLength: number, nReads: number): number;
}

/** The addon, and the kernel set to use. */
export interface NativeKernels {
  readonly addon: NativeAddon;
  readonly kernelSet: KernelSet;
}
