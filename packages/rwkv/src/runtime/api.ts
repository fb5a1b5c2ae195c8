// The functions of the library, bound to a platform: an entry point is this and nothing else.

import type { ByteSink } from "../core/byte-sink.ts";
import type { Platform } from "../core/platform.ts";
import type { Trace } from "../formats/trace-file.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { listDevices, type DeviceDescription } from "./backends.ts";
import { compare, type CompareOptions, type Comparison } from "./compare.ts";
import { convert, type ConvertOptions } from "./convert.ts";
import { inspect, type CheckpointSummary } from "./inspect.ts";
import { loadModel, type LoadOptions } from "./load.ts";
import type { Model } from "./model.ts";
import { previewQuantize, quantize, type QuantizeOptions, type QuantizePreview } from "./quantize.ts";
import { readTrace } from "./read-trace.ts";
import type { FileSource } from "./source.ts";
import { loadTokenizer, modelTokenizer } from "./tokenizer.ts";

/** Options of calls that only read. */
export interface OpenOptions {
  readonly signal?: AbortSignal | undefined;
}

export interface Api {
  readonly loadModel: (file?: FileSource, options?: LoadOptions) => Promise<Model>;
  readonly listDevices: () => Promise<DeviceDescription[]>;
  readonly loadTokenizer: (file: FileSource, options?: OpenOptions) => Promise<Tokenizer>;
  readonly modelTokenizer: (file: FileSource, options?: OpenOptions) => Promise<Tokenizer>;
  readonly inspect: (file: FileSource, options?: OpenOptions) => Promise<CheckpointSummary>;
  readonly convert: (file: FileSource, sink: ByteSink, options: ConvertOptions) => Promise<void>;
  readonly quantize: (file: FileSource, sink: ByteSink, options?: QuantizeOptions) => Promise<void>;
  readonly previewQuantize: (
    file: FileSource,
    options?: Omit<QuantizeOptions, "tokenizer">,
  ) => Promise<QuantizePreview>;
  readonly compare: (first: FileSource, second: FileSource, options: CompareOptions) => Promise<Comparison>;
  readonly readTrace: (file: FileSource, options?: OpenOptions) => Promise<Trace>;
}

export function createApi(platform: Platform): Api {
  return {
    loadModel: (file, options) => loadModel(platform, file, options),
    listDevices: () =>
      listDevices({
        host: platform.threads,
        loadNative: platform.loadNative,
        loadWebgpu: platform.loadWebgpu,
      }),
    loadTokenizer: (file, options) => loadTokenizer(platform, file, options?.signal),
    modelTokenizer: (file, options) => modelTokenizer(platform, file, options?.signal),
    inspect: (file, options) => inspect(platform, file, options),
    convert: (file, sink, options) => convert(platform, file, sink, options),
    quantize: (file, sink, options = {}) => quantize(platform, file, sink, options),
    previewQuantize: (file, options = {}) => previewQuantize(platform, file, options),
    compare: (first, second, options) => compare(platform, first, second, options),
    readTrace: (file, options) => readTrace(platform, file, options?.signal),
  };
}
