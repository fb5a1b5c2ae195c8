// Activations rounded to 8 bits, as the native kernels and ggml do it: each block of 32 inputs of a row has the scale
// max|x| / 127, and q = x * (127 / max), to the nearest whole number, ties to even. A NaN or an infinity makes the scale NaN,
// so that it is not lost; what is too small for 127 / max to be finite rounds to zeros.
//
// A rounded block: | 32 x i16 q | f32 scale | i32 sum of q | 8 bytes unused |

/** Inputs of a block. */
export const BLOCK: i32 = 32;
export const ROUNDED_SCALE: usize = 64;
export const ROUNDED_SUM: usize = 68;
/** A multiple of 16. */
export const ROUNDED_BYTES: usize = 80;

/** 1.5 * 2^23: a sum of it and a small number has the nearest whole number in its lower bits. */
const MAGIC: f32 = 12582912;
const MAGIC_BITS: i32 = 0x4b400000;
/** The bits of 2^-100: 127 / max overflows for what is far below. */
const LEAST_BITS: i32 = (127 - 100) << 23;
const INFINITY_BITS: i32 = 0x7f800000;

/** The bits of |x|, which are in the order of the numbers. */
@inline
function sizes(x: usize): v128 {
  return v128.and(v128.load(x), i32x4.splat(0x7fffffff));
}

/** Eight inputs as i16. */
@inline
function roundEight(x: usize, inverse: v128): v128 {
  const low = i32x4.sub(f32x4.add(f32x4.mul(v128.load(x), inverse), f32x4.splat(MAGIC)), i32x4.splat(MAGIC_BITS));
  const high = i32x4.sub(f32x4.add(f32x4.mul(v128.load(x, 16), inverse), f32x4.splat(MAGIC)), i32x4.splat(MAGIC_BITS));
  return i16x8.narrow_i32x4_s(low, high);
}

/** Rounds the 32 inputs at `x`, f32, to the block at `to`. */
export function roundBlock(to: usize, x: usize): void {
  let most = i32x4.max_s(sizes(x), sizes(x + 16));
  for (let at: usize = 32; at < 128; at += 32) {
    most = i32x4.max_s(most, i32x4.max_s(sizes(x + at), sizes(x + at + 16)));
  }
  most = i32x4.max_s(most, i32x4.shuffle(most, most, 2, 3, 0, 1));
  most = i32x4.max_s(most, i32x4.shuffle(most, most, 1, 0, 3, 2));
  const bits = i32x4.extract_lane(most, 0);
  const greatest = reinterpret<f32>(bits);
  if (bits < LEAST_BITS || bits >= INFINITY_BITS) {
    memory.fill(to, 0, ROUNDED_BYTES);
    store<f32>(to, bits < LEAST_BITS ? greatest / 127 : f32.NaN, ROUNDED_SCALE);
    return;
  }
  const inverse = f32x4.splat(<f32>127 / greatest);
  let sums = i32x4.splat(0);
  for (let i: usize = 0; i < 4; i++, x += 32) {
    const values = roundEight(x, inverse);
    v128.store(to + 16 * i, values);
    sums = i32x4.add(sums, i32x4.dot_i16x8_s(values, i16x8.splat(1)));
  }
  sums = i32x4.add(sums, i32x4.shuffle(sums, sums, 2, 3, 0, 1));
  sums = i32x4.add(sums, i32x4.shuffle(sums, sums, 1, 0, 3, 2));
  store<f32>(to, greatest / 127, ROUNDED_SCALE);
  store<i32>(to, i32x4.extract_lane(sums, 0), ROUNDED_SUM);
}
