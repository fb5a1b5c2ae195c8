// From a weight's stored numbers to those the device gets: vectors are decoded to f32 and given the meaning the forward
// pass expects; matrices keep their type, or are encoded again in pieces, so that no second whole copy is made in f32.

import { decodeToF32, encodeFromF32, type EncodedDType } from "../core/decode.ts";
import { byteLengthOf, countElements, type WeightDType } from "../core/dtype.ts";
import { FormatError, UsageError } from "../core/errors.ts";
import type { CanonicalWeight } from "./weights/canonical.ts";

/** Most elements that are held in f32 while a matrix is encoded again. */
const PIECE_ELEMENTS = 2 ** 20;

/** Magnitudes above this become infinite in f16, or have no d or m of a block that is finite in f16. */
const LIMITS: Readonly<Partial<Record<EncodedDType, number>>> = {
  f16: 65519,
  q8_0: 127 * 65504,
  q8: 127 * 65504,
  q4: 65504,
  nf4: 127 * 65504,
  sf4: 127 * 65504,
};

/** The stored values of a weight in f32, in its canonical shape. */
export async function readValues(
  weight: CanonicalWeight,
  signal?: AbortSignal,
): Promise<Float32Array<ArrayBuffer>> {
  const values = new Float32Array(countElements(weight.shape));
  const isF32 = weight.dtype === "f32";
  const bytes = isF32 ? new Uint8Array(values.buffer) : new Uint8Array(weight.byteLength);
  await weight.read(bytes, signal);
  if (!isF32) decodeToF32(weight.dtype, bytes, values);
  return values;
}

/**
 * A vector as the forward pass wants it: transformed (computed in f64, rounded once) and repeated.
 * @param source - name of the checkpoint, for messages
 * @throws FormatError if a value is not finite
 */
export async function readVector(
  source: string,
  weight: CanonicalWeight,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const stored = await readValues(weight, signal);
  const { repeat, meaning } = weight.rule;
  if (meaning === "asStored" && repeat === 1) {
    checkFinite(source, weight, stored);
    return stored;
  }
  const transform = transformOf(weight);
  const values = new Float32Array(stored.length * repeat);
  for (let i = 0; i < values.length; i++) values[i] = transform(stored[Math.floor(i / repeat)]!);
  checkFinite(source, weight, values);
  return values;
}

function transformOf({ rule, form }: CanonicalWeight): (value: number) => number {
  switch (rule.meaning) {
    case "asStored":
      return (value) => value;
    case "currentShare":
      return (share) => 1 - share;
    case "logDecay4":
      return form === "applied" ? (value) => value : (raw) => -Math.exp(raw);
    case "decay5":
      return form === "applied" ? (value) => value : (raw) => Math.exp(-Math.exp(raw));
    case "bonus5":
      return form === "logarithm" ? (raw) => Math.exp(raw) : (value) => value;
  }
}

/** @throws FormatError naming the first value that is NaN or infinite */
export function checkFinite(source: string, weight: CanonicalWeight, values: Float32Array): void {
  for (let i = 0; i < values.length; i++) {
    if (Number.isFinite(values[i])) continue;
    throw new FormatError(
      `${source}: tensor "${weight.fileName}" holds ${values[i]!} at element ${i}. The file is damaged: download it again.`,
    );
  }
}

/** Checks the first row of a matrix: a damaged or misread file shows there as elsewhere. */
export function checkFirstRow(source: string, weight: CanonicalWeight, bytes: Uint8Array): void {
  const nColumns = weight.shape.at(-1)!;
  const row = new Float32Array(nColumns);
  decodeToF32(weight.dtype, bytes.subarray(0, byteLengthOf(weight.dtype, [nColumns])), row);
  checkFinite(source, weight, row);
}

/**
 * Reads the rows of a matrix in another type than it is stored in, or in the same.
 * @param rows - as many bytes as the matrix takes in `dtype`
 * @throws FormatError if the file is damaged, UsageError if a value is too large for the type
 */
export async function readMatrix(
  source: string,
  weight: CanonicalWeight,
  dtype: WeightDType,
  rows: Uint8Array,
  signal?: AbortSignal,
): Promise<void> {
  const stored = dtype === weight.dtype ? rows : new Uint8Array(weight.byteLength);
  await weight.read(stored, signal);
  checkFirstRow(source, weight, stored);
  // a type other than the stored one is one that values can be written in
  if (stored !== rows) recode(weight, stored, dtype as EncodedDType, rows);
}

/**
 * Encodes stored elements in another type, a piece at a time.
 * @param scale - multiplies every value; 1 keeps it
 * @throws UsageError if a value is too large for the type
 * @throws FormatError if a value is NaN or infinite
 */
export function recode(
  weight: Pick<CanonicalWeight, "name" | "dtype" | "shape">,
  bytes: Uint8Array,
  dtype: EncodedDType,
  target: Uint8Array,
  scale = 1,
): void {
  const nColumns = weight.shape.at(-1) ?? 1;
  const nRows = countElements(weight.shape) / nColumns;
  const rowBytes = byteLengthOf(weight.dtype, [nColumns]);
  const targetRowBytes = byteLengthOf(dtype, [nColumns]);
  const rowsPerPiece = Math.max(1, Math.floor(PIECE_ELEMENTS / nColumns));
  const piece = new Float32Array(Math.min(rowsPerPiece, nRows) * nColumns);
  for (let row = 0; row < nRows; row += rowsPerPiece) {
    const end = Math.min(row + rowsPerPiece, nRows);
    const values = piece.subarray(0, (end - row) * nColumns);
    decodeToF32(weight.dtype, bytes.subarray(row * rowBytes, end * rowBytes), values);
    if (scale !== 1) for (let i = 0; i < values.length; i++) values[i] = values[i]! * scale;
    checkRange(weight.name, dtype, values);
    encodeFromF32(dtype, values, target.subarray(row * targetRowBytes, end * targetRowBytes));
  }
}

/**
 * @throws UsageError naming a value that is too large for the type
 * @throws FormatError if a value is NaN or infinite
 */
export function checkRange(name: string, dtype: EncodedDType, values: Float32Array): void {
  const limit = LIMITS[dtype] ?? Number.MAX_VALUE;
  for (const value of values) {
    if (value <= limit && value >= -limit) continue;
    if (!Number.isFinite(value)) {
      throw new FormatError(
        `Tensor "${name}" holds ${value}. The file is damaged: download or make it again.`,
      );
    }
    throw new UsageError(
      `Tensor "${name}" holds ${value}, which ${dtype} cannot: its largest value is ${limit}. ` +
        `Use bf16 or f32 for this tensor.`,
    );
  }
}

/** The type as which a matrix reaches the device when nothing is asked: no backend computes in f64. */
export function deviceDType(stored: WeightDType): Exclude<WeightDType, "f64"> {
  return stored === "f64" ? "f32" : stored;
}
