// What the page and the engine's worker ask of each other. The worker has the device, the weights and the reading of files; the
// page has sessions, tokenizer and sampler, so that they are the very same with and without a worker.

import type { JinjaSource } from "../../chat/jinja.ts";
import type { WeightDType } from "../../core/dtype.ts";
import type { ModelConfig } from "../../model/config.ts";
import type { Run, ZeroInputs } from "../../ops/backend.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import type { PartsOptions } from "../load.ts";
import type { ModelInfo } from "../model.ts";
import type { LoadProgress } from "../progress.ts";
import type { FileMessage } from "./files.ts";

/** A slot of a program, as the page numbers both. */
export interface SlotOf {
  /** Of `ProgramFacts`. */
  readonly program: number;
  readonly slot: number;
}

/** What the worker answers. */
export interface EngineCalls {
  /** Once, before all others. */
  load: { takes: LoadRequest; gives: LoadReply };
  /** Loads the model again, as another program; null if the device of the program is there. Only if it `canBeLost`. */
  reload: { takes: { readonly program: number; readonly wantsProgress: boolean }; gives: LoadReply | null };
  /** Frees a program of several. The last one goes with the worker. */
  dispose: { takes: number; gives: undefined };
  createSlot: { takes: SlotOf & { readonly copyOf: number | undefined }; gives: undefined };
  releaseSlot: { takes: SlotOf; gives: undefined };
  resetSlot: { takes: SlotOf; gives: undefined };
  /** `slot` is where it goes. */
  copySlot: { takes: SlotOf & { readonly from: number }; gives: undefined };
  readSlot: { takes: SlotOf; gives: Float32Array };
  writeSlot: { takes: SlotOf & { readonly values: Float32Array }; gives: undefined };
  readLogits: { takes: SlotOf; gives: Float32Array };
  step: {
    takes: {
      readonly program: number;
      readonly runs: readonly Run[];
      readonly inputs: readonly Float32Array[];
    };
    gives: { readonly logits: Float32Array; readonly zeroInputs: ZeroInputs | null };
  };
}

/** What the page answers. */
export interface PageCalls {
  progress: { takes: LoadProgress; gives: undefined };
  log: { takes: { readonly level: "debug" | "info" | "warn"; readonly message: string }; gives: undefined };
  readSource: {
    takes: { readonly source: number; readonly offset: number; readonly byteLength: number };
    gives: Uint8Array;
  };
  closeSource: { takes: number; gives: undefined };
  /** Told of a program before the first error that comes of its loss. */
  lost: { takes: number; gives: undefined };
}

/** Options that are plain values. */
export type PlainOptions = Omit<PartsOptions, "tokenizer" | "lora" | "signal" | "onProgress" | "logger">;

export interface LoadRequest {
  readonly file: FileMessage | undefined;
  readonly options: PlainOptions;
  readonly lora: { readonly file: FileMessage; readonly alpha: number | undefined } | undefined;
  /** Null where the page has one. */
  readonly tokenizer: FileMessage | null | undefined;
  readonly wantsProgress: boolean;
}

export interface LoadReply {
  readonly info: ModelInfo;
  readonly config: ModelConfig;
  readonly chatTemplate: JinjaSource | null;
  /** `file` is null for the one of bytes. */
  readonly tokenizer: {
    readonly kind: Tokenizer["kind"];
    readonly file: Uint8Array<ArrayBuffer> | null;
  } | null;
  readonly inputWidths: readonly number[];
  readonly initialState: Float32Array | null;
  readonly embedding: { readonly dtype: WeightDType; readonly bytes: Uint8Array<ArrayBuffer> };
  readonly positions: {
    readonly columns: Float32Array<ArrayBuffer>;
    readonly rows: Float32Array<ArrayBuffer>;
  } | null;
  readonly program: ProgramFacts;
}

export interface ProgramFacts {
  /** Tells it from other programs of this worker. */
  readonly number: number;
  readonly canBeLost: boolean;
  readonly hasShortlists: boolean;
  readonly weightByteLength: number;
  readonly stateElements: number;
  readonly maxRows: number;
  readonly zeroInputs: ZeroInputs | null;
}
