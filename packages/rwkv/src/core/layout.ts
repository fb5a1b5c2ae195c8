// Orders in which the bytes of a matrix are kept: as files have them, or as kernels read them. The bytes are the same in
// every order, but for padding and a flipped top bit, so that nothing is rounded by going from one to another.
//
//   rows      row-major, as in every other file format
//
//   panels    16 outputs together, so that a vector holds a value of each and a sum over the inputs crosses no lane.
//             For each panel of 16 rows (the last one filled up with zero rows):
//               plain types   for each input: its weights of the 16 outputs
//               blocks        for each block of inputs: each f16 field of the 16 outputs, then all else of the block
//                             as words of four bytes of each output:
//                             | 16 x f16 d | 16 x f16 m, if any | n x (16 outputs x 4 bytes) |
//             Four bytes are four consecutive inputs of one output, what a lane of an int8 dot product takes. Words keep
//             their order but in q3_k and q6_k, where they are put into that in which a product wants them: scales first,
//             and of each half of q6_k 32 bytes of low bits, 32 of high bits, 32 of low bits.
//
//   columns   one input after the other, so that an input that is zero costs nothing, not even the reading. Outputs are
//             padded to a multiple of 64, n of them:
//               plain types   for each input: its n weights
//               blocks        for each block of inputs: | n x f16 d | n x f16 m, if any |, then for each input of the
//                             block n bytes, or n / 2 bytes where two 4-bit quants share one: of each segment of 64
//                             outputs byte j holds output j in its low and output j + 32 in its high nibble
//
// In panels and columns the quants of q8_0 and q8 are kept as q + 128. Columns are there for blocks that are one scale, a
// minimum or none, and quants of 4 or 8 bits.

import { byteLengthOf, DTYPES, isQuantized, type QuantDType, type WeightDType } from "./dtype.ts";
import { ShapeError, UsageError } from "./errors.ts";

/** The order of a matrix's bytes, as drawn above. */
export type WeightLayout = "rows" | "panels" | "columns";

/** Outputs of a panel. */
export const PANEL_OUTPUTS = 16;
/** Outputs that columns are padded to a multiple of. */
export const COLUMN_OUTPUTS = 64;

interface BlockFields {
  /** Where the f16 fields stand: d, or d and a minimum. */
  readonly halves: readonly number[];
  /** Where the other bytes stand, from and to, in the order of panels; whole words. */
  readonly words: readonly (readonly [number, number])[];
  /**
   * What the other bytes are: quants of 8 bits; of 4 bits, two in a byte, that of the first and that of the second half
   * of the block; or more than columns can be made of.
   */
  readonly quants: "bytes" | "nibbles" | "other";
}

const BLOCK_FIELDS: Readonly<Record<QuantDType, BlockFields>> = {
  q4_0: { halves: [0], words: [[2, 18]], quants: "nibbles" },
  q4_1: { halves: [0, 2], words: [[4, 20]], quants: "nibbles" },
  q5_0: { halves: [0], words: [[2, 22]], quants: "other" },
  q5_1: { halves: [0, 2], words: [[4, 24]], quants: "other" },
  q8_0: { halves: [0], words: [[2, 34]], quants: "bytes" },
  q2_k: { halves: [80, 82], words: [[0, 80]], quants: "other" },
  q3_k: {
    halves: [108],
    words: [
      [96, 108],
      [0, 96],
    ],
    quants: "other",
  },
  q4_k: { halves: [0, 2], words: [[4, 144]], quants: "other" },
  q5_k: { halves: [0, 2], words: [[4, 176]], quants: "other" },
  q6_k: {
    halves: [208],
    words: [
      [192, 208],
      [0, 32],
      [128, 160],
      [32, 64],
      [64, 96],
      [160, 192],
      [96, 128],
    ],
    quants: "other",
  },
  q8: { halves: [0], words: [[2, 66]], quants: "bytes" },
  q4: { halves: [0, 2], words: [[4, 36]], quants: "nibbles" },
  nf4: { halves: [0], words: [[2, 34]], quants: "nibbles" },
  sf4: { halves: [0], words: [[2, 34]], quants: "nibbles" },
};

/** What turns a signed byte into q + 128. */
const TOP_BIT = 0x80;

