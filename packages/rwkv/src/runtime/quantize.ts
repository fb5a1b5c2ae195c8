// From any readable checkpoint to a packed file: matrices encoded by a policy, in the order in which kernels read them. And
// what that would give, without writing it.

import type { ByteSink } from "../core/byte-sink.ts";
import { decodeToF32, encodeFromF32, type EncodedDType } from "../core/decode.ts";
import { byteLengthOf, type WeightDType } from "../core/dtype.ts";
import type { WeightLayout } from "../core/layout.ts";
import type { Platform } from "../core/platform.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { writePacked } from "../formats/packed/packed.ts";
import { packWeights, type MatrixToPack, type PackedWeights } from "../model/pack.ts";
import { chooseDTypes, type DTypePolicy } from "../model/policy.ts";
import { canonicalWeights, type CanonicalWeight } from "../model/weights/canonical.ts";
import { packedMetadata } from "../model/weights/packed.ts";
import type { LoadProgress } from "./progress.ts";
import { withCheckpoint, type FileSource, type OpenedFile } from "./source.ts";
import { fileOf, findTokenizerFile } from "./tokenizer.ts";

/** What `quantize` writes. Without `dtype` and `policy` matrices keep their types, and only their order changes. */
export interface QuantizeOptions extends DTypePolicy {
  /** A tokenizer file to put inside. Default: the one inside the file or beside it. */
  readonly tokenizer?: FileSource | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called after each tensor; an error in it ends the work. */
  readonly onProgress?: ((progress: LoadProgress) => void) | undefined;
}

/** What becomes of a matrix. */
export interface MatrixPreview {
  readonly name: string;
  /** `[out, in]` */
  readonly shape: readonly number[];
  readonly storedDType: WeightDType;
  readonly dtype: WeightDType;
  readonly layout: WeightLayout;
  readonly byteLength: number;
  /** Root mean square of the rounding errors over that of the values, on rows spread over the matrix; 0 if exact. */
  readonly relativeError: number;
}

/** What `quantize` would write. */
export interface QuantizePreview {
  readonly matrices: readonly MatrixPreview[];
  /** Of all matrices. */
  readonly matrixByteLength: number;
  /** Of vectors and everything else that is not rounded. */
  readonly otherByteLength: number;
}

/**
 * Writes the model in `file` to `sink` as a packed file, one tensor in memory at a time.
 * @throws UsageError for a policy that does not fit the model, or a value that a type cannot hold
 */
export async function quantize(
  platform: Platform,
  file: FileSource,
  sink: ByteSink,
  options: QuantizeOptions,
): Promise<void> {
  const { signal } = options;
  await withCheckpoint(platform, file, signal, async (checkpoint, opened) => {
    const weights = canonicalWeights(checkpoint);
    const packed = packWeights(weights, chooseDTypes(weights.tensors, options));
    const { nVocab } = weights.config;
    await writePacked(sink, {
      ...withProgress(packed, options),
      tokenizer: await tokenizerFile(platform, opened, checkpoint, nVocab, options),
      metadata: packedMetadata(weights),
    });
  });
}

/**
 * What `quantize` would write with these options; every matrix is read, nothing is written.
 * @throws UsageError for a policy that does not fit the model, or a value that a type cannot hold
 */
export async function previewQuantize(
  platform: Platform,
  file: FileSource,
  options: Omit<QuantizeOptions, "tokenizer">,
): Promise<QuantizePreview> {
  const { signal, onProgress } = options;
  return withCheckpoint(platform, file, signal, async (checkpoint) => {
    const weights = canonicalWeights(checkpoint);
    const packed = packWeights(weights, chooseDTypes(weights.tensors, options));
    const bytesTotal = sumOf(packed.matrices);
    let bytesDone = 0;
    const matrices: MatrixPreview[] = [];
    for (const { name, shape, dtype, layout, byteLength } of packed.matrices) {
      signal?.throwIfAborted();
      const weight = weights.tensors.get(name)!;
      const relativeError =
        dtype === weight.dtype ? 0 : await estimateError(weight, dtype as EncodedDType, signal);
      matrices.push({ name, shape, storedDType: weight.dtype, dtype, layout, byteLength, relativeError });
      bytesDone += byteLength;
      onProgress?.({ phase: "load", bytesDone, bytesTotal, tensor: name });
    }
    return { matrices, matrixByteLength: bytesTotal, otherByteLength: sumOf(packed.tensors) };
  });
}

function sumOf(tensors: readonly { readonly byteLength: number }[]): number {
  return tensors.reduce((sum, { byteLength }) => sum + byteLength, 0);
}

/** Elements that are rounded to estimate the error of a matrix. */
const SAMPLE_ELEMENTS = 2 ** 17;

async function estimateError(
  weight: CanonicalWeight,
  dtype: EncodedDType,
  signal?: AbortSignal,
): Promise<number> {
  const [nRows, nColumns] = weight.shape as readonly [number, number];
  const stored = new Uint8Array(weight.byteLength);
  await weight.read(stored, signal);
  const rowBytes = byteLengthOf(weight.dtype, [nColumns]);
  const exact = new Float32Array(nColumns);
  const rounded = new Float32Array(nColumns);
  const encoded = new Uint8Array(byteLengthOf(dtype, [nColumns]));
  const step = Math.max(1, Math.floor((nRows * nColumns) / SAMPLE_ELEMENTS));
  let errors = 0;
  let values = 0;
  for (let row = 0; row < nRows; row += step) {
    decodeToF32(weight.dtype, stored.subarray(row * rowBytes, (row + 1) * rowBytes), exact);
    encodeFromF32(dtype, exact, encoded);
    decodeToF32(dtype, encoded, rounded);
    for (let i = 0; i < nColumns; i++) {
      errors += (rounded[i]! - exact[i]!) ** 2;
      values += exact[i]! ** 2;
    }
  }
  return values === 0 ? 0 : Math.sqrt(errors / values);
}

/** The tokenizer to put inside; byte models need none. */
async function tokenizerFile(
  platform: Platform,
  opened: OpenedFile,
  checkpoint: Checkpoint,
  nVocab: number,
  { tokenizer: wanted, signal }: QuantizeOptions,
): Promise<Uint8Array | null> {
  const found = await findTokenizerFile(platform, opened, checkpoint, nVocab, wanted, signal);
  return found === null ? null : fileOf(found);
}

/** Counts bytes as tensors are read, and stops between two of them if aborted. */
function withProgress(
  { matrices, tensors }: PackedWeights,
  { signal, onProgress }: QuantizeOptions,
): PackedWeights {
  const bytesTotal = sumOf(matrices) + sumOf(tensors);
  let bytesDone = 0;
  const counted = <T extends Pick<MatrixToPack, "name" | "byteLength" | "read">>(tensor: T): T => ({
    ...tensor,
    read: async (target) => {
      signal?.throwIfAborted();
      await tensor.read(target, signal);
      bytesDone += tensor.byteLength;
      onProgress?.({ phase: "load", bytesDone, bytesTotal, tensor: tensor.name });
    },
  });
  return { matrices: matrices.map(counted), tensors: tensors.map(counted) };
}
