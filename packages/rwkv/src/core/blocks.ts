// Quantised block types: what the bytes of a block mean, and the values they stand for. Layouts and names are those
// of ggml (ggml-common.h, ggml-quants.c of ggml-org/ggml), shared by GGUF and rwkv.cpp files; q8, q4, nf4 and sf4
// are our own.
//
// Every product below is exact in f64, and so is each sum of two: an f16 has 11 significant bits and is a multiple of
// 2^-24, scales and quants have at most 8 bits. Hence one rounding, on the store into the Float32Array. ggml's f32
// arithmetic has exact products too and rounds once in the sum, so both arrive at the same f32.

import { DTYPES, type LevelDType, type QuantDType } from "./dtype.ts";
import { ShapeError, UsageError } from "./errors.ts";
import { f16ToF32, f32ToF16 } from "./half.ts";

/** Writes the values of the block at `bytes[b]` to `out[o]` and on. */
type BlockDecoder = (out: Float32Array, o: number, bytes: Uint8Array, b: number) => void;

function f16At(bytes: Uint8Array, b: number): number {
  return f16ToF32(bytes[b]! | (bytes[b + 1]! << 8));
}

function i8At(bytes: Uint8Array, b: number): number {
  return (bytes[b]! << 24) >> 24;
}

function u32At(bytes: Uint8Array, b: number): number {
  return (bytes[b]! | (bytes[b + 1]! << 8) | (bytes[b + 2]! << 16) | (bytes[b + 3]! << 24)) >>> 0;
}

// Blocks of 32. Byte j of `quants` holds element j in its low and element j + 16 in its high nibble.

/** `| f16 d | u8 quants[16] |`, value = d * (q - 8) */
const decodeQ4_0: BlockDecoder = (out, o, bytes, b) => {
  const d = f16At(bytes, b);
  for (let j = 0; j < 16; j++) {
    const pair = bytes[b + 2 + j]!;
    out[o + j] = d * ((pair & 15) - 8);
    out[o + 16 + j] = d * ((pair >> 4) - 8);
  }
};

/** `| f16 d | f16 m | u8 quants[16] |`, value = d * q + m */
const decodeQ4_1: BlockDecoder = (out, o, bytes, b) => {
  const d = f16At(bytes, b);
  const m = f16At(bytes, b + 2);
  for (let j = 0; j < 16; j++) {
    const pair = bytes[b + 4 + j]!;
    out[o + j] = d * (pair & 15) + m;
    out[o + 16 + j] = d * (pair >> 4) + m;
  }
};

/** `| f16 d | u32 high | u8 quants[16] |`, bit j of `high` is the fifth bit of element j; value = d * (q - 16) */
const decodeQ5_0: BlockDecoder = (out, o, bytes, b) => {
  const d = f16At(bytes, b);
  const high = u32At(bytes, b + 2);
  for (let j = 0; j < 16; j++) {
    const pair = bytes[b + 6 + j]!;
    out[o + j] = d * (((pair & 15) | (((high >>> j) & 1) << 4)) - 16);
    out[o + 16 + j] = d * (((pair >> 4) | (((high >>> (j + 16)) & 1) << 4)) - 16);
  }
};

/** `| f16 d | f16 m | u32 high | u8 quants[16] |`, as q5_0; value = d * q + m */
const decodeQ5_1: BlockDecoder = (out, o, bytes, b) => {
  const d = f16At(bytes, b);
  const m = f16At(bytes, b + 2);
  const high = u32At(bytes, b + 4);
  for (let j = 0; j < 16; j++) {
    const pair = bytes[b + 8 + j]!;
    out[o + j] = d * ((pair & 15) | (((high >>> j) & 1) << 4)) + m;
    out[o + 16 + j] = d * ((pair >> 4) | (((high >>> (j + 16)) & 1) << 4)) + m;
  }
};

/** `| f16 d | i8 quants[32] |`, value = d * q */
const decodeQ8_0: BlockDecoder = (out, o, bytes, b) => {
  const d = f16At(bytes, b);
  for (let j = 0; j < 32; j++) out[o + j] = d * i8At(bytes, b + 2 + j);
};

