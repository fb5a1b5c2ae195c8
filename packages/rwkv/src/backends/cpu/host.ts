// What a program lives on: memory for its tables, rows and states, places for its weights, and the kernels that replay
// its command list. Hides whether those are WebAssembly (host-wasm.ts) or native code (host-native.ts).

import type { WeightLayout } from "../../core/layout.ts";
import type { WeightUpload } from "../../ops/backend.ts";
import type { Arena } from "./arena.ts";
import type { Encoded } from "./encode.ts";
import type { Replay } from "./replay.ts";
import type { ScheduledCommand } from "./schedule.ts";

/** Room for the bytes of one weight. */
export interface WeightPlace {
  readonly address: number;
  /** The order that the kernels read. */
  readonly layout: WeightLayout;
  /** The room for them in rows or in `layout`; valid until memory is allocated. */
  bytes(layout: WeightLayout): Uint8Array;
  /** The bytes are in, in rows or in `layout`; from now on only kernels read them. */
  seal(layout: WeightLayout): void;
  /** The weight was not read after all. */
  release(): void;
}

export interface ProgramHost {
  readonly arena: Arena;
  /** Threads that share each step. */
  readonly nThreads: number;
  /** @throws DeviceError if there is no memory */
  placeWeight(upload: WeightUpload): WeightPlace;
  /**
   * The kernels, once all weights are in; disposing the replay frees the memory.
   * @param commands - those that were encoded
   */
  start(encoded: Encoded, commands: readonly ScheduledCommand[]): Promise<Replay>;
}

/** Makes hosts, one for each program. */
export interface HostFactory {
  /** One line for people. */
  readonly description: string;
  /** The set of kernels, for reports. */
  readonly kernels: string;
  /** Whether kernels can round activations to 8 bits. */
  readonly hasInt8Activations: boolean;
  /** @throws DeviceError if there is no memory */
  create(): ProgramHost;
}
