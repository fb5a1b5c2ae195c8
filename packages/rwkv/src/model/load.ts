// Puts a model on a device: uploads every weight once, straight from where it is stored, and has the forward pass of
// its version recorded. Hides which weights the host keeps and which types the device gets.

import type { ReadPart } from "../core/byte-source.ts";
import type { EncodedDType } from "../core/decode.ts";
import { byteLengthOf, countElements } from "../core/dtype.ts";
import type { Activations, Backend, OnCompiled, Program, ProgramBuilder } from "../ops/backend.ts";
import type { Tensor } from "../ops/tensor.ts";
import { GROUP_NORM_EPS, type ModelConfig } from "./config.ts";
import {
  readEmbeddingTable,
  readPositionTable,
  type EmbeddingTable,
  type PositionTable,
} from "./embedding.ts";
import { declareForward } from "./forward.ts";
import { chooseDTypes, type ChooseDType } from "./policy.ts";
import { stateFromTimeState } from "./tuned-state.ts";
import { checkFirstRow, readMatrix, readVector } from "./values.ts";
import type { CanonicalWeight, CanonicalWeights } from "./weights/canonical.ts";

export interface LoadProgramOptions {
  /** Most rows of one step. */
  readonly maxRows: number;
  /** Precision of activations in products with quantised weights. Default `f32`. */
  readonly activations?: Activations | undefined;
  /** Whether zeros are skipped where most inputs of a matrix are zero. Default: where half of them zero pays. */
  readonly skipZeros?: boolean | undefined;
  /** Default 64e-5, as every official program has it; rwkv.cpp computes RWKV-5 with 1e-5. */
  readonly groupNormEps?: number | undefined;
  /** What matrices are encoded in at load, as `chooseDTypes` has it. Default: as stored. */
  readonly dtype?: EncodedDType | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Bytes as stored in the file; `name` is the official name of the tensor just taken. */
  readonly onProgress?: ((bytesDone: number, bytesTotal: number, name: string) => void) | undefined;
  /** After the last weight, where the device compiles kernels. */
  readonly onCompiled?: OnCompiled | undefined;
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
  const choose = chooseDTypes(tensors, { dtype: options.dtype });
  const uploaded = [...tensors.values()].filter(
    ({ rule }) => rule.kind !== "embedding" && rule.kind !== "position",
  );
  const builder = backend.createBuilder({
    maxRows: options.maxRows,
    activations: options.activations,
    weightByteLength: uploaded.reduce((sum, weight) => sum + uploadByteLength(weight, choose), 0),
    skipZeros: options.skipZeros,
  });
  let embedding: EmbeddingTable | null = null;
  try {
    const emb = tensors.get("emb.weight")!;
    embedding = await readEmbeddingTable(source, emb, choose(emb), signal);
    advance(emb);
    const positions = await readPositions(weights, advance, signal);
    const handles = new Map<string, Tensor>();
    for (const weight of uploaded) {
      signal?.throwIfAborted();
      handles.set(weight.name, await upload(builder, source, weight, choose, signal));
      advance(weight);
    }
    const initialState =
      weights.timeState === null ? null : await stateFromTimeState(source, weights.timeState, config, signal);
    const forward = declareForward(builder, config, handles, {
      groupNormEps: options.groupNormEps ?? GROUP_NORM_EPS,
      rescaleEveryNLayers: weights.rescaleEveryNLayers,
    });
    const program = await builder.build(forward, options.onCompiled);
    const inputWidths = positions === null ? [config.nEmbd] : [config.nEmbd, config.nEmbd];
    return { program, config, inputWidths, embedding, positions, initialState };
  } catch (error) {
    embedding?.close();
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
  choose: ChooseDType,
  signal?: AbortSignal,
): Promise<Tensor> {
  const { name, rule } = weight;
  const byteLength = uploadByteLength(weight, choose);
  if (rule.kind === "vector") {
    const isAsStored = weight.dtype === "f32" && rule.meaning === "asStored" && rule.repeat === 1;
    return builder.weight(
      {
        name,
        shape: [byteLength / 4],
        dtype: "f32",
        byteLength,
        place: isAsStored ? weight.place : undefined,
        async read(target, readSignal) {
          const values = await readVector(source, weight, readSignal);
          target.set(new Uint8Array(values.buffer));
        },
      },
      signal,
    );
  }
  const dtype = choose(weight);
  const { packed } = weight;
  if (packed !== undefined && dtype === weight.dtype) {
    return builder.weight(
      {
        name,
        shape: rule.shape,
        dtype,
        layout: packed.layout,
        hasSparseInputs: rule.hasSparseInputs,
        byteLength,
        place: packed.place,
        read: (target, readSignal) => packed.read(target, readSignal),
      },
      signal,
    );
  }
  return builder.weight(
    {
      name,
      shape: rule.shape,
      dtype,
      hasSparseInputs: rule.hasSparseInputs,
      byteLength,
      place: dtype === weight.dtype ? weight.place : undefined,
      read: (target, readSignal) => readMatrix(source, weight, dtype, target, readSignal),
      readPart: dtype === weight.dtype ? checkedParts(source, weight) : undefined,
    },
    signal,
  );
}

/** Parts of a matrix, the first row checked as `readMatrix` does it. */
function checkedParts(source: string, weight: CanonicalWeight): ReadPart | undefined {
  const { readPart } = weight;
  return (
    readPart &&
    (async (offset, target, signal) => {
      await readPart(offset, target, signal);
      if (offset === 0) checkFirstRow(source, weight, target);
    })
  );
}

/** Bytes that reach the device. */
function uploadByteLength(weight: CanonicalWeight, choose: ChooseDType): number {
  const { kind, shape, repeat } = weight.rule;
  if (kind === "vector") return 4 * repeat * countElements(shape);
  const dtype = choose(weight);
  return weight.packed !== undefined && dtype === weight.dtype
    ? weight.packed.byteLength
    : byteLengthOf(dtype, shape);
}
