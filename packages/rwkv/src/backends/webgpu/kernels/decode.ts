// How kernels unpack a matrix: for each weight type a function `weights(o, i4)`, the values of row o at inputs 4 i4 to
// 4 i4 + 3. On the GPU a row is whole words: of a plain type its elements, filled up to four; of a block type first all
// bytes of its blocks but the f16 fields, in the order of core/blocks.ts, then those fields, `halves` per block:
//
//   | blocks x (block bytes - 2 halves) | blocks x halves x f16, filled up to a word |

import { DTYPES, isQuantized, type QuantDType, type WeightDType } from "../../../core/dtype.ts";
import { NF4_LEVELS } from "../../../core/blocks.ts";

interface BlockText {
  /** Where the f16 fields stand in the block of a file. */
  readonly halves: readonly number[];
  /** Gives the four values; sees `b`, where the block's words begin, `e`, the first element's place in it, and `d` and `m`. */
  readonly text: string;
}

const NIBBLES = `let q = (vec4u(word) >> (vec4u(0u, 8u, 16u, 24u) + shift)) & vec4u(15u);`;
const SIGNED_BYTES = `
  let word = i32(w(o, b + (e >> 2u)));
  return d * vec4f((vec4i(word) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u));`;

/** Nibbles of a block of 2 n elements: word i4 mod (n / 4) has element j in the low and j + n in the high ones. */
const nibblesOf = (halfElements: number, firstWord: number): string => `
  let word = w(o, b + ${firstWord}u + ((e >> 2u) & ${halfElements / 4 - 1}u));
  let shift = select(0u, 4u, e >= ${halfElements}u);
  ${NIBBLES}`;
const FIFTH_BITS = `let fifth = ((vec4u(w(o, b)) >> (vec4u(0u, 1u, 2u, 3u) + e)) & vec4u(1u)) << vec4u(4u);`;

/** Scale and minimum of six bits of sub-block \`sub\`, of 12 bytes that q4_k and q5_k begin with. */
const K4_SCALES = `
  let sub = e >> 5u;
  var scale: u32;
  var minimum: u32;
  if (sub < 4u) {
    scale = byte(o, b, sub) & 63u;
    minimum = byte(o, b, sub + 4u) & 63u;
  } else {
    scale = (byte(o, b, sub + 4u) & 15u) | ((byte(o, b, sub - 4u) >> 6u) << 4u);
    minimum = (byte(o, b, sub + 4u) >> 4u) | ((byte(o, b, sub) >> 6u) << 4u);
  }
  let shift = 4u * (sub & 1u);`;

/** Two bits of each element: 32 bytes for each half of a super-block. */
const twoBits = (firstWord: number): string => `
  let sub = e >> 4u;
  let word = w(o, b + ${firstWord}u + 8u * (sub >> 3u) + ((e & 31u) >> 2u));
  let low = (vec4u(word) >> (vec4u(0u, 8u, 16u, 24u) + (sub & 6u))) & vec4u(3u);`;

const BLOCK_TEXTS: Readonly<Record<QuantDType, BlockText>> = {
  q4_0: { halves: [0], text: `${nibblesOf(16, 0)} return d * (vec4f(q) - 8.0);` },
  q4_1: { halves: [0, 2], text: `${nibblesOf(16, 0)} return fma(vec4f(d), vec4f(q), vec4f(m));` },
  q5_0: { halves: [0], text: `${nibblesOf(16, 1)} ${FIFTH_BITS} return d * (vec4f(q | fifth) - 16.0);` },
  q5_1: {
    halves: [0, 2],
    text: `${nibblesOf(16, 1)} ${FIFTH_BITS} return fma(vec4f(d), vec4f(q | fifth), vec4f(m));`,
  },
  q8_0: { halves: [0], text: SIGNED_BYTES },
  q2_k: {
    halves: [80, 82],
    text: `${twoBits(4)}
  let scales = byte(o, b, sub);
  return fma(vec4f(d * f32(scales & 15u)), vec4f(low), vec4f(-m * f32(scales >> 4u)));`,
  },
  q3_k: {
    halves: [108],
    text: `${twoBits(8)}
  let high = (vec4u(w(o, b + ((e & 31u) >> 2u))) >> (vec4u(0u, 8u, 16u, 24u) + (sub >> 1u))) & vec4u(1u);
  let nibble = (byte(o, b + 24u, sub & 7u) >> (4u * (sub >> 3u))) & 15u;
  let top = (byte(o, b + 26u, sub & 3u) >> (2u * (sub >> 2u))) & 3u;
  return d * (f32(nibble | (top << 4u)) - 32.0) * (vec4f(low | (high << vec4u(2u))) - 4.0);`,
  },
  q4_k: {
    halves: [0, 2],
    text: `${K4_SCALES}
  let word = w(o, b + 3u + 8u * (sub >> 1u) + ((e & 31u) >> 2u));
  ${NIBBLES}
  return fma(vec4f(d * f32(scale)), vec4f(q), vec4f(-m * f32(minimum)));`,
  },
  q5_k: {
    halves: [0, 2],
    text: `${K4_SCALES}
  let within = (e & 31u) >> 2u;
  let word = w(o, b + 11u + 8u * (sub >> 1u) + within);
  ${NIBBLES}
  let fifth = ((vec4u(w(o, b + 3u + within)) >> (vec4u(0u, 8u, 16u, 24u) + sub)) & vec4u(1u)) << vec4u(4u);
  return fma(vec4f(d * f32(scale)), vec4f(q | fifth), vec4f(-m * f32(minimum)));`,
  },
  q6_k: {
    halves: [208],
    text: `
  let sub = e >> 4u;
  let half_block = e >> 7u;
  let n = (e >> 5u) & 3u;
  let within = (e & 31u) >> 2u;
  let shift = 4u * (n >> 1u);
  let word = w(o, b + 16u * half_block + 8u * (n & 1u) + within);
  ${NIBBLES}
  let high = (vec4u(w(o, b + 32u + 8u * half_block + within)) >> (vec4u(0u, 8u, 16u, 24u) + 2u * n)) & vec4u(3u);
  let scale = (i32(byte(o, b + 48u, sub)) << 24u) >> 24u;
  return d * f32(scale) * (vec4f(q | (high << vec4u(4u))) - 32.0);`,
  },
  q8: { halves: [0], text: SIGNED_BYTES },
  q4: { halves: [0, 2], text: `${nibblesOf(32, 0)} return fma(vec4f(d), vec4f(q), vec4f(m));` },
  nf4: {
    halves: [0],
    text: `${nibblesOf(32, 0)} return d * vec4f(LEVELS[q.x], LEVELS[q.y], LEVELS[q.z], LEVELS[q.w]);`,
  },
};

