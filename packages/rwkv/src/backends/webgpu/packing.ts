// From the rows of a file to those of the GPU, or to panels (kernels/formats.ts draws both ends): the same whole numbers and
// f16 fields in another order, so that nothing is rounded.

import { DTYPES, isQuantized, type QuantDType } from "../../core/dtype.ts";
import {
  BLOCK_FORMATS,
  PANEL_OUTPUTS,
  PLANE_WORDS,
  rowFormat,
  type GpuDType,
  type PlainDType,
  type RowFormat,
} from "./kernels/formats.ts";

/** How a matrix is laid down on the GPU. */
export interface Packing {
  /** Rows that lie together: one, or those of a panel. */
  readonly nTogether: number;
  /** What they take; a multiple of 4. */
  readonly words: number;
  /**
   * Packs rows.
   * @param rows - as files have them, all of one type
   * @param out - room for them, holding zeros
   */
  readonly pack: (rows: Uint8Array, out: Uint8Array) => void;
}

export function rowPacking(dtype: GpuDType, nIn: number): Packing {
  const format = rowFormat(dtype, nIn);
  return {
    nTogether: 1,
    words: format.rowWords,
    pack: (rows, out) => packRows(dtype, nIn, format, rows, out),
  };
}

export function panelPacking(dtype: PlainDType, nIn: number): Packing {
  const { blockBytes } = DTYPES[dtype];
  return {
    nTogether: PANEL_OUTPUTS,
    words: (PANEL_OUTPUTS * nIn * blockBytes) / 4,
    pack: (rows, out) => packPanels(elementsOf(rows, blockBytes), nIn, elementsOf(out, blockBytes)),
  };
}

type Elements = Uint16Array | Uint32Array;

const elementsOf = ({ buffer, byteOffset, byteLength }: Uint8Array, elementBytes: number): Elements =>
  elementBytes === 4
    ? new Uint32Array(buffer, byteOffset, byteLength / 4)
    : new Uint16Array(buffer, byteOffset, byteLength / 2);

function packPanels(rows: Elements, nIn: number, out: Elements): void {
  const nRows = rows.length / nIn;
  for (let row = 0; row < nRows; row++) {
    const within = row % PANEL_OUTPUTS;
    const at = (row - within) * nIn + within;
    for (let i = 0; i < nIn; i++) out[at + PANEL_OUTPUTS * i] = rows[row * nIn + i]!;
  }
}

/** Where the parts of one block of the file go, in bytes. */
interface Places {
  first: number;
  second: number;
  scales: number;
}

/** Packs all but the f16 fields of the block at `from[b]`; the destination holds zeros. */
type PackBlock = (to: Uint8Array, at: Places, from: Uint8Array, b: number) => void;

const copyBytes =
  (nBytes: number, start: number): PackBlock =>
  (to, { first }, from, b) => {
    for (let i = 0; i < nBytes; i++) to[first + i] = from[b + start + i]!;
  };

/** 64 inputs of which bytes hold input l and l + 32: the nibbles of two blocks. */
function packPairs(to: Uint8Array, first: number, from: Uint8Array, b: number): void {
  for (let i = 0; i < 16; i++) {
    const low = from[b + i]!;
    const high = from[b + 16 + i]!;
    to[first + i] = (low & 15) | ((high & 15) << 4);
    to[first + 16 + i] = (low >> 4) | (high & 0xf0);
  }
}

const pairs =
  (start: number): PackBlock =>
  (to, { first }, from, b) => {
    packPairs(to, first, from, b + start);
  };

/** One bit of each of 32 inputs, given by the input's number. @param at - the word of the block */
function packBits(to: Uint8Array, at: number, bitOf: (input: number) => number): void {
  for (let input = 0; input < 32; input++) {
    to[at + (input & 3)]! |= bitOf(input) << (input >> 2);
  }
}

/** Two bits of each of 32 inputs. @param at - the two words of the block */
function packCrumbs(to: Uint8Array, at: number, crumbOf: (input: number) => number): void {
  for (let input = 0; input < 32; input++) {
    const word = at + 4 * (input >> 4);
    to[word + (input & 3)]! |= crumbOf(input) << (2 * ((input & 15) >> 2));
  }
}

/** q5_0 and q5_1: a word of fifth bits, then nibbles. */
const fiveBits =
  (start: number): PackBlock =>
  (to, at, from, b) => {
    const high = b + start;
    packBits(to, at.second, (input) => (from[high + (input >> 3)]! >> (input & 7)) & 1);
    for (let i = 0; i < 16; i++) to[at.first + i] = from[high + 4 + i]!;
  };

/** The 12 bytes of 6-bit scales and minimums of q4_k and q5_k as bytes, a pair for each 32 inputs. */
function packScalesK4(to: Uint8Array, at: number, from: Uint8Array, s: number): void {
  for (let sub = 0; sub < 4; sub++) {
    to[at + 2 * sub] = from[s + sub]! & 63;
    to[at + 2 * sub + 1] = from[s + sub + 4]! & 63;
    to[at + 8 + 2 * sub] = (from[s + sub + 8]! & 15) | ((from[s + sub]! >> 6) << 4);
    to[at + 8 + 2 * sub + 1] = (from[s + sub + 8]! >> 4) | ((from[s + sub + 4]! >> 6) << 4);
  }
}

