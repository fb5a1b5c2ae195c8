// How the rows of a matrix lie on the GPU. A row counts as units of 16 inputs, two to a block of 32; of plain types it is
// filled up with zeros to whole blocks. Quants of a block type are taken apart into planes, so that threads that read
// consecutive blocks read consecutive words, and 16 quants become 16 bytes by one shift and mask of four words:
//
//   plain types   | elements |
//   block types   | first plane | second plane, if any | scales, if any | f16 fields |, filled up to 16 bytes
//
//   plane      of a block of 32 inputs
//   bytes      32 x i8
//   nibbles    4 words: byte i of word j has input 4 j + i in its low and 16 + 4 j + i in its high four bits
//   crumbs     2 words, one for each unit: byte i has input 4 j + i of the unit in the bits 2 j and 2 j + 1
//   bits       1 word: byte i has input 16 h + 4 j + i in the bit 4 h + j
//
// A matrix whose inputs are mostly zero, of a plain type, lies in panels of 64 outputs, the last one filled up with zeros; in
// each of them one input after the other, its 64 weights together, so that what is multiplied with zero need not be read.
//
// The second plane holds the upper bits of the quants. Scales are those of sub-blocks, as bytes: one for each unit, or
// scale and minimum for each block. The f16 fields of each block of the file follow one another.

import { DTYPES, isQuantized, type QuantDType, type WeightDType } from "../../../core/dtype.ts";

/** Types that kernels unpack. */
export type GpuDType = Exclude<WeightDType, "f64">;

/** Inputs of a block on the GPU. */
export const BLOCK_INPUTS = 32;

/** Outputs of a panel. */
export const PANEL_OUTPUTS = 64;

/** Types that panels are made of. */
export type PlainDType = Exclude<GpuDType, QuantDType>;

export type Plane = "bytes" | "nibbles" | "crumbs" | "bits";

/** Words of a plane for each block of 32 inputs. */
export const PLANE_WORDS: Readonly<Record<Plane, number>> = { bytes: 8, nibbles: 4, crumbs: 2, bits: 1 };

export interface BlockFormat {
  readonly first: Exclude<Plane, "bits">;
  readonly second: "crumbs" | "bits" | null;
  /** Whether scales of sub-blocks are there: 16 bytes for each 256 inputs. */
  readonly hasScales: boolean;
  /** The f16 fields of a block of the file, where they stand in it: d, or d and the minimum. */
  readonly halves: readonly number[];
}

const format = (
  first: BlockFormat["first"],
  second: BlockFormat["second"],
  halves: readonly number[],
  hasScales = false,
): BlockFormat => ({ first, second, hasScales, halves });

export const BLOCK_FORMATS: Readonly<Record<QuantDType, BlockFormat>> = {
  q4_0: format("nibbles", null, [0]),
  q4_1: format("nibbles", null, [0, 2]),
  q5_0: format("nibbles", "bits", [0]),
  q5_1: format("nibbles", "bits", [0, 2]),
  q8_0: format("bytes", null, [0]),
  q2_k: format("crumbs", null, [80, 82], true),
  q3_k: format("crumbs", "bits", [108], true),
  q4_k: format("nibbles", null, [0, 2], true),
  q5_k: format("nibbles", "bits", [0, 2], true),
  q6_k: format("nibbles", "crumbs", [208], true),
  q8: format("bytes", null, [0]),
  q4: format("nibbles", null, [0, 2]),
  nf4: format("nibbles", null, [0]),
  sf4: format("nibbles", null, [0]),
};

/** Where the parts of a row begin, in words, and how long it is. */
export interface RowFormat {
  /** Blocks of 32 inputs. */
  readonly nBlocks: number;
  readonly secondAt: number;
  readonly scalesAt: number;
  readonly fieldsAt: number;
  /** A multiple of 4. */
  readonly rowWords: number;
}

export function rowFormat(dtype: GpuDType, nIn: number): RowFormat {
  const nBlocks = Math.ceil(nIn / BLOCK_INPUTS);
  const { blockElements, blockBytes } = DTYPES[dtype];
  if (!isQuantized(dtype)) {
    const rowWords = (nBlocks * BLOCK_INPUTS * blockBytes) / 4;
    return { nBlocks, secondAt: rowWords, scalesAt: rowWords, fieldsAt: rowWords, rowWords };
  }
  const { first, second, hasScales, halves } = BLOCK_FORMATS[dtype];
  const secondAt = nBlocks * PLANE_WORDS[first];
  const scalesAt = secondAt + (second === null ? 0 : nBlocks * PLANE_WORDS[second]);
  const fieldsAt = scalesAt + (hasScales ? nBlocks / 2 : 0);
  const nFields = (nIn / blockElements) * halves.length;
  return { nBlocks, secondAt, scalesAt, fieldsAt, rowWords: 4 * Math.ceil((fieldsAt + nFields / 2) / 4) };
}
