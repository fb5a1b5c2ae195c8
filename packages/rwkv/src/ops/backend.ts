// What the engine asks of a backend, in the order in which it asks: declare tensors, record the forward pass once,
// then run steps over ragged batches. Backends implement this; the runtime is its only caller.

import type { FilePlace, ReadPart } from "../core/byte-source.ts";
import type { WeightDType } from "../core/dtype.ts";
import type { WeightLayout } from "../core/layout.ts";
import type { Ops } from "./ops.ts";
import type { ShortlistWanted } from "../core/shortlist.ts";
import type { OpCall } from "./signature.ts";
import type { Tap } from "./taps.ts";
import type { RowKind, Tensor } from "./tensor.ts";

/** A weight that a backend takes into its own memory. */
export interface WeightUpload {
  readonly name: string;
  /** `[out, in]` of any weight dtype, or `[n]` in f32. */
  readonly shape: readonly number[];
  readonly dtype: WeightDType;
  /** The order of a matrix's bytes as they are read, whatever order the backend keeps them in. Default `rows`. */
  readonly layout?: WeightLayout | undefined;
  /** Whether most inputs of products with this matrix are zero, so that much of it need not be read. Default no. */
  readonly hasSparseInputs?: boolean | undefined;
  /** Bytes in `dtype` and `layout`, little-endian. */
  readonly byteLength: number;
  /** Where a file of this machine has just these bytes; a backend may map them instead of calling `read`. */
  readonly place?: FilePlace | undefined;
  /** Fills the final place of the bytes, or one close to it; called at most once. */
  read(target: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** In place of `read`: fills `target` with the bytes from `offset` on. Absent where only all can be read. */
  readonly readPart?: ReadPart | undefined;
}

/** Makes the handles of everything in a forward pass but its weights. */
export interface TensorDeclarer {
  /** f32 per sequence. Slots hold the states in the order of declaration, which is also that of saved files. */
  state(name: string, shape: readonly number[], initial: number): Tensor;
  /** Rows that the caller hands to each step; one call per input, in the order of `StepInputs`. */
  input(name: string, shape: readonly number[]): Tensor;
  /** Rows that die with the step. */
  scratch(name: string, shape: readonly number[], rows: Exclude<RowKind, "none">): Tensor;
  /** The rows that a step returns; declared once. */
  output(name: string, shape: readonly number[]): Tensor;
}

/** How many kernels of those to be compiled are. */
export type OnCompiled = (done: number, total: number) => void;

/** Collects the tensors and the forward pass of one model. */
export interface ProgramBuilder extends TensorDeclarer {
  /** @throws DeviceError if the weight does not fit in the device's memory, with the arithmetic */
  weight(upload: WeightUpload, signal?: AbortSignal): Promise<Tensor>;
  /**
   * Ends the building: runs `forward` once, or keeps it to run at each step, as the backend likes.
   * The builder cannot be used afterwards.
   * @param onCompiled - called when one of the kernels that had to be compiled is; an error in it ends the building
   */
  build(forward: (ops: Ops) => void, onCompiled?: OnCompiled): Promise<Program>;
  /** Frees what has been taken so far; for a load that failed half-way. */
  dispose(): void;
}

/** A piece of one sequence: a prefill chunk or one decode token. */
export interface Run {
  /** The state slot of the sequence; no two runs of a step share one. */
  readonly slot: number;
  /** Rows of this run, at least 1; the runs' rows follow one another in the inputs. */
  readonly nRows: number;
  /** Which rows' logits are computed. */
  readonly logits: "none" | "last" | "all";
  /** With logits `last`: has a shortlist of them returned, and keeps them for `readLogits`. Only where `hasShortlists`. */
  readonly shortlist?: ShortlistWanted | undefined;
}

/** How a step can be stopped. */
export interface StepOptions {
  /** Stops the step inside, where the backend can. */
  readonly signal?: AbortSignal | undefined;
}

/** Inputs of products that skip zeros: elements of rows, summed over products and steps. */
export interface ZeroInputs {
  readonly nInputs: number;
  /** How many of them were zero, after the rounding of activations if they are rounded. */
  readonly nZeros: number;
}

/** A model on a device, ready to run. */
export interface Program {
  /** Bytes of weights held by this program. */
  readonly weightByteLength: number;
  /** f32 elements in one slot. */
  readonly stateElements: number;
  /** Most rows one step may have. */
  readonly maxRows: number;
  /** Whether the device has been lost, and all slots with it; absent where that cannot happen. */
  readonly isLost?: boolean | undefined;

