// Random numbers in the layouts that weights are stored in, written directly: nothing is rounded from f32 on the way, so
// that a model of gigabytes takes seconds. Values are normal, as trained matrices nearly are.
//
//   f16   2 bytes
//   q8_0  34 bytes for 32: | f16 scale | 32 x i8 |       weight = scale * q
//   q4_0  18 bytes for 32: | f16 scale | 16 x 2 x u4 |   weight = scale * (q - 8)

import { f32ToF16 } from "../../packages/rwkv/dist/core/half.js";

/** Types that random matrices are written in. */
export type BenchDType = "f16" | "q8_0" | "q4_0";

/** Drawn from instead of computing a normal number for each weight; 12 random bits choose one. */
const TABLE_LENGTH = 4096;
/** Beyond so many deviations quants saturate. */
const Q8_RANGE = 4;
const Q4_RANGE = 3;

/** Whole numbers in [0, 2^32): xorshift32 (Marsaglia 2003). */
export function randomBits(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}

/** Normal numbers of deviation 1 by Box and Muller's method. */
export function normalTable(seed: number): Float32Array {
  const next = randomBits(seed);
  const uniform = (): number => (next() + 0.5) / 2 ** 32;
  return Float32Array.from(
    { length: TABLE_LENGTH },
    () => Math.sqrt(-2 * Math.log(uniform())) * Math.cos(2 * Math.PI * uniform()),
  );
}

/**
 * Fills `target` with random weights.
 * @param target - whole blocks of `dtype`
 * @param deviation - of the weights, whose mean is 0
 * @param table - of `normalTable`
 */
export function fillRandom(
  target: Uint8Array,
  dtype: BenchDType,
  deviation: number,
  table: Float32Array,
  next: () => number,
): void {
  if (dtype === "f16") fillF16(target, deviation, table, next);
  else if (dtype === "q8_0") fillQ8(target, deviation, table, next);
  else fillQ4(target, deviation, table, next);
}

function fillF16(target: Uint8Array, deviation: number, table: Float32Array, next: () => number): void {
  const bits = Uint16Array.from(table, (value) => f32ToF16(value * deviation));
  for (let i = 0; i < target.length; i += 2) {
    const half = bits[next() >>> 20]!;
    target[i] = half;
    target[i + 1] = half >>> 8;
  }
}

function fillQ8(target: Uint8Array, deviation: number, table: Float32Array, next: () => number): void {
  const quants = Int8Array.from(table, (value) => clamp(Math.round((value * 127) / Q8_RANGE), -127, 127));
  const scale = (deviation * Q8_RANGE) / 127;
  for (let block = 0; block < target.length; block += 34) {
    writeScale(target, block, scale, next());
    for (let i = block + 2; i < block + 34; i++) target[i] = quants[next() >>> 20]!;
  }
}

function fillQ4(target: Uint8Array, deviation: number, table: Float32Array, next: () => number): void {
  const quants = Uint8Array.from(table, (value) => clamp(Math.round((value * 8) / Q4_RANGE) + 8, 0, 15));
  const scale = (deviation * Q4_RANGE) / 8;
  for (let block = 0; block < target.length; block += 18) {
    writeScale(target, block, scale, next());
    for (let i = block + 2; i < block + 18; i++) {
      const bits = next();
      target[i] = quants[bits >>> 20]! | (quants[(bits >>> 8) & 0xfff]! << 4);
    }
  }
}

/** A scale from 0.75 to 1.25 times the given one, so that mixing up blocks would show. */
function writeScale(target: Uint8Array, offset: number, scale: number, bits: number): void {
  const half = f32ToF16(scale * (0.75 + bits / 2 ** 33));
  target[offset] = half;
  target[offset + 1] = half >>> 8;
}

function clamp(value: number, least: number, most: number): number {
  return Math.min(most, Math.max(least, value));
}