// Super-blocks of 256: 16 sub-blocks of 16 (q2_k, q3_k, q6_k) or 8 of 32 (q4_k, q5_k), each with its own small scale.

/**
 * `| u8 scales[16] | u8 quants[64] | f16 d | f16 dmin |`
 * Low nibble of scales[i] is the scale of sub-block i, high nibble its minimum; value = d * scale * q - dmin * min.
 * Each half of 128 elements takes 32 bytes of quants: bits 2k, 2k + 1 of byte l are element 32 k + l.
 */
const decodeQ2K: BlockDecoder = (out, o, bytes, b) => {
  const d = f16At(bytes, b + 80);
  const dmin = f16At(bytes, b + 82);
  for (let sub = 0; sub < 16; sub++) {
    const packed = bytes[b + sub]!;
    const scale = d * (packed & 15);
    const minimum = dmin * (packed >> 4);
    const quants = b + 16 + 32 * (sub >> 3) + 16 * (sub & 1);
    const shift = sub & 6;
    for (let l = 0; l < 16; l++) {
      out[o + 16 * sub + l] = scale * ((bytes[quants + l]! >> shift) & 3) - minimum;
    }
  }
};

/**
 * `| u8 high[32] | u8 quants[64] | u8 scales[12] | f16 d |`
 * Quants as in q2_k; bit `n` of high[l] is the third bit of element 32 n + l, and q is biased by 4.
 * Scales have 6 bits, biased by 32: low four in the nibbles of bytes 0 to 7 (sub-blocks 0 to 7 low, 8 to 15 high),
 * the two above in bytes 8 to 11, two bits for each of sub-blocks i, 4 + i, 8 + i, 12 + i. value = d * scale * q.
 */
const decodeQ3K: BlockDecoder = (out, o, bytes, b) => {
  const d = f16At(bytes, b + 108);
  const scales = b + 96;
  for (let sub = 0; sub < 16; sub++) {
    const low = (bytes[scales + (sub & 7)]! >> (4 * (sub >> 3))) & 15;
    const top = (bytes[scales + 8 + (sub & 3)]! >> (2 * (sub >> 2))) & 3;
    const scale = d * ((low | (top << 4)) - 32);
    const within = 16 * (sub & 1);
    const quants = b + 32 + 32 * (sub >> 3) + within;
    const shift = sub & 6;
    const highBit = sub >> 1;
    for (let l = 0; l < 16; l++) {
      const third = (bytes[b + within + l]! >> highBit) & 1;
      out[o + 16 * sub + l] = scale * (((bytes[quants + l]! >> shift) & 3) + 4 * third - 4);
    }
  }
};

/** 6-bit scale of sub-block `sub` out of the 12 bytes at `s` that q4_k and q5_k share. */
function scaleK4(bytes: Uint8Array, s: number, sub: number): number {
  if (sub < 4) return bytes[s + sub]! & 63;
  return (bytes[s + sub + 4]! & 15) | ((bytes[s + sub - 4]! >> 6) << 4);
}

/** 6-bit minimum of sub-block `sub`, likewise. */
function minimumK4(bytes: Uint8Array, s: number, sub: number): number {
  if (sub < 4) return bytes[s + sub + 4]! & 63;
  return (bytes[s + sub + 4]! >> 4) | ((bytes[s + sub]! >> 6) << 4);
}

/**
 * `| f16 d | f16 dmin | u8 scales[12] | u8 quants[128] |`
 * Byte l of quants[32 c ...] holds element l of sub-block 2c (low nibble) and of 2c + 1 (high nibble).
 * value = d * scale * q - dmin * min
 */
const decodeQ4K: BlockDecoder = (out, o, bytes, b) => {
  const d = f16At(bytes, b);
  const dmin = f16At(bytes, b + 2);
  for (let sub = 0; sub < 8; sub++) {
    const scale = d * scaleK4(bytes, b + 4, sub);
    const minimum = dmin * minimumK4(bytes, b + 4, sub);
    const quants = b + 16 + 32 * (sub >> 1);
    const shift = 4 * (sub & 1);
    for (let l = 0; l < 32; l++) {
      out[o + 32 * sub + l] = scale * ((bytes[quants + l]! >> shift) & 15) - minimum;
    }
  }
};

