// What a program lives on: memories for its tables, rows and states, places for its weights, and the kernels that replay
// its command list. Hides whether those are WebAssembly (host-wasm.ts), where weights may need several memories, or native
// code (host-native.ts), where one is enough.

import type { WeightLayout } from "../../core/layout.ts";
import type { WeightUpload } from "../../ops/backend.ts";
import type { Arena } from "./arena.ts";
import type { Encoded } from "./encode.ts";
import type { Replay } from "./replay.ts";
import type { ScheduledCommand } from "./schedule.ts";

/** A weight as the kernels find it. */
export interface KernelWeight {
  /** The number of its memory. */
  readonly memory: number;
  readonly address: number;
  /** The order that the kernels read; once sealed, the one that the bytes are in. */
  readonly layout: WeightLayout;
  /** As those of a `WeightPlace`; absent for one that is mapped. */
  bytes?(layout: WeightLayout): Uint8Array;
}

/** Room for the bytes of one weight. */
export interface WeightPlace extends KernelWeight {
  /** The room for them in rows or in `layout`; valid until memory is allocated. */
  bytes(layout: WeightLayout): Uint8Array;
  /** The bytes are in, in rows or in `layout`; from now on only kernels read them. */
  seal(layout: WeightLayout): void | Promise<void>;
  /** The weight was not read after all. */
  release(): void;
}

/** The commands of one part (parts.ts), written into its memory. */
export interface EncodedPart {
  /** The number of its memory. */
  readonly memory: number;
  readonly encoded: Encoded;
  readonly commands: readonly ScheduledCommand[];
}

export interface ProgramHost {
  /** That of each memory, by number: one at first, more where weights do not fit. */
  readonly arenas: readonly Arena[];
  /** Threads that share each step. */
  readonly nThreads: number;
  /** A weight used where it lies in its file; null if it has to be read. Absent where files cannot be mapped. */
  mapWeight?(upload: WeightUpload): KernelWeight | null;
  /** @throws DeviceError if there is no memory */
  placeWeight(upload: WeightUpload): WeightPlace;
  /** The kernels, once all weights are in; any number of command lists may be started. */
  start(parts: readonly EncodedPart[]): Promise<Replay>;
  /** Frees the memories as soon as no step works on them; all replays are disposed. */
  release(): void;
}

/** Makes hosts, one for each program. */
export interface HostFactory {
  /** One line for people. */
  readonly description: string;
  /** The set of kernels, for reports. */
  readonly kernels: string;
  /** Threads that share each step. */
  readonly nThreads: number;
  /** Whether kernels can round activations to 8 bits. */
  readonly hasInt8Activations: boolean;
  /**
   * @param weightByteLength - about how many bytes of weights there will be; 0 if that is not known
   * @param mustSkipZeros - whether kernels that skip zeros are wanted also where they gain nothing by it with half of the
   * inputs zero; default no
   * @throws DeviceError if there is no memory
   */
  create(weightByteLength: number, mustSkipZeros?: boolean): ProgramHost;
}
