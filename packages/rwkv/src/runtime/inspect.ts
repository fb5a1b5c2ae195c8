// What a checkpoint is, from its header alone.

import type { Platform } from "../core/platform.ts";
import { countElements, type DType } from "../core/dtype.ts";
import type { WeightLayout } from "../core/layout.ts";
import type { CheckpointFormat, MetadataValue } from "../formats/checkpoint.ts";
import type { ModelConfig } from "../model/config.ts";
import { canonicalWeights } from "../model/weights/canonical.ts";
import { withCheckpoint, type FileSource } from "./source.ts";

/** A tensor as the header describes it. */
export interface TensorSummary {
  /** As in the file. */
  readonly name: string;
  readonly dtype: DType;
  /** PyTorch order. */
  readonly shape: readonly number[];
  /** The order of a matrix's bytes in a packed file. */
  readonly layout?: WeightLayout;
}

/** What the header of a checkpoint tells. */
export interface CheckpointSummary {
  readonly name: string;
  readonly format: CheckpointFormat;
  readonly formatVersion: number | null;
  readonly byteLength: number;
  readonly config: ModelConfig;
  readonly nParameters: number;
  /** How many tensors there are of each dtype. */
  readonly dtypes: Readonly<Partial<Record<DType, number>>>;
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  readonly tensors: readonly TensorSummary[];
}

/**
 * Reads the header of a checkpoint and detects the model; no tensor is read.
 * @throws FormatError if the header is damaged, UnsupportedError if it holds no known RWKV model
 */
export async function inspect(
  platform: Platform,
  file: FileSource,
  options: { readonly signal?: AbortSignal | undefined } = {},
): Promise<CheckpointSummary> {
  // eslint-disable-next-line @typescript-eslint/require-await -- the work is synchronous once the header is read
  return withCheckpoint(platform, file, options.signal, async (checkpoint, { source }) => {
    const dtypes: Partial<Record<DType, number>> = {};
    let nParameters = 0;
    const tensors: TensorSummary[] = [];
    for (const { name, dtype, shape, packed } of checkpoint.tensors.values()) {
      dtypes[dtype] = (dtypes[dtype] ?? 0) + 1;
      nParameters += countElements(shape);
      tensors.push({ name, dtype, shape, ...(packed !== undefined && { layout: packed.layout }) });
    }
    return {
      name: checkpoint.name,
      format: checkpoint.format,
      formatVersion: checkpoint.formatVersion,
      byteLength: source.byteLength,
      config: canonicalWeights(checkpoint).config,
      nParameters,
      dtypes,
      metadata: checkpoint.metadata,
      tensors,
    };
  });
}
