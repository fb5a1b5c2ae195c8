// The two 16-bit float formats, converted to and from f32 with integer arithmetic on their bits, so that every
// platform rounds alike: to nearest, ties to even. IEEE 754-2019 binary16 (f16), and bf16, which is the top half of an f32.
//
//   f32   s eeeeeeee mmmmmmmmmmmmmmmmmmmmmmm   bias 127
//   f16   s eeeee mmmmmmmmmm                   bias 15
//   bf16  s eeeeeeee mmmmmmm                   bias 127

import { ShapeError } from "./errors.ts";

const scratchF32 = new Float32Array(1);
const scratchBits = new Uint32Array(scratchF32.buffer);

/** 127 - 15, as it stands in an f32's exponent field. */
const REBIAS = 112 << 23;
/** Bits of 65520, the smallest f32 that rounds to infinity in f16. */
const F16_OVERFLOW = 0x477ff000;
/** Bits of 2^-14, the smallest normal f16. */
const F16_MIN_NORMAL = 0x38800000;
const F32_INFINITY = 0x7f800000;

/** The f32 bit pattern with the value of the f16 bit pattern `half`. */
function f16BitsToF32Bits(half: number): number {
  const sign = (half & 0x8000) << 16;
  const magnitude = half & 0x7fff;
  if (magnitude >= 0x7c00) return sign | F32_INFINITY | ((magnitude & 0x3ff) << 13);
  if (magnitude >= 0x0400) return sign | ((magnitude << 13) + REBIAS);
  if (magnitude === 0) return sign;
  // Subnormal, magnitude * 2^-24: move its leading one to bit 23, where it adds 1 to the exponent field.
  const shift = Math.clz32(magnitude) - 8;
  return sign | (((125 - shift) << 23) + (magnitude << shift));
}

/** The f16 bit pattern nearest to the f32 bit pattern `bits`. */
function f32BitsToF16Bits(bits: number): number {
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > F32_INFINITY) return sign | 0x7e00;
  if (magnitude >= F16_OVERFLOW) return sign | 0x7c00;
  if (magnitude >= F16_MIN_NORMAL) {
    return sign | ((magnitude - REBIAS + 0xfff + ((magnitude >>> 13) & 1)) >>> 13);
  }
  // The result is a multiple of 2^-24; a carry out of it gives the smallest normal, as it should.
  const shift = 126 - (magnitude >>> 23);
  if (shift > 24) return sign;
  const mantissa = (magnitude & 0x7fffff) | 0x800000;
  const truncated = mantissa >>> shift;
  const rest = mantissa & ((1 << shift) - 1);
  const tie = 1 << (shift - 1);
  const roundsUp = rest > tie || (rest === tie && (truncated & 1) === 1);
  return sign | (roundsUp ? truncated + 1 : truncated);
}

/** The bf16 bit pattern nearest to the f32 bit pattern `bits`. */
function f32BitsToBf16Bits(bits: number): number {
  // Rounding could carry a NaN into infinity or zero: set its quiet bit instead.
  if ((bits & 0x7fffffff) > F32_INFINITY) return (bits >>> 16) | 0x40;
  return ((bits >>> 16) + ((((bits & 0xffff) + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 1)) & 0xffff;
}

/** Value of an f16 bit pattern (its low 16 bits count); exact, subnormals included. */
export function f16ToF32(bits: number): number {
  scratchBits[0] = f16BitsToF32Bits(bits);
  return scratchF32[0]!;
}

/** Bit pattern of the f16 nearest to `value` taken as f32; 65520 and above become infinity. */
export function f32ToF16(value: number): number {
  scratchF32[0] = value;
  return f32BitsToF16Bits(scratchBits[0]!);
}

/** Value of a bf16 bit pattern (its low 16 bits count); exact. */
export function bf16ToF32(bits: number): number {
  scratchBits[0] = bits << 16;
  return scratchF32[0]!;
}

/** Bit pattern of the bf16 nearest to `value` taken as f32. */
export function f32ToBf16(value: number): number {
  scratchF32[0] = value;
  return f32BitsToBf16Bits(scratchBits[0]!);
}

function checkLengths(nBytes: number, nElements: number): void {
  if (nBytes === 2 * nElements) return;
  throw new ShapeError(
    `${nElements} elements of 16 bits take ${2 * nElements} bytes, but ${nBytes} were given.`,
  );
}

/**
 * Decodes little-endian f16 bytes, at any alignment.
 * @param out - `[n]`
 * @param bytes - `2 * n` bytes
 * @throws ShapeError if the lengths differ
 */
export function f16BytesToF32(out: Float32Array, bytes: Uint8Array): void {
  checkLengths(bytes.byteLength, out.length);
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0, b = 0; i < bits.length; i++, b += 2) {
    bits[i] = f16BitsToF32Bits(bytes[b]! | (bytes[b + 1]! << 8));
  }
}

/**
 * Encodes as little-endian f16 bytes, at any alignment.
 * @param out - `2 * n` bytes
 * @param values - `[n]`
 * @throws ShapeError if the lengths differ
 */
export function f32ToF16Bytes(out: Uint8Array, values: Float32Array): void {
  checkLengths(out.byteLength, values.length);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0, b = 0; i < bits.length; i++, b += 2) {
    const half = f32BitsToF16Bits(bits[i]!);
    out[b] = half;
    out[b + 1] = half >>> 8;
  }
}

/**
 * Decodes little-endian bf16 bytes, at any alignment.
 * @param out - `[n]`
 * @param bytes - `2 * n` bytes
 * @throws ShapeError if the lengths differ
 */
export function bf16BytesToF32(out: Float32Array, bytes: Uint8Array): void {
  checkLengths(bytes.byteLength, out.length);
  const bits = new Uint32Array(out.buffer, out.byteOffset, out.length);
  for (let i = 0, b = 0; i < bits.length; i++, b += 2) {
    bits[i] = (bytes[b]! << 16) | (bytes[b + 1]! << 24);
  }
}

/**
 * Encodes as little-endian bf16 bytes, at any alignment.
 * @param out - `2 * n` bytes
 * @param values - `[n]`
 * @throws ShapeError if the lengths differ
 */
export function f32ToBf16Bytes(out: Uint8Array, values: Float32Array): void {
  checkLengths(out.byteLength, values.length);
  const bits = new Uint32Array(values.buffer, values.byteOffset, values.length);
  for (let i = 0, b = 0; i < bits.length; i++, b += 2) {
    const half = f32BitsToBf16Bits(bits[i]!);
    out[b] = half;
    out[b + 1] = half >>> 8;
  }
}