/**
 * `| f16 d | f16 dmin | u8 scales[12] | u8 high[32] | u8 quants[128] |`
 * As q4_k; bit `sub` of high[l] is the fifth bit of element l of sub-block `sub`.
 */
const decodeQ5K: BlockDecoder = (out, o, bytes, b) => {
  const d = f16At(bytes, b);
  const dmin = f16At(bytes, b + 2);
  for (let sub = 0; sub < 8; sub++) {
    const scale = d * scaleK4(bytes, b + 4, sub);
    const minimum = dmin * minimumK4(bytes, b + 4, sub);
    const high = b + 16;
    const quants = b + 48 + 32 * (sub >> 1);
    const shift = 4 * (sub & 1);
    for (let l = 0; l < 32; l++) {
      const q = ((bytes[quants + l]! >> shift) & 15) | (((bytes[high + l]! >> sub) & 1) << 4);
      out[o + 32 * sub + l] = scale * q - minimum;
    }
  }
};

/**
 * `| u8 low[128] | u8 high[64] | i8 scales[16] | f16 d |`, value = d * scale * (q - 32)
 * Each half of 128 elements takes 64 bytes of `low` and 32 of `high`. With n = 0 to 3 and l = 0 to 31, element 32 n + l has
 * its low four bits in low[32 (n & 1) + l] (low nibble for n < 2) and its upper two in bits 2n, 2n + 1 of high[l].
 */
const decodeQ6K: BlockDecoder = (out, o, bytes, b) => {
  const d = f16At(bytes, b + 208);
  for (let sub = 0; sub < 16; sub++) {
    const scale = d * i8At(bytes, b + 192 + sub);
    const half = sub >> 3;
    const n = (sub >> 1) & 3;
    const within = 16 * (sub & 1);
    const low = b + 64 * half + 32 * (n & 1) + within;
    const lowShift = 4 * (n >> 1);
    const high = b + 128 + 32 * half + within;
    const highShift = 2 * n;
    for (let l = 0; l < 16; l++) {
      const q = ((bytes[low + l]! >> lowShift) & 15) | (((bytes[high + l]! >> highShift) & 3) << 4);
      out[o + 16 * sub + l] = scale * (q - 32);
    }
  }
};

// Our own: blocks of 64. Byte j of 4-bit quants holds element j in its low and element j + 32 in its high nibble.

/** `| f16 d | i8 quants[64] |`, value = d * q */
const decodeQ8: BlockDecoder = (out, o, bytes, b) => {
  const d = f16At(bytes, b);
  for (let j = 0; j < 64; j++) out[o + j] = d * i8At(bytes, b + 2 + j);
};

/** `| f16 d | f16 m | u8 quants[32] |`, value = d * q + m */
const decodeQ4: BlockDecoder = (out, o, bytes, b) => {
  const d = f16At(bytes, b);
  const m = f16At(bytes, b + 2);
  for (let j = 0; j < 32; j++) {
    const pair = bytes[b + 4 + j]!;
    out[o + j] = d * (pair & 15) + m;
    out[o + 32 + j] = d * (pair >> 4) + m;
  }
};

/**
 * The levels of nf4 and sf4, quantiles of a distribution: of the normal one as published with QLoRA (arXiv 2305.14314,
 * appendix E), of Student's t with 5 degrees of freedom as in arXiv 2405.03103. With e = (1/30 + 1/32) / 2 they are those of 8
 * probabilities at equal distances from e to 1/2 and of 8 more from there to 1 - e, divided by that of 1 - e. Here they are
 * in units of 1/127 and rounded: whole numbers, so that an int8 product of them is exact.
 */
export const LEVELS: Readonly<Record<LevelDType, readonly number[]>> = {
  nf4: [-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127],
  sf4: [-127, -80, -58, -42, -30, -19, -10, 0, 8, 17, 26, 36, 48, 62, 83, 127],
};

