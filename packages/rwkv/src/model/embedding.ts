// Tables whose rows the host looks up and hands to a step: the embedding, and v4neo's positions. They stay in a type of
// their own, so that a device never needs room for them; one row is decoded at a time. Rows of a file on this machine are
// read when they are looked up: few of an embedding's are ever used.

import { decodeToF32 } from "../core/decode.ts";
import { byteLengthOf, type WeightDType } from "../core/dtype.ts";
import type { CanonicalWeight } from "./weights/canonical.ts";
import { checkFirstRow, readMatrix, readValues } from "./values.ts";

/** `emb.weight`, `[V, C]`. */
export interface EmbeddingTable {
  readonly nVocab: number;
  readonly nEmbd: number;
  /** In the type that it is kept in. */
  readonly byteLength: number;
  readonly rowByteLength: number;
  /** What it is kept in. */
  readonly dtype: WeightDType;
  /** The whole table; null where rows are looked up in a file. */
  readonly bytes: Uint8Array<ArrayBuffer> | null;
  /**
   * Writes the row of a token, `[C]`, at `offset` of `out`. The id must be below nVocab.
   * @throws FormatError if the file was changed meanwhile, DeviceError if it cannot be read
   */
  row(id: number, out: Float32Array, offset: number): void;
  /** Lets go of the file; rows cannot be looked up afterwards. */
  close(): void;
}

/** Rows by position in the sequence; zeros beyond the table, as the official runner does. */
export interface PositionTable {
  readonly nPositions: number;
  /** Of both tables, in f32. */
  readonly byteLength: number;
  /** Of the two rows that make a position's. */
  readonly rowByteLength: number;
  /** `[P, C]`: what is added for the remainder of a position by P. */
  readonly columns: Float32Array<ArrayBuffer>;
  /** `[P, C]`: what is added for the quotient. */
  readonly rows: Float32Array<ArrayBuffer>;
  row(position: number, out: Float32Array, offset: number): void;
}

/**
 * @param dtype - what the table is kept in, whatever the file has
 * @throws FormatError if the first row is not finite, UsageError if a value is too large for the type
 */
export async function readEmbeddingTable(
  source: string,
  weight: CanonicalWeight,
  dtype: WeightDType,
  signal?: AbortSignal,
): Promise<EmbeddingTable> {
  const [nVocab, nEmbd] = weight.shape as readonly [number, number];
  const { place } = weight;
  const byteLength = byteLengthOf(dtype, weight.shape);
  const rowByteLength = byteLengthOf(dtype, [nEmbd]);
  if (place === undefined || dtype !== weight.dtype) {
    const bytes = new Uint8Array(byteLength);
    await readMatrix(source, weight, dtype, bytes, signal);
    return embeddingTable(nVocab, nEmbd, dtype, bytes);
  }
  const reader = place.file.openRows();
  const row = new Uint8Array(rowByteLength);
  try {
    reader.read(place.offset, row);
    checkFirstRow(source, weight, row);
  } catch (error) {
    reader.close();
    throw error;
  }
  return {
    nVocab,
    nEmbd,
    byteLength,
    rowByteLength,
    dtype,
    bytes: null,
    row(id, out, offset) {
      reader.read(place.offset + id * rowByteLength, row);
      decodeToF32(dtype, row, out.subarray(offset, offset + nEmbd));
    },
    close: () => reader.close(),
  };
}

/** A table in memory. @param bytes - not copied */
export function embeddingTable(
  nVocab: number,
  nEmbd: number,
  dtype: WeightDType,
  bytes: Uint8Array<ArrayBuffer>,
): EmbeddingTable {
  const rowByteLength = byteLengthOf(dtype, [nEmbd]);
  return {
    nVocab,
    nEmbd,
    byteLength: bytes.byteLength,
    rowByteLength,
    dtype,
    bytes,
    row(id, out, offset) {
      const row = bytes.subarray(id * rowByteLength, (id + 1) * rowByteLength);
      decodeToF32(dtype, row, out.subarray(offset, offset + nEmbd));
    },
    close: () => undefined,
  };
}

/**
 * The sum of v4neo's two tables of P rows: position t takes row t mod P of `x` and row floor(t / P) of `y`, for
 * t < P * P - 1. Source: RWKV-LM, RWKV-v4neo/src/model.py, `pos_emb`.
 */
export async function readPositionTable(
  nPositions: number,
  x: CanonicalWeight,
  y: CanonicalWeight,
  signal?: AbortSignal,
): Promise<PositionTable> {
  const [, nEmbd] = x.shape as readonly [number, number];
  return positionTable(nPositions, nEmbd, await readValues(x, signal), await readValues(y, signal));
}

/** A table in memory. @param columns, rows - not copied */
export function positionTable(
  nPositions: number,
  nEmbd: number,
  columns: Float32Array<ArrayBuffer>,
  rows: Float32Array<ArrayBuffer>,
): PositionTable {
  const side = columns.length / nEmbd;
  return {
    nPositions,
    byteLength: columns.byteLength + rows.byteLength,
    rowByteLength: 8 * nEmbd,
    columns,
    rows,
    row(position, out, offset) {
      if (position >= nPositions) {
        out.fill(0, offset, offset + nEmbd);
        return;
      }
      const column = (position % side) * nEmbd;
      const row = Math.floor(position / side) * nEmbd;
      for (let i = 0; i < nEmbd; i++) out[offset + i] = columns[column + i]! + rows[row + i]!;
    },
  };
}