/** Whether a matrix of that type can be kept in panels. */
export function hasPanels(dtype: WeightDType): boolean {
  return dtype !== "f64";
}

/** Whether a matrix of that type can be kept in every order. */
export function hasLayouts(dtype: WeightDType): boolean {
  return hasPanels(dtype) && fieldsOf(dtype)?.quants !== "other";
}

/**
 * Bytes of a matrix `[out, in]` in an order.
 * @throws UsageError if the type does not have that order
 * @throws ShapeError if `in` is no whole number of blocks, or the shape is that of no matrix
 */
export function layoutByteLength(layout: WeightLayout, dtype: WeightDType, shape: readonly number[]): number {
  const { nOut, rowBytes } = matrixOf(layout, dtype, shape);
  return paddedOutputs(layout, nOut) * rowBytes;
}

/**
 * Brings rows into another order.
 * @param rows - the matrix `[out, in]` in rows
 * @param out - `layoutByteLength` bytes, of another buffer than `rows`
 * @throws UsageError, ShapeError as `layoutByteLength`
 */
export function packMatrix(
  layout: WeightLayout,
  dtype: WeightDType,
  shape: readonly number[],
  rows: Uint8Array,
  out: Uint8Array,
): void {
  const matrix = matrixOf(layout, dtype, shape);
  checkLengths(matrix, layout, rows, out);
  if (layout === "rows") {
    out.set(rows);
    return;
  }
  const { nOut, rowBytes } = matrix;
  const forUnits = layout === "panels" ? forPanelUnits : forColumnUnits;
  out.fill(0);
  forUnits(matrix, (packedAt, firstOutput, nOutputs, rowAt, nBytes, flip) => {
    let to = packedAt;
    for (let output = firstOutput; output < firstOutput + nOutputs; output++) {
      const from = output * rowBytes + rowAt;
      for (let i = 0; i < nBytes; i++) out[to++] = flip ^ (output < nOut ? rows[from + i]! : 0);
    }
  });
  if (layout === "columns" && matrix.fields?.quants === "nibbles") {
    forColumnNibbles(matrix, (packedAt, packedShift, output, rowAt, rowShift) => {
      out[packedAt]! |= ((rows[output * rowBytes + rowAt]! >> rowShift) & 15) << packedShift;
    });
  }
}

/**
 * Brings a matrix in any order back into rows.
 * @param packed - `layoutByteLength` bytes
 * @param out - the matrix `[out, in]` in rows, another buffer than `packed`
 * @throws UsageError, ShapeError as `layoutByteLength`
 */
export function unpackMatrix(
  layout: WeightLayout,
  dtype: WeightDType,
  shape: readonly number[],
  packed: Uint8Array,
  out: Uint8Array,
): void {
  const matrix = matrixOf(layout, dtype, shape);
  checkLengths(matrix, layout, out, packed);
  if (layout === "rows") {
    out.set(packed);
    return;
  }
  const { nOut, rowBytes, fields } = matrix;
  if (fields !== null) {
    if (layout === "columns") unpackColumns(matrix, fields, packed, out);
    else unpackPanels(matrix, fields, packed, out);
    return;
  }
  const forUnits = layout === "panels" ? forPanelUnits : forColumnUnits;
  forUnits(matrix, (packedAt, firstOutput, nOutputs, rowAt, nBytes, flip) => {
    const end = Math.min(firstOutput + nOutputs, nOut);
    let from = packedAt;
    for (let output = firstOutput; output < end; output++) {
      const to = output * rowBytes + rowAt;
      for (let i = 0; i < nBytes; i++) out[to + i] = flip ^ packed[from++]!;
    }
  });
}