/** `| f16 d | u8 quants[32] |`, value = d * levels[q] */
const decodeLevels =
  (levels: readonly number[]): BlockDecoder =>
  (out, o, bytes, b) => {
    const d = f16At(bytes, b);
    for (let j = 0; j < 32; j++) {
      const pair = bytes[b + 2 + j]!;
      out[o + j] = d * levels[pair & 15]!;
      out[o + 32 + j] = d * levels[pair >> 4]!;
    }
  };

const DECODERS: Readonly<Record<QuantDType, BlockDecoder>> = {
  q4_0: decodeQ4_0,
  q4_1: decodeQ4_1,
  q5_0: decodeQ5_0,
  q5_1: decodeQ5_1,
  q8_0: decodeQ8_0,
  q2_k: decodeQ2K,
  q3_k: decodeQ3K,
  q4_k: decodeQ4K,
  q5_k: decodeQ5K,
  q6_k: decodeQ6K,
  q8: decodeQ8,
  q4: decodeQ4,
  nf4: decodeLevels(LEVELS.nf4),
  sf4: decodeLevels(LEVELS.sf4),
};

function checkBlocks(dtype: QuantDType, nElements: number, nBytes: number): void {
  const { blockElements, blockBytes } = DTYPES[dtype];
  if (nElements % blockElements === 0 && (nElements / blockElements) * blockBytes === nBytes) return;
  throw new ShapeError(
    `${dtype} stores ${blockElements} elements in ${blockBytes} bytes, but ${nElements} elements and ` +
      `${nBytes} bytes were given. Pass whole blocks and as much room as they need.`,
  );
}

/**
 * Values of a run of whole blocks.
 * @param out - `[n]`, n a multiple of the block's elements
 * @param bytes - the blocks, at any alignment
 * @throws ShapeError if the lengths do not fit
 */
export function dequantizeBlocks(dtype: QuantDType, out: Float32Array, bytes: Uint8Array): void {
  checkBlocks(dtype, out.length, bytes.byteLength);
  const { blockElements, blockBytes } = DTYPES[dtype];
  const decode = DECODERS[dtype];
  for (let o = 0, b = 0; o < out.length; o += blockElements, b += blockBytes) decode(out, o, bytes, b);
}

/**
 * Quantises to q8_0 by ggml's reference rule, in f32 arithmetic: d = max |x| / 127, q = x * (1 / d) rounded half away
 * from zero. The quants come from the unrounded d, the block stores d as f16.
 * @param out - `34 * n / 32` bytes
 * @param values - `[n]`, n a multiple of 32
 * @throws ShapeError if the lengths do not fit
 * @throws UsageError for a block that is not finite or whose d is beyond f16 (magnitudes above 8.3 million)
 */
export function quantizeQ8_0(out: Uint8Array, values: Float32Array): void {
  checkBlocks("q8_0", values.length, out.byteLength);
  for (let o = 0, b = 0; o < values.length; o += 32, b += 34) {
    let largest = 0;
    // Math.max keeps a NaN, so that the check below sees it
    for (let j = 0; j < 32; j++) largest = Math.max(largest, Math.abs(values[o + j]!));
    const d = Math.fround(largest / 127);
    const half = f32ToF16(d);
    if (half >= 0x7c00) {
      throw new UsageError(
        `q8_0 holds finite values up to 8.3e6, but elements ${o} to ${o + 31} reach ${largest}. ` +
          `Store this tensor as f32, or check it for damage.`,
      );
    }
    out[b] = half;
    out[b + 1] = half >>> 8;
    // 1 / d overflows for the smallest d; what is stored then is 0, and so is d as f16.
    const inverse = d === 0 ? 0 : Math.fround(1 / d);
    for (let j = 0; j < 32; j++) {
      const scaled = Math.fround(values[o + j]! * inverse);
      out[b + 2 + j] = scaled < 0 ? Math.ceil(scaled - 0.5) : Math.floor(scaled + 0.5);
    }
  }
}
