// f16 and bf16 to f32, exactly: subnormals, infinities and NaN included.
//
// An f16 with an ordinary exponent becomes an f32 by moving its magnitude 13 bits up and adding 112 << 23 to the
// exponent field. In 16-bit lanes that is done for eight values at once, on the upper halves of the results; the lower
// halves hold the last three bits of the mantissa. Groups with a value that is not ordinary take a slower path.

/** The f32 of one f16. */
@inline
export function f16ToF32(half: u32): f32 {
  const sign = (half & 0x8000) << 16;
  const magnitude = (half & 0x7fff) << 13;
  if (magnitude >= 0x7c00 << 13) return reinterpret<f32>(sign | (magnitude + (224 << 23)));
  if (magnitude >= 0x0400 << 13) return reinterpret<f32>(sign | (magnitude + (112 << 23)));
  // Zero or subnormal: magnitude * 2^-24.
  const value = <f32>(half & 0x7fff) * <f32>5.9604644775390625e-8;
  return reinterpret<f32>(sign | reinterpret<u32>(value));
}

/** Lanes (i16x8) are 0 exactly where the f16 is zero, subnormal, infinite or NaN: exponents 0 and 31. */
@inline
export function ordinary(halves: v128): v128 {
  return v128.and(i16x8.add(halves, i16x8.splat(0x0400)), i16x8.splat(0x7800));
}

/** Upper 16 bits of the f32 of ordinary f16. */
@inline
function upperBits(halves: v128): v128 {
  // The arithmetic shift leaves the sign where it is; its copies below it are masked out.
  return i16x8.add(v128.and(i16x8.shr_s(halves, 3), i16x8.splat(-0x7001)), i16x8.splat(112 << 7));
}

/** f32 of ordinary f16 in lanes 0 to 3. */
@inline
export function lowOrdinary(halves: v128): v128 {
  return i16x8.shuffle(i16x8.shl(halves, 13), upperBits(halves), 0, 8, 1, 9, 2, 10, 3, 11);
}

/** f32 of ordinary f16 in lanes 4 to 7. */
@inline
export function highOrdinary(halves: v128): v128 {
  return i16x8.shuffle(i16x8.shl(halves, 13), upperBits(halves), 4, 12, 5, 13, 6, 14, 7, 15);
}

/** f32 of any four f16, each in the low half of its 32-bit lane. */
function anyHalves(halves: v128): v128 {
  const sign = i32x4.shl(v128.and(halves, i32x4.splat(0x8000)), 16);
  const raw = v128.and(halves, i32x4.splat(0x7fff));
  const magnitude = i32x4.shl(raw, 13);
  const isSpecial = i32x4.ge_u(magnitude, i32x4.splat(0x7c00 << 13));
  const bias = i32x4.add(i32x4.splat(112 << 23), v128.and(isSpecial, i32x4.splat(112 << 23)));
  const isSmall = i32x4.lt_u(magnitude, i32x4.splat(0x0400 << 13));
  const small = f32x4.mul(f32x4.convert_i32x4_s(raw), f32x4.splat(5.9604644775390625e-8));
  return v128.or(sign, v128.bitselect(small, i32x4.add(magnitude, bias), isSmall));
}

/** f32 of any f16 in lanes 0 to 3. */
@inline
export function lowAny(halves: v128): v128 {
  return anyHalves(i32x4.extend_low_i16x8_u(halves));
}

/** f32 of any f16 in lanes 4 to 7. */
@inline
export function highAny(halves: v128): v128 {
  return anyHalves(i32x4.extend_high_i16x8_u(halves));
}

/** f32 of bf16 in lanes 0 to 3: the value is the upper half already. */
@inline
export function lowBf16(halves: v128): v128 {
  return i16x8.shuffle(i16x8.splat(0), halves, 0, 8, 1, 9, 2, 10, 3, 11);
}

/** f32 of bf16 in lanes 4 to 7. */
@inline
export function highBf16(halves: v128): v128 {
  return i16x8.shuffle(i16x8.splat(0), halves, 4, 12, 5, 13, 6, 14, 7, 15);
}

/**
 * f32 of finite f16 times 2^-112, exactly, from lanes that hold each in their upper half or sign-extended, shifted so
 * that its sign fills the upper bits and its exponent begins at bit 23. A subnormal f16 gives a subnormal f32, and
 * infinity a wrong finite number.
 */
@inline
export function scaledHalves(shifted: v128, mask: v128 = i32x4.splat(SCALED_HALVES_MASK)): v128 {
  return v128.and(shifted, mask);
}

/** Sign, exponent and mantissa of what `scaledHalves` is given. */
export const SCALED_HALVES_MASK: i32 = 0x8fffe000;

/** In each lane of 16 bits the exponent of an f16. */
export const EXPONENTS: i16 = 0x7c00;

/** Whether none of 16 f16 is subnormal or zero. @param exponents - EXPONENTS in each lane */
@inline
export function areNormal(first: v128, second: v128, exponents: v128): bool {
  return i16x8.all_true(i16x8.min_u(v128.and(first, exponents), v128.and(second, exponents)));
}

/**
 * 2^56 times what `scaledHalves` gives, exactly. Arithmetic with a subnormal f32 takes some processors many times as long as
 * with others, so that there is none in it.
 */
@inline
export function raisedHalves(scaled: v128): v128 {
  const mantissa = i32x4.shr_u(v128.and(scaled, i32x4.splat(0x007fe000)), 13);
  const small = f32x4.mul(f32x4.convert_i32x4_s(mantissa), f32x4.splat(8.271806125530277e-25)); // 2^(-24 - 56)
  const sign = v128.and(scaled, i32x4.splat(0x80000000));
  const isSmall = i32x4.eq(v128.and(scaled, i32x4.splat(0x0f800000)), i32x4.splat(0));
  return v128.bitselect(v128.or(small, sign), i32x4.add(scaled, i32x4.splat(56 << 23)), isSmall);
}

/** 2^112 */
export const HALF_SCALE: f32 = 5.192296858534828e33;

/** f32 of the four finite f16 at `p`. */
@inline
export function loadHalves(p: usize): v128 {
  return f32x4.mul(scaledHalves(i32x4.shl(v128.load16x4_s(p), 13)), f32x4.splat(HALF_SCALE));
}