/** Panels of blocks, in plain loops: models are loaded through this where kernels want another order. */
function unpackPanels(matrix: Matrix, fields: BlockFields, packed: Uint8Array, out: Uint8Array): void {
  const { nOut, rowBytes, blockBytes } = matrix;
  const flip = fields.quants === "bytes" ? TOP_BIT : 0;
  let from = 0;
  for (let panel = 0; panel < nOut; panel += PANEL_OUTPUTS) {
    const nOutputs = Math.min(PANEL_OUTPUTS, nOut - panel);
    for (let block = panel * rowBytes; block < (panel + 1) * rowBytes; block += blockBytes) {
      for (const at of fields.halves) {
        for (let output = 0, to = block + at; output < nOutputs; output++, to += rowBytes) {
          out[to] = packed[from + 2 * output]!;
          out[to + 1] = packed[from + 2 * output + 1]!;
        }
        from += 2 * PANEL_OUTPUTS;
      }
      for (const [first, end] of fields.words) {
        for (let at = first; at < end; at += 4) {
          for (let output = 0, to = block + at; output < nOutputs; output++, to += rowBytes) {
            const word = from + 4 * output;
            out[to] = packed[word]! ^ flip;
            out[to + 1] = packed[word + 1]! ^ flip;
            out[to + 2] = packed[word + 2]! ^ flip;
            out[to + 3] = packed[word + 3]! ^ flip;
          }
          from += 4 * PANEL_OUTPUTS;
        }
      }
    }
  }
}

/** Columns of blocks, in segments of outputs, so that what is read and what is written stays in the nearest caches. */
function unpackColumns(matrix: Matrix, fields: BlockFields, packed: Uint8Array, out: Uint8Array): void {
  const { nOut, rowBytes, blockBytes, blockElements } = matrix;
  const nPadded = paddedOutputs("columns", nOut);
  const fieldBytes = 2 * fields.halves.length;
  const half = blockElements / 2;
  for (let block = 0; block < rowBytes; block += blockBytes) {
    const packedBlock = nPadded * block;
    const quants = packedBlock + nPadded * fieldBytes;
    for (let segment = 0; segment < nOut; segment += COLUMN_OUTPUTS) {
      const end = Math.min(segment + COLUMN_OUTPUTS, nOut);
      for (let field = 0; field < fieldBytes; field += 2) {
        for (let output = segment; output < end; output++) {
          const from = packedBlock + field * nPadded + 2 * output;
          const to = output * rowBytes + block + field;
          out[to] = packed[from]!;
          out[to + 1] = packed[from + 1]!;
        }
      }
      if (fields.quants === "nibbles") {
        for (let input = 0; input < half; input++) {
          const low = quants + (input * nPadded + segment) / 2;
          const high = low + (half * nPadded) / 2;
          for (let output = segment; output < end; output++) {
            const within = output - segment;
            const shift = within < 32 ? 0 : 4;
            const byte = within % 32;
            out[output * rowBytes + block + fieldBytes + input] =
              ((packed[low + byte]! >> shift) & 15) | (((packed[high + byte]! >> shift) & 15) << 4);
          }
        }
      } else {
        for (let input = 0; input < blockElements; input++) {
          const from = quants + input * nPadded;
          const to = block + fieldBytes + input;
          for (let output = segment; output < end; output++) {
            out[output * rowBytes + to] = packed[from + output]! ^ TOP_BIT;
          }
        }
      }
    }
  }
}

interface Matrix {
  readonly nOut: number;
  readonly rowBytes: number;
  readonly blockElements: number;
  readonly blockBytes: number;
  /** Null for plain types, of which an element counts as a block. */
  readonly fields: BlockFields | null;
}

function matrixOf(layout: WeightLayout, dtype: WeightDType, shape: readonly number[]): Matrix {
  const [nOut, nIn] = shape;
  if (shape.length !== 2 || nOut === undefined || nIn === undefined) {
    throw new ShapeError(`a matrix has the shape [out, in], but [${shape.join(", ")}] was given.`);
  }
  const isThere = layout === "rows" || (layout === "panels" ? hasPanels(dtype) : hasLayouts(dtype));
  if (!isThere) {
    const others = hasPanels(dtype) ? "rows or panels" : "rows";
    throw new UsageError(`matrices of ${dtype} are kept in ${others}; ${layout} were asked for.`);
  }
  const { blockElements, blockBytes } = DTYPES[dtype];
  return {
    nOut,
    rowBytes: byteLengthOf(dtype, [nIn]),
    blockElements,
    blockBytes,
    fields: fieldsOf(dtype),
  };
}

/** Null for plain types. */
function fieldsOf(dtype: WeightDType): BlockFields | null {
  return isQuantized(dtype) ? BLOCK_FIELDS[dtype] : null;
}

