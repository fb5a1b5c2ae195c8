// What a program lives on: memory for its tables, rows and states, places for its weights, and the kernels that replay
// its command list. Hides whether those are WebAssembly (host-wasm.ts) or native code (host-native.ts).

import type { WeightUpload } from "../../ops/backend.ts";
import type { Arena } from "./arena.ts";

/** Room for the bytes of one weight. */
export interface WeightPlace {
  readonly address: number;
  /** As many bytes as the upload has; valid until memory is allocated. */
  bytes(): Uint8Array;
  /** The bytes are in; from now on only kernels read them. */
  seal(): void;
  /** The weight was not read after all. */
  release(): void;
}

/** One step, as a host sees it. */
export interface StepPlan {
  /** Address of the context. */
  readonly context: number;
  readonly nCommands: number;
  /** Multiply-adds of a command in this step. */
  workOf(command: number): number;
  /** To be called whenever the event loop had its turn. @throws if the program was disposed meanwhile */
  checkAlive(): void;
  readonly signal: AbortSignal | undefined;
}

/** Runs the command list once. @throws the signal's reason if aborted */
export type Replay = (step: StepPlan) => Promise<void>;

export interface ProgramHost {
  readonly arena: Arena;
  /** @throws DeviceError if there is no memory */
  placeWeight(upload: WeightUpload): WeightPlace;
  /** The kernels, once all weights are in. */
  start(): Promise<Replay>;
  /** Frees the memory of a program whose weights are all in, after the step in progress. */
  dispose(): void;
}

/** Makes hosts, one for each program. */
export interface HostFactory {
  /** One line for people. */
  readonly description: string;
  /** Whether kernels can round activations to 8 bits. */
  readonly hasInt8Activations: boolean;
  /** @throws DeviceError if there is no memory */
  create(): ProgramHost;
}