/** Crumbs of q2_k and q3_k: 32 bytes for each 128 inputs. @param b - the first of 64 bytes */
function packQuartets(to: Uint8Array, first: number, from: Uint8Array, b: number): void {
  for (let block = 0; block < 8; block++) {
    const bytes = b + 32 * (block >> 2);
    const shift = 2 * (block & 3);
    packCrumbs(to, first + 8 * block, (input) => (from[bytes + input]! >> shift) & 3);
  }
}

const packQ2K: PackBlock = (to, at, from, b) => {
  packQuartets(to, at.first, from, b + 16);
  for (let i = 0; i < 16; i++) to[at.scales + i] = from[b + i]!;
};

const packQ3K: PackBlock = (to, at, from, b) => {
  packQuartets(to, at.first, from, b + 32);
  for (let block = 0; block < 8; block++) {
    packBits(to, at.second + 4 * block, (input) => (from[b + input]! >> block) & 1);
  }
  for (let sub = 0; sub < 16; sub++) {
    const low = (from[b + 96 + (sub & 7)]! >> (4 * (sub >> 3))) & 15;
    const top = (from[b + 104 + (sub & 3)]! >> (2 * (sub >> 2))) & 3;
    to[at.scales + sub] = (low | (top << 4)) - 32;
  }
};

const packQ4K: PackBlock = (to, at, from, b) => {
  for (let pair = 0; pair < 4; pair++) packPairs(to, at.first + 32 * pair, from, b + 16 + 32 * pair);
  packScalesK4(to, at.scales, from, b + 4);
};

const packQ5K: PackBlock = (to, at, from, b) => {
  for (let pair = 0; pair < 4; pair++) packPairs(to, at.first + 32 * pair, from, b + 48 + 32 * pair);
  for (let block = 0; block < 8; block++) {
    packBits(to, at.second + 4 * block, (input) => (from[b + 16 + input]! >> block) & 1);
  }
  packScalesK4(to, at.scales, from, b + 4);
};

const packQ6K: PackBlock = (to, at, from, b) => {
  for (let block = 0; block < 8; block++) {
    const n = block & 3;
    const low = b + 64 * (block >> 2) + 32 * (n & 1);
    const high = b + 128 + 32 * (block >> 2);
    const shift = 4 * (n >> 1);
    for (let i = 0; i < 16; i++) {
      const quants = ((from[low + i]! >> shift) & 15) | (((from[low + 16 + i]! >> shift) & 15) << 4);
      to[at.first + 16 * block + i] = quants;
    }
    packCrumbs(to, at.second + 8 * block, (input) => (from[high + input]! >> (2 * n)) & 3);
  }
  for (let i = 0; i < 16; i++) to[at.scales + i] = from[b + 192 + i]!;
};

const PACKERS: Readonly<Record<QuantDType, PackBlock>> = {
  q4_0: copyBytes(16, 2),
  q4_1: copyBytes(16, 4),
  q5_0: fiveBits(2),
  q5_1: fiveBits(4),
  q8_0: copyBytes(32, 2),
  q2_k: packQ2K,
  q3_k: packQ3K,
  q4_k: packQ4K,
  q5_k: packQ5K,
  q6_k: packQ6K,
  q8: copyBytes(64, 2),
  q4: pairs(4),
  nf4: pairs(2),
  sf4: pairs(2),
};

/**
 * Packs rows of a matrix.
 * @param rows - as files have them, all of one type, `nIn` inputs each
 * @param out - room for as many rows of that format, holding zeros
 */
export function packRows(
  dtype: GpuDType,
  nIn: number,
  format: RowFormat,
  rows: Uint8Array,
  out: Uint8Array,
): void {
  const { blockElements, blockBytes } = DTYPES[dtype];
  const fileRowBytes = (nIn / blockElements) * blockBytes;
  const rowBytes = 4 * format.rowWords;
  const nRows = out.byteLength / rowBytes;
  for (let row = 0; row < nRows; row++) {
    const from = row * fileRowBytes;
    if (isQuantized(dtype)) packBlocks(dtype, format, out, row * rowBytes, rows, from, from + fileRowBytes);
    else out.set(rows.subarray(from, from + fileRowBytes), row * rowBytes);
  }
}

function packBlocks(
  dtype: QuantDType,
  { secondAt, scalesAt, fieldsAt }: RowFormat,
  out: Uint8Array,
  start: number,
  rows: Uint8Array,
  from: number,
  end: number,
): void {
  const { blockElements, blockBytes } = DTYPES[dtype];
  const { first, second, halves } = BLOCK_FORMATS[dtype];
  const blockWords = blockElements / 32;
  const firstBytes = 4 * PLANE_WORDS[first] * blockWords;
  const secondBytes = second === null ? 0 : 4 * PLANE_WORDS[second] * blockWords;
  const at = { first: start, second: start + 4 * secondAt, scales: start + 4 * scalesAt };
  let fields = start + 4 * fieldsAt;
  const pack = PACKERS[dtype];
  for (let b = from; b < end; b += blockBytes) {
    pack(out, at, rows, b);
    for (const half of halves) {
      out[fields++] = rows[b + half]!;
      out[fields++] = rows[b + half + 1]!;
    }
    at.first += firstBytes;
    at.second += secondBytes;
    at.scales += 16;
  }
}