function paddedOutputs(layout: WeightLayout, nOut: number): number {
  const unit = layout === "rows" ? 1 : layout === "panels" ? PANEL_OUTPUTS : COLUMN_OUTPUTS;
  return Math.ceil(nOut / unit) * unit;
}

function checkLengths(
  { nOut, rowBytes }: Matrix,
  layout: WeightLayout,
  rows: Uint8Array,
  packed: Uint8Array,
): void {
  const packedBytes = paddedOutputs(layout, nOut) * rowBytes;
  if (rows.byteLength === nOut * rowBytes && packed.byteLength === packedBytes) return;
  throw new ShapeError(
    `a matrix of ${nOut} rows takes ${nOut * rowBytes} bytes in rows and ${packedBytes} in ${layout}, but ` +
      `${rows.byteLength} and ${packed.byteLength} bytes were given.`,
  );
}

/**
 * A few bytes of each of several outputs, which stay together: where those of the first output are in the packed matrix,
 * one output's after the other's, and where they are in the rows.
 */
type VisitUnits = (
  packedAt: number,
  firstOutput: number,
  nOutputs: number,
  rowAt: number,
  nBytes: number,
  flip: number,
) => void;

/** A quant of 4 bits: its byte in the packed matrix and in the row of its output, and the shift in either. */
type VisitNibble = (
  packedAt: number,
  packedShift: number,
  output: number,
  rowAt: number,
  rowShift: number,
) => void;

function forPanelUnits(matrix: Matrix, visit: VisitUnits): void {
  const { nOut, rowBytes, blockBytes, fields } = matrix;
  const { halves, words } = fields ?? { halves: [], words: [[0, blockBytes]] as const };
  const unitBytes = fields === null ? blockBytes : 4;
  const flip = fields?.quants === "bytes" ? TOP_BIT : 0;
  let packedAt = 0;
  for (let panel = 0; panel < nOut; panel += PANEL_OUTPUTS) {
    const visitPanel = (rowAt: number, nBytes: number, flipped: number): void => {
      visit(packedAt, panel, PANEL_OUTPUTS, rowAt, nBytes, flipped);
      packedAt += PANEL_OUTPUTS * nBytes;
    };
    for (let block = 0; block < rowBytes; block += blockBytes) {
      for (const at of halves) visitPanel(block + at, 2, 0);
      for (const [from, to] of words) {
        for (let at = from; at < to; at += unitBytes) visitPanel(block + at, unitBytes, flip);
      }
    }
  }
}

/** Everything but nibbles, which two outputs share. */
function forColumnUnits(matrix: Matrix, visit: VisitUnits): void {
  const { nOut, rowBytes, blockBytes, fields } = matrix;
  const nPadded = paddedOutputs("columns", nOut);
  const fieldBytes = 2 * (fields?.halves.length ?? 0);
  const quantBytes = fields === null ? blockBytes : 1;
  for (let block = 0; block < rowBytes; block += blockBytes) {
    const end = fields?.quants === "nibbles" ? fieldBytes : blockBytes;
    let packedAt = nPadded * block;
    for (let at = 0; at < end;) {
      const isField = at < fieldBytes;
      const nBytes = isField ? 2 : quantBytes;
      const flip = isField || fields === null ? 0 : TOP_BIT;
      visit(packedAt, 0, nPadded, block + at, nBytes, flip);
      packedAt += nPadded * nBytes;
      at += nBytes;
    }
  }
}

function forColumnNibbles(matrix: Matrix, visit: VisitNibble): void {
  const { nOut, rowBytes, blockBytes, blockElements, fields } = matrix;
  const nPadded = paddedOutputs("columns", nOut);
  const fieldBytes = 2 * (fields?.halves.length ?? 0);
  const half = blockElements / 2;
  for (let block = 0; block < rowBytes; block += blockBytes) {
    const quants = nPadded * (block + fieldBytes);
    for (let input = 0; input < blockElements; input++) {
      const rowAt = block + fieldBytes + (input % half);
      const rowShift = input < half ? 0 : 4;
      for (let output = 0; output < nOut; output++) {
        const within = output % COLUMN_OUTPUTS;
        const byte = (output - within) / 2 + (within % 32);
        visit(quants + (input * nPadded) / 2 + byte, within < 32 ? 0 : 4, output, rowAt, rowShift);
      }
    }
  }
}