const PLAIN_TEXTS = {
  f32: `return bitcast<vec4f>(vec4u(w(o, 4u * i4), w(o, 4u * i4 + 1u), w(o, 4u * i4 + 2u), w(o, 4u * i4 + 3u)));`,
  f16: `return vec4f(unpack2x16float(w(o, 2u * i4)), unpack2x16float(w(o, 2u * i4 + 1u)));`,
  bf16: `
  let low = w(o, 2u * i4);
  let high = w(o, 2u * i4 + 1u);
  return bitcast<vec4f>(vec4u(low << 16u, low & 0xffff0000u, high << 16u, high & 0xffff0000u));`,
} as const;

/** Types that kernels unpack. */
export type GpuDType = Exclude<WeightDType, "f64">;

/** How the bytes of a row are arranged on the GPU. */
export interface RowFormat {
  readonly nBlocks: number;
  readonly blockBytes: number;
  /** Where the f16 fields of a block stand, none for plain types. */
  readonly halves: readonly number[];
  /** Words of the row before the f16 fields. */
  readonly bodyWords: number;
  /** Words of the row. */
  readonly rowWords: number;
}

export function rowFormat(dtype: GpuDType, nIn: number): RowFormat {
  const { blockElements, blockBytes } = DTYPES[dtype];
  if (!isQuantized(dtype)) {
    const bodyWords = Math.ceil(nIn / 4) * blockBytes;
    return { nBlocks: nIn, blockBytes, halves: [], bodyWords, rowWords: bodyWords };
  }
  const { halves } = BLOCK_TEXTS[dtype];
  const nBlocks = nIn / blockElements;
  const bodyWords = (nBlocks * (blockBytes - 2 * halves.length)) / 4;
  return {
    nBlocks,
    blockBytes,
    halves,
    bodyWords,
    rowWords: bodyWords + Math.ceil((nBlocks * halves.length) / 2),
  };
}

/** WGSL of `weights`; the matrix is the operand `w` in u32, `p.body` its words before the f16 fields. */
export function weightsText(dtype: GpuDType): string {
  if (!isQuantized(dtype)) return `fn weights(o: u32, i4: u32) -> vec4f { ${PLAIN_TEXTS[dtype]} }`;
  const { halves, text } = BLOCK_TEXTS[dtype];
  const { blockElements, blockBytes } = DTYPES[dtype];
  const levels = NF4_LEVELS.map((level) => level.toFixed(1)).join(", ");
  const fields =
    halves.length === 2
      ? "let fields = unpack2x16float(w(o, p.body + block)); let d = fields.x; let m = fields.y;"
      : "let pair = unpack2x16float(w(o, p.body + (block >> 1u))); let d = select(pair.x, pair.y, (block & 1u) == 1u);";
  return `
${dtype === "nf4" ? `const LEVELS = array<f32, 16>(${levels});` : ""}
fn byte(o: u32, at: u32, i: u32) -> u32 { return (w(o, at + (i >> 2u)) >> (8u * (i & 3u))) & 255u; }
fn weights(o: u32, i4: u32) -> vec4f {
  let block = i4 / ${blockElements / 4}u;
  let e = 4u * (i4 % ${blockElements / 4}u);
  let b = block * ${(blockBytes - 2 * halves.length) / 4}u;
  ${fields}
  ${text}
}`;
}
