// Puts a model on a device: uploads every weight once, straight from where it is stored, and has the forward pass of
// its version recorded. Hides which weights the host keeps and which types the device gets.

import { byteLengthOf, countElements, isQuantized, type WeightDType } from "../core/dtype.ts";
import type { EncodedDType } from "../core/decode.ts";
import type { Activations, Backend, Program, ProgramBuilder } from "../ops/backend.ts";
import type { Tensor } from "../ops/tensor.ts";
import { GROUP_NORM_EPS, type ModelConfig } from "./config.ts";
import {
  readEmbeddingTable,
  readPositionTable,
  type EmbeddingTable,
  type PositionTable,
} from "./embedding.ts";
import { declareForward } from "./forward.ts";
import { stateFromTimeState } from "./state.ts";
import { checkFirstRow, deviceDType, readVector, recode } from "./values.ts";
import type { CanonicalWeight, CanonicalWeights } from "./weights/canonical.ts";

export interface LoadProgramOptions {
  /** Most rows of one step. */
  readonly maxRows: number;
  /** Precision of activations in products with quantised weights. Default `f32`. */
  readonly activations?: Activations | undefined;
  /** Whether zeros are skipped where most inputs of a matrix are zero. Default true. */
  readonly skipZeros?: boolean | undefined;
  /** Default 64e-5, as every official program has it; rwkv.cpp computes RWKV-5 with 1e-5. */
  readonly groupNormEps?: number | undefined;
  /**
   * Encodes the matrices in another type at load. `q8_0` is for the large ones: low-rank factors, and matrices whose
   * rows are no multiple of 32, keep 16 bits (f32 becomes f16). Default: as stored.
   */
  readonly dtype?: EncodedDType | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Bytes as stored in the file; `name` is the official name of the tensor just taken. */
  readonly onProgress?: ((bytesDone: number, bytesTotal: number, name: string) => void) | undefined;
}

/** A model on a device, and what stays on the host. */
export interface LoadedProgram {
  readonly program: Program;
  readonly config: ModelConfig;
  /** Elements per row of each of the program's inputs: the embedding, then the position where the model has one. */
  readonly inputWidths: readonly number[];
  readonly embedding: EmbeddingTable;
  readonly positions: PositionTable | null;
  /** The tuned state merged into the checkpoint, laid out as `stateLayout`; null for the empty state. */
  readonly initialState: Float32Array | null;
}

/**
 * @throws FormatError if a tensor cannot be read or is not finite
 * @throws UsageError if a weight does not fit the type asked for
 * @throws DeviceError if the device has no room
 * @throws the signal's reason if aborted; nothing stays on the device
 */
export async function loadProgram(
  backend: Backend,
  weights: CanonicalWeights,
  options: LoadProgramOptions,
): Promise<LoadedProgram> {
  const { source, config, tensors } = weights;
  const { signal } = options;
  let bytesTotal = 0;
  for (const { byteLength } of tensors.values()) bytesTotal += byteLength;
  let bytesDone = 0;
  const advance = ({ byteLength, name }: CanonicalWeight): void => {
    bytesDone += byteLength;
    options.onProgress?.(bytesDone, bytesTotal, name);
  };

  signal?.throwIfAborted();
  const uploaded = [...tensors.values()].filter(
    ({ rule }) => rule.kind !== "embedding" && rule.kind !== "position",
  );
  const builder = backend.createBuilder({
    maxRows: options.maxRows,
    activations: options.activations,
    skipZeros: options.skipZeros,
    weightByteLength: uploaded.reduce((sum, weight) => sum + loadedByteLength(weight, options.dtype), 0),
  });
  try {
    const emb = tensors.get("emb.weight")!;
    const embedding = await readEmbeddingTable(source, emb, signal);
    advance(emb);
    const positions = await readPositions(weights, advance, signal);
    const handles = new Map<string, Tensor>();
    for (const weight of uploaded) {
      signal?.throwIfAborted();
      handles.set(weight.name, await upload(builder, source, weight, options));
      advance(weight);
    }
    const initialState =
      weights.timeState === null ? null : await stateFromTimeState(source, weights.timeState, config, signal);
    const forward = declareForward(builder, config, handles, {
      groupNormEps: options.groupNormEps ?? GROUP_NORM_EPS,
      rescaleEveryNLayers: weights.rescaleEveryNLayers,
    });
    const program = await builder.build(forward);
    const inputWidths = positions === null ? [config.nEmbd] : [config.nEmbd, config.nEmbd];
    return { program, config, inputWidths, embedding, positions, initialState };
  } catch (error) {
    builder.dispose();
    throw error;
  }
}

async function readPositions(
  { config, tensors }: CanonicalWeights,
  advance: (weight: CanonicalWeight) => void,
  signal?: AbortSignal,
): Promise<PositionTable | null> {
  const x = tensors.get("blocks.0.pos_emb_x");
  const y = tensors.get("blocks.0.pos_emb_y");
  if (x === undefined || y === undefined) return null;
  const table = await readPositionTable(config.positions, x, y, signal);
  advance(x);
  advance(y);
  return table;
}

async function upload(
  builder: ProgramBuilder,
  source: string,
  weight: CanonicalWeight,
  options: LoadProgramOptions,
): Promise<Tensor> {
  const { name, rule } = weight;
  const { signal } = options;
  if (rule.kind === "vector") {
    const values = await readVector(source, weight, signal);
    const bytes = new Uint8Array(values.buffer);
    const read = (target: Uint8Array): Promise<void> => {
      target.set(bytes);
      return Promise.resolve();
    };
    return builder.weight(
      { name, shape: [values.length], dtype: "f32", byteLength: bytes.byteLength, read },
      signal,
    );
  }
  const dtype = loadedDType(weight, options.dtype);
  return builder.weight(
    {
      name,
      shape: rule.shape,
      dtype,
      hasSparseInputs: rule.hasSparseInputs,
      byteLength: loadedByteLength(weight, options.dtype),
      async read(target, readSignal) {
        if (dtype === weight.dtype) {
          await weight.read(target, readSignal);
          checkFirstRow(source, weight, target);
          return;
        }
        const stored = new Uint8Array(weight.byteLength);
        await weight.read(stored, readSignal);
        checkFirstRow(source, weight, stored);
        // a type other than the stored one is one that values can be written in
        recode(weight, stored, dtype as EncodedDType, target);
      },
    },
    signal,
  );
}

/** Bytes on the device. */
function loadedByteLength(weight: CanonicalWeight, asked: EncodedDType | undefined): number {
  const { kind, shape, repeat } = weight.rule;
  if (kind === "vector") return 4 * repeat * countElements(shape);
  return byteLengthOf(loadedDType(weight, asked), shape);
}

function loadedDType(weight: CanonicalWeight, asked: EncodedDType | undefined): WeightDType {
  if (asked === undefined) return deviceDType(weight.dtype);
  if (asked !== "q8_0") return asked;
  const isLarge = weight.rule.kind === "matrix" && weight.shape.at(-1)! % 32 === 0;
  if (isLarge) return "q8_0";
  const keeps = isQuantized(weight.dtype) || weight.dtype === "f16" || weight.dtype === "bf16";
  return keeps ? weight.dtype : "f16";
}