  /**
   * A slot with the initial state, or with that of another. A copy may put off the copying until one of the two slots
   * advances, but no step may fail for want of memory for that.
   * @throws UsageError if there is no slot `copyOf`
   * @throws DeviceError if there is no memory for one more
   */
  createSlot(copyOf?: number): number;
  /**
   * Resolves once a new slot has its memory; absent where `createSlot` tells at once. The slot may be used before.
   * @throws DeviceError if there is no memory for it, as will everything that is done with the slot
   */
  slotCreated?(slot: number): Promise<void>;
  /** Gives the slot free for another sequence, also after a loss. @throws UsageError for an unknown slot */
  releaseSlot(slot: number): void;
  /** Back to the initial state. */
  resetSlot(slot: number): Promise<void>;
  /** Makes the state of `to` that of `from`. */
  copySlot(to: number, from: number): Promise<void>;
  /** All states of the slot in order of declaration; a copy. */
  readSlot(slot: number): Promise<Float32Array>;
  /** @throws UsageError if `values` is not a whole state */
  writeSlot(slot: number, values: Float32Array): Promise<void>;

  /**
   * Runs the forward pass over all runs at once and advances their slots.
   * @param inputs - for each declared input its rows, `[sum of nRows, width]`
   * @returns in the order of the runs, logits `[wanted rows, V]` or a shortlist; valid until the next step
   * @throws the signal's reason if aborted; the slots are then somewhere between before and after
   */
  step(runs: readonly Run[], inputs: readonly Float32Array[], options?: StepOptions): Promise<Float32Array>;

  /** Whether `step` can return shortlists; absent where all logits are as near. */
  readonly hasShortlists?: boolean | undefined;
  /**
   * The logits `[V]` that the last step of this slot made a shortlist of; a copy. A slot whose state is a copy of another's has
   * those of the other.
   * @throws UsageError if that step returned no shortlist, or the state was reset or written since
   */
  readLogits?(slot: number): Promise<Float32Array>;

  /**
   * What products with sparse inputs have left out in all steps so far; null if none of the program leaves any out.
   * Steps of many rows read such a matrix densely and do not count.
   */
  zeroInputs(): ZeroInputs | null;

  /** The way to look at values in the middle of a step; absent where the backend has none. */
  readonly recording?: Recording | undefined;

  /** Frees all memory, tapped programs included; nothing may be called afterwards. */
  dispose(): void;
}

/** The operations of a program, and the way to record them once more. */
export interface Recording {
  /** In the order of the forward pass, nothing fused. */
  readonly calls: readonly OpCall[];
  /**
   * Records the operations again, with a copy for each tap. The program made has the same weights, which it shares, gives
   * the same bits, has slots of its own, and is to be disposed when it is no longer needed; this one stays as it is.
   * @param maxRows - most rows of one step of the program made
   * @throws DeviceError if there is no memory
   */
  tapped(taps: readonly Tap[], maxRows: number): Promise<TappedProgram>;
}

/** A program that keeps values of its last step. */
export interface TappedProgram extends Omit<
  Program,
  "recording" | "slotCreated" | "hasShortlists" | "readLogits"
> {
  /**
   * What the tap of that number has copied in the last step, a copy.
   * @returns all its rows, or those whose logits were wanted if it is of that kind: `[rows, width]`
   */
  readTap(tap: number): Float32Array;
}

/** Precision of activations in products with quantised weights. */
export type Activations = "f32" | "int8";

/** A device, and the way to put a model on it. */
export interface Backend {
  readonly name: string;
  /** One line for people: instruction set, threads, adapter. */
  readonly description: string;
  /** Threads that share each step. */
  readonly nThreads: number;
  /** Whether products with quantised weights can round activations to 8 bits. */
  readonly hasInt8Activations: boolean;
  /** The set of kernels in use, for reports, such as `wasm-simd`; null where there is nothing to choose from. */
  readonly kernels: string | null;
  /** Starts a program; any number may exist side by side. */
  createBuilder(options: BuilderOptions): ProgramBuilder;
}

/** Limits of a program, known before it is built. */
export interface BuilderOptions {
  /** Most rows of one step, which bounds scratch memory. */
  readonly maxRows: number;
  /** Precision of activations in products with quantised weights. Default `f32`; `int8` only if the backend has it. */
  readonly activations?: Activations | undefined;
  /**
   * Bytes of all weights that will be uploaded, so that a backend can take the memory for them at once. Padding need not
   * be counted, and more or fewer may come. Default: not known.
   */
  readonly weightByteLength?: number | undefined;
  /**
   * Whether matrices whose inputs are mostly zero are kept so that those inputs cost nothing, where the backend can.
   * Results do not depend on it. Default: where that gains time with half of the inputs zero, as in untrained models.
   */
  readonly skipZeros?: boolean | undefined;
}
