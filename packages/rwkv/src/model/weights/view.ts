// Lazy views of a checkpoint's tensors: renamed, reshaped, cut into rows, transposed. Hides that files store the same
// matrix whole or fused, in either orientation; nothing is read before the view is.

import type { FilePlace, ReadPart } from "../../core/byte-source.ts";
import { byteLengthOf, countElements, DTYPES, isQuantized, type DType } from "../../core/dtype.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import type { CheckpointTensor, PackedBytes } from "../../formats/checkpoint.ts";

/**
 * Orientation in which a scheme stores low-rank factors: `[in, out]` as the official files, `[out, in]`, or either,
 * to be told by the dimension that equals the embedding width.
 */
export type LoraOrder = "in-out" | "out-in" | "by-shape";

/**
 * What the values of v4's and v5's decays and bonuses are; all other tensors are `raw`.
 *
 * - `raw`: as official files store them
 * - `applied`: what the recurrence uses, as in rwkv.cpp's files
 * - `logarithm`: the bonus of the oldest v5 models, `time_first`, whose exponential the recurrence uses
 */
export type WeightForm = "raw" | "applied" | "logarithm";

/** A tensor as a naming scheme hands it on. */
export interface TensorView {
  /** The name in the file, for messages. */
  readonly fileName: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly form: WeightForm;
  readonly loraOrder: LoraOrder;
  /** Where a file of this machine has just the bytes that `read` delivers. */
  readonly place: FilePlace | undefined;
  /** The same elements in another order, where the file has one; none after any change to the view. */
  readonly packed?: PackedBytes | undefined;
  /** Fills `target` with the elements of `shape`, row-major, in `dtype`. */
  read(target: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Fills `target` with bytes of what `read` delivers, from `offset` on; absent where only all of it can be read. */
  readonly readPart?: ReadPart | undefined;
}

/** Of a tensor whose values are made by `read`: the file has them nowhere. */
export const MADE_BY_READ = { place: undefined, packed: undefined, readPart: undefined } as const;

export function viewOf(
  tensor: CheckpointTensor,
  loraOrder: LoraOrder = "by-shape",
  form: WeightForm = "raw",
): TensorView {
  const { name, dtype, shape, place, packed, readPart } = tensor;
  return {
    fileName: name,
    dtype,
    shape,
    form,
    loraOrder,
    place,
    packed,
    read: (target, signal) => tensor.read(target, signal),
    readPart,
  };
}

/** The same elements under another shape, whose last dimension keeps whole blocks together. */
export function reshaped(view: TensorView, shape: readonly number[]): TensorView {
  return { ...view, shape, packed: undefined };
}

/**
 * Cuts a tensor into `nParts` equal parts along its first dimension. The parts are exact ranges of bytes, quantised
 * ones too. The whole is read once and let go when every part has been taken.
 * @throws FormatError if the first dimension is not a multiple of `nParts`
 */
export function rowParts(view: TensorView, nParts: number): TensorView[] {
  const [nRows = 1, ...rest] = view.shape;
  if (nRows % nParts !== 0 || view.shape.length < 2) {
    throw new FormatError(
      `Tensor "${view.fileName}" should hold ${nParts} equal parts along its first dimension, but its shape is ` +
        `[${view.shape.join(", ")}]. The file is damaged or of an unknown variant.`,
    );
  }
  const shape = nParts === nRows ? rest : [nRows / nParts, ...rest];
  const wholeByteLength = byteLengthOf(view.dtype, view.shape);
  const partByteLength = wholeByteLength / nParts;
  let whole: Promise<Uint8Array> | null = null;
  const waiting = new Set<number>();

  async function readWhole(signal?: AbortSignal): Promise<Uint8Array> {
    const bytes = new Uint8Array(wholeByteLength);
    await view.read(bytes, signal);
    return bytes;
  }

  return Array.from({ length: nParts }, (_, part) => ({
    ...view,
    fileName: `${view.fileName}[${part}]`,
    shape,
    place: view.place && { ...view.place, offset: view.place.offset + part * partByteLength },
    packed: undefined,
    readPart: undefined, // parts wait for each other, so that the whole is read once
    async read(target: Uint8Array, signal?: AbortSignal): Promise<void> {
      if (whole === null) {
        whole = readWhole(signal);
        for (let i = 0; i < nParts; i++) waiting.add(i);
      }
      try {
        const bytes = await whole;
        target.set(bytes.subarray(part * partByteLength, (part + 1) * partByteLength));
        waiting.delete(part);
        if (waiting.size === 0) whole = null;
      } catch (error) {
        whole = null;
        throw error;
      }
    },
  }));
}

/**
 * The tensor with its last two dimensions exchanged.
 * @throws UnsupportedError for quantised tensors: blocks run along the last dimension
 */
export function transposed(view: TensorView): TensorView {
  if (isQuantized(view.dtype)) {
    throw new UnsupportedError(
      `Tensor "${view.fileName}" is quantised (${view.dtype}) with its dimensions [${view.shape.join(", ")}] in the ` +
        `opposite order; blocks cannot be transposed exactly. Convert the model from an unquantised file.`,
    );
  }
  const nColumns = view.shape.at(-1) ?? 1;
  const nRows = view.shape.at(-2) ?? 1;
  const shape = [...view.shape.slice(0, -2), nColumns, nRows];
  return {
    ...view,
    ...MADE_BY_READ,
    shape,
    loraOrder: view.loraOrder === "by-shape" ? "by-shape" : view.loraOrder === "in-out" ? "out-in" : "in-out",
    async read(target, signal) {
      const source = new Uint8Array(target.byteLength);
      await view.read(source, signal);
      transposeElements(target, source, nRows, nColumns, DTYPES[view.dtype].blockBytes);
    },
  };
}

/** Transposes each matrix `[nRows, nColumns]` of a stack of them. */
export function transposeElements(
  target: Uint8Array,
  source: Uint8Array,
  nRows: number,
  nColumns: number,
  elementBytes: number,
): void {
  const matrixBytes = nRows * nColumns * elementBytes;
  for (let base = 0; base < source.byteLength; base += matrixBytes) {
    for (let row = 0; row < nRows; row++) {
      for (let column = 0; column < nColumns; column++) {
        const from = base + (row * nColumns + column) * elementBytes;
        const to = base + (column * nRows + row) * elementBytes;
        for (let b = 0; b < elementBytes; b++) target[to + b] = source[from + b]!;
      }
    }
  }
}

/** Dimensions other than 1: files keep or drop unit dimensions as they like. */
export function withoutUnits(shape: readonly number[]): number[] {
  return shape.filter((dimension) => dimension !== 1);
}

/** The shape as a matrix: leading unit dimensions dropped; null if it is none. */
export function matrixShape(shape: readonly number[]): readonly [number, number] | null {
  const [rows, columns] = shape.slice(-2);
  if (rows === undefined || columns === undefined) return null;
  return countElements(shape) === rows * columns ? [rows, columns] : null;
}
