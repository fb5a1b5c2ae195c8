// LoRA adapters: merged into a model while it loads, and written by training. Hides the file that must stay open meanwhile,
// and what tells a merged model from its base.

import type { ByteSink } from "../core/byte-sink.ts";
import { UsageError } from "../core/errors.ts";
import type { Logger } from "../core/logger.ts";
import type { Platform } from "../core/platform.ts";
import { writePth } from "../formats/pth/write.ts";
import { writeSafetensors } from "../formats/safetensors/safetensors.ts";
import { adapterTensors, type AdapterContents } from "../model/adapter/export.ts";
import { mergeAdapter } from "../model/adapter/merge.ts";
import { LORA_ALPHA_KEY, readAdapter } from "../model/adapter/read.ts";
import { adaptedFingerprint, fingerprint } from "../model/fingerprint.ts";
import type { CanonicalWeights } from "../model/weights/canonical.ts";
import { withCheckpoint, type FileSource } from "./source.ts";

/** A LoRA adapter to merge into a model. */
export interface LoraOptions {
  /** `.pth` as RWKV's trainers write, or `.safetensors` as web-rwkv's converter does. */
  readonly file: FileSource;
  /**
   * The alpha of its training: a matrix W becomes W + (alpha / rank) B A. Files of RWKV's trainers do not say it, so that it
   * must be given; those of this project in safetensors do.
   */
  readonly alpha?: number | undefined;
}

/** Where a merged model is made. */
export interface AdapterSetting {
  readonly lora: LoraOptions | undefined;
  /** Whether matrices are encoded again afterwards. */
  readonly keepsF32: boolean;
  readonly signal?: AbortSignal | undefined;
  readonly logger: Logger;
}

/**
 * Hands the weights on, with the adapter merged into them if there is one, and the fingerprint of the model they make.
 * @throws UsageError if alpha is needed and missing
 * @throws FormatError, UnsupportedError as `readAdapter`
 */
export async function withAdapter<Result>(
  platform: Platform,
  weights: CanonicalWeights,
  { lora, keepsF32, signal, logger }: AdapterSetting,
  work: (weights: CanonicalWeights, fingerprint: string) => Promise<Result>,
): Promise<Result> {
  if (lora === undefined) return work(weights, await fingerprint(weights, signal));
  return withCheckpoint(platform, lora.file, signal, async (checkpoint) => {
    const adapter = readAdapter(checkpoint, weights);
    const alpha = lora.alpha ?? adapter.alpha;
    if (alpha === null) {
      throw new UsageError(
        `${checkpoint.name} does not say its alpha, as files of RWKV's trainers never do. Give the lora_alpha that it was ` +
          `trained with (option "lora.alpha", flag --lora-alpha).`,
      );
    }
    const merged = mergeAdapter(weights, adapter, { alpha, keepsF32 });
    logger.debug(
      `${checkpoint.name}: adapter of ${adapter.pairs.size} low-rank pairs and ${adapter.replaced.size} whole tensors, ` +
        `alpha ${alpha}`,
    );
    return work(merged, await adaptedFingerprint(await fingerprint(merged, signal), adapter, alpha, signal));
  });
}

/** How an adapter is written. */
export interface WriteAdapterOptions {
  /**
   * `pth` has the names and orientation of RWKV's trainers and no place for alpha; `safetensors` those of web-rwkv's
   * converter, and alpha in its metadata.
   */
  readonly format: "pth" | "safetensors";
  /** Default `f32`. web-rwkv reads `f16`. */
  readonly dtype?: "f32" | "f16" | "bf16" | undefined;
}

/**
 * Writes a trained adapter; `loadModel` with the option `lora` reads it.
 * @throws UsageError if there is no pair, a number is not finite or does not fit the type
 * @throws ShapeError if lengths do not fit; in all these cases nothing is written
 */
export async function writeAdapter(
  sink: ByteSink,
  contents: AdapterContents,
  { format, dtype = "f32" }: WriteAdapterOptions,
): Promise<void> {
  const tensors = adapterTensors(contents, format === "pth" ? "trainer" : "web-rwkv", dtype);
  if (format === "pth") await writePth(sink, tensors);
  else await writeSafetensors(sink, tensors, new Map([[LORA_ALPHA_KEY, String(contents.alpha)]]));
}
