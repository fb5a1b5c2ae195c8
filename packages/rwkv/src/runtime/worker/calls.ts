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

/** What the worker answers. Slots have the page's numbers. */
export interface EngineCalls {
  /** Once, before all others. */
  load: { takes: LoadRequest; gives: LoadReply };
  createSlot: { takes: { readonly slot: number; readonly copyOf: number | undefined }; gives: undefined };
  releaseSlot: { takes: number; gives: undefined };
  resetSlot: { takes: number; gives: undefined };
  copySlot: { takes: { readonly to: number; readonly from: number }; gives: undefined };
  readSlot: { takes: number; gives: Float32Array };
  writeSlot: { takes: { readonly slot: number; readonly values: Float32Array }; gives: undefined };
  step: {
    takes: { readonly runs: readonly Run[]; readonly inputs: readonly Float32Array[] };
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
  readonly weightByteLength: number;
  readonly stateElements: number;
  readonly maxRows: number;
  readonly zeroInputs: ZeroInputs | null;
}
