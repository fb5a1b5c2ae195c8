// From any readable checkpoint to safetensors, .pth or GGUF, one tensor in memory at a time.

import type { ByteSink } from "../core/byte-sink.ts";
import type { Platform } from "../core/platform.ts";
import { UsageError } from "../core/errors.ts";
import type { CheckpointTensor } from "../formats/checkpoint.ts";
import { writeGguf, type GgufValue } from "../formats/gguf/write.ts";
import { writePth } from "../formats/pth/write.ts";
import { writeSafetensors } from "../formats/safetensors/safetensors.ts";
import { ggufMetadata, ggufTensors, officialTensors, type GgufDType } from "../model/export.ts";
import { canonicalWeights, type CanonicalWeights } from "../model/weights/canonical.ts";
import { STATE_ORIENTATION_KEY } from "../model/weights/orientation.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import type { LoadProgress } from "./progress.ts";
import { withCheckpoint, type FileSource } from "./source.ts";
import { findTokenizer } from "./tokenizer.ts";

/** Formats that are written. */
export type ConvertFormat = "safetensors" | "pth" | "gguf";

/** What matrices can be written as; `q8_0` exists in GGUF only. */
export type ConvertDType = GgufDType;

/** All of them. */
export const CONVERT_DTYPES: readonly ConvertDType[] = ["f32", "f16", "bf16", "q8_0"];

/** What `convert` writes. */
export interface ConvertOptions {
  readonly format: ConvertFormat;
  /** Default: as stored, where the format has it; quantised matrices become f16 then. */
  readonly dtype?: ConvertDType | undefined;
  /** Written into a GGUF. Default: the one inside the file or beside it. */
  readonly tokenizer?: Tokenizer | FileSource | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after each tensor; an error in it ends the conversion. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

/**
 * Writes the model in `file` to `sink`. Reading the result gives the same logits, up to the rounding of `dtype`.
 * @throws UsageError for a dtype that the format lacks, UnsupportedError for a generation that GGUF lacks
 */
export async function convert(
  platform: Platform,
  file: FileSource,
  sink: ByteSink,
  options: ConvertOptions,
): Promise<void> {
  const { format, signal } = options;
  const dtype = options.dtype ?? null;
  await withCheckpoint(platform, file, signal, async (checkpoint, opened) => {
    const weights = canonicalWeights(checkpoint);
    if (format !== "gguf") {
      if (dtype === "q8_0")
        throw new UsageError(`${format} has no q8_0. Convert to GGUF, or choose f32, f16 or bf16.`);
      const tensors = withProgress(officialTensors(weights, dtype), options);
      if (format === "pth") await writePth(sink, tensors);
      else await writeSafetensors(sink, tensors, safetensorsMetadata(weights));
      return;
    }
    const { config } = weights;
    const found = await findTokenizer(platform, opened, checkpoint, config.nVocab, options.tokenizer, signal);
    const metadata = new Map([
      ...ggufMetadata(weights, dtype),
      ...tokenizerMetadata(found?.tokenizer ?? null, config.nVocab),
    ]);
    await writeGguf(sink, withProgress(ggufTensors(weights, dtype), options), metadata);
  });
}

/** Loaders of PyTorch look for `format`; a tuned state among the tensors has the official order. */
function safetensorsMetadata({ timeState }: CanonicalWeights): Map<string, string> {
  const metadata = new Map([["format", "pt"]]);
  if (timeState !== null) metadata.set(STATE_ORIENTATION_KEY, "value-key");
  return metadata;
}

/** Counts bytes as tensors are read, and stops between two of them if aborted. */
function withProgress(tensors: readonly CheckpointTensor[], options: ConvertOptions): CheckpointTensor[] {
  const { signal, onProgress } = options;
  const bytesTotal = tensors.reduce((sum, tensor) => sum + tensor.byteLength, 0);
  let bytesDone = 0;
  return tensors.map((tensor) => ({
    ...tensor,
    read: async (target) => {
      signal?.throwIfAborted();
      await tensor.read(target, signal);
      bytesDone += tensor.byteLength;
      onProgress?.({ phase: "load", bytesDone, bytesTotal, tensor: tensor.name });
    },
  }));
}

const TOKEN_NORMAL = 1;
const TOKEN_CONTROL = 3;
const TOKEN_UNUSED = 5;

/** The World vocabulary in the form GGUF has for it: token bytes escaped as in a Python bytes literal. */
function tokenizerMetadata(tokenizer: Tokenizer | null, nVocab: number): [string, GgufValue][] {
  if (tokenizer?.kind !== "world") return [];
  const tokens: string[] = [];
  const types: number[] = [];
  for (let id = 0; id < nVocab; id++) {
    const bytes = id < tokenizer.nVocab ? tokenizer.tokenBytes(id) : new Uint8Array(0);
    const isUnused = id > 0 && bytes.length === 0;
    tokens.push(id === 0 ? "<s>" : isUnused ? `[PAD${id}]` : escapeToken(bytes));
    types.push(id === 0 ? TOKEN_CONTROL : isUnused ? TOKEN_UNUSED : TOKEN_NORMAL);
  }
  const endOfTurn = tokenizer.encode("\n\n");
  return [
    ["tokenizer.ggml.model", { type: "string", value: "rwkv" }],
    ["tokenizer.ggml.tokens", { type: "array", elementType: "string", value: tokens }],
    ["tokenizer.ggml.token_type", { type: "array", elementType: "i32", value: types }],
    ["tokenizer.ggml.bos_token_id", { type: "u32", value: 0 }],
    ["tokenizer.ggml.eos_token_id", { type: "u32", value: 0 }],
    ...(endOfTurn.length === 1
      ? ([["tokenizer.ggml.eot_token_id", { type: "u32", value: endOfTurn[0]! }]] as [string, GgufValue][])
      : []),
  ];
}

function escapeToken(bytes: Uint8Array): string {
  let text = "";
  for (const byte of bytes) {
    if (byte === 0x5c) text += "\\\\";
    else if (byte === 0x09) text += "\\t";
    else if (byte === 0x0a) text += "\\n";
    else if (byte === 0x0d) text += "\\r";
    else if (byte >= 0x20 && byte < 0x7f) text += String.fromCharCode(byte);
    else text += `\\x${byte.toString(16).padStart(2, "0")}`;
  }
  return text;
}
