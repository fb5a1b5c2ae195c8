// Rows of quantised blocks to f32, with the very bits of core/blocks.ts, where the layouts are drawn. Products of scale
// and quant are exact in f32, so that every value is rounded at most once, when its minimum is added.

import { DTYPE_SF4 } from "../abi.ts";
import { f16ToF32 } from "./half.ts";

@inline
function f16At(p: usize): f32 {
  return f16ToF32(load<u16>(p));
}

/** Four of 16 signed bytes, as f32: lanes 4n to 4n + 3 for n = 0 to 3. */
@inline
export function quants0(bytes: v128): v128 {
  return f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(i16x8.extend_low_i8x16_s(bytes)));
}

@inline
export function quants1(bytes: v128): v128 {
  return f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(i16x8.extend_low_i8x16_s(bytes)));
}

@inline
export function quants2(bytes: v128): v128 {
  return f32x4.convert_i32x4_s(i32x4.extend_low_i16x8_s(i16x8.extend_high_i8x16_s(bytes)));
}

@inline
export function quants3(bytes: v128): v128 {
  return f32x4.convert_i32x4_s(i32x4.extend_high_i16x8_s(i16x8.extend_high_i8x16_s(bytes)));
}

/** out[i] = scale * bytes[i] */
@inline
function storeScaled(out: usize, bytes: v128, scale: v128): void {
  v128.store(out, f32x4.mul(scale, quants0(bytes)), 0);
  v128.store(out, f32x4.mul(scale, quants1(bytes)), 16);
  v128.store(out, f32x4.mul(scale, quants2(bytes)), 32);
  v128.store(out, f32x4.mul(scale, quants3(bytes)), 48);
}

/** out[i] = scale * bytes[i] + offset */
@inline
function storeOffset(out: usize, bytes: v128, scale: v128, offset: v128): void {
  v128.store(out, f32x4.add(f32x4.mul(scale, quants0(bytes)), offset), 0);
  v128.store(out, f32x4.add(f32x4.mul(scale, quants1(bytes)), offset), 16);
  v128.store(out, f32x4.add(f32x4.mul(scale, quants2(bytes)), offset), 32);
  v128.store(out, f32x4.add(f32x4.mul(scale, quants3(bytes)), offset), 48);
}

@inline
export function lowNibbles(bytes: v128): v128 {
  return v128.and(bytes, i8x16.splat(15));
}

@inline
export function highNibbles(bytes: v128): v128 {
  return i8x16.shr_u(bytes, 4);
}

/** 16 where the bit of a byte's lane is set in `bits`, bit j for lane j. */
@inline
function fifthBits(bits: u32): v128 {
  const spread = i8x16.shuffle(i16x8.splat(<i16>bits), i16x8.splat(0), 0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1);
  const own = i64x2.splat(0x8040201008040201);
  return v128.and(i8x16.eq(v128.and(spread, own), own), i8x16.splat(16));
}

export function decodeQ4_0(out: usize, p: usize, nBlocks: i32): void {
  for (let b = 0; b < nBlocks; b++, p += 18, out += 128) {
    const d = f32x4.splat(f16At(p));
    const pairs = v128.load(p, 2);
    storeScaled(out, i8x16.sub(lowNibbles(pairs), i8x16.splat(8)), d);
    storeScaled(out + 64, i8x16.sub(highNibbles(pairs), i8x16.splat(8)), d);
  }
}

export function decodeQ4_1(out: usize, p: usize, nBlocks: i32): void {
  for (let b = 0; b < nBlocks; b++, p += 20, out += 128) {
    const d = f32x4.splat(f16At(p));
    const m = f32x4.splat(f16At(p + 2));
    const pairs = v128.load(p, 4);
    storeOffset(out, lowNibbles(pairs), d, m);
    storeOffset(out + 64, highNibbles(pairs), d, m);
  }
}

export function decodeQ5_0(out: usize, p: usize, nBlocks: i32): void {
  for (let b = 0; b < nBlocks; b++, p += 22, out += 128) {
    const d = f32x4.splat(f16At(p));
    const high = load<u32>(p, 2);
    const pairs = v128.load(p, 6);
    const low = v128.or(lowNibbles(pairs), fifthBits(high));
    storeScaled(out, i8x16.sub(low, i8x16.splat(16)), d);
    const upper = v128.or(highNibbles(pairs), fifthBits(high >> 16));
    storeScaled(out + 64, i8x16.sub(upper, i8x16.splat(16)), d);
  }
}

export function decodeQ5_1(out: usize, p: usize, nBlocks: i32): void {
  for (let b = 0; b < nBlocks; b++, p += 24, out += 128) {
    const d = f32x4.splat(f16At(p));
    const m = f32x4.splat(f16At(p + 2));
    const high = load<u32>(p, 4);
    const pairs = v128.load(p, 8);
    storeOffset(out, v128.or(lowNibbles(pairs), fifthBits(high)), d, m);
    storeOffset(out + 64, v128.or(highNibbles(pairs), fifthBits(high >> 16)), d, m);
  }
}

export function decodeQ8_0(out: usize, p: usize, nBlocks: i32): void {
  for (let b = 0; b < nBlocks; b++, p += 34, out += 128) {
    const d = f32x4.splat(f16At(p));
    storeScaled(out, v128.load(p, 2), d);
    storeScaled(out + 64, v128.load(p, 18), d);
  }
}

export function decodeQ2K(out: usize, p: usize, nBlocks: i32): void {
  for (let b = 0; b < nBlocks; b++, p += 84) {
    const d = f16At(p + 80);
    const dmin = f16At(p + 82);
    for (let sub: u32 = 0; sub < 16; sub++, out += 64) {
      const packed = <u32>load<u8>(p + sub);
      const scale = d * <f32>(packed & 15);
      const minimum = dmin * <f32>(packed >> 4);
      const quants = v128.load(p + 16 + 32 * (sub >> 3) + 16 * (sub & 1));
      const bytes = v128.and(i8x16.shr_u(quants, sub & 6), i8x16.splat(3));
      storeOffset(out, bytes, f32x4.splat(scale), f32x4.splat(-minimum));
    }
  }
}

export function decodeQ3K(out: usize, p: usize, nBlocks: i32): void {
  for (let b = 0; b < nBlocks; b++, p += 110) {
    const d = f16At(p + 108);
    for (let sub: u32 = 0; sub < 16; sub++, out += 64) {
      const low = ((<u32>load<u8>(p + 96 + (sub & 7))) >> (4 * (sub >> 3))) & 15;
      const top = ((<u32>load<u8>(p + 104 + (sub & 3))) >> (2 * (sub >> 2))) & 3;
      const scale = d * <f32>(<i32>(low | (top << 4)) - 32);
      const within = 16 * (sub & 1);
      const quants = v128.and(
        i8x16.shr_u(v128.load(p + 32 + 32 * (sub >> 3) + within), sub & 6),
        i8x16.splat(3),
      );
      const third = v128.and(i8x16.shr_u(v128.load(p + within), sub >> 1), i8x16.splat(1));
      const bytes = i8x16.sub(i8x16.add(quants, i8x16.shl(third, 2)), i8x16.splat(4));
      storeScaled(out, bytes, f32x4.splat(scale));
    }
  }
}

/** 6-bit scale of sub-block `sub` out of the 12 bytes at `s` that q4_k and q5_k share. */
@inline
function scaleK4(s: usize, sub: u32): f32 {
  if (sub < 4) return <f32>(<u32>load<u8>(s + sub) & 63);
  return <f32>((<u32>load<u8>(s + sub + 4) & 15) | ((<u32>load<u8>(s + sub - 4) >> 6) << 4));
}

/** 6-bit minimum of sub-block `sub`, likewise. */
@inline
function minimumK4(s: usize, sub: u32): f32 {
  if (sub < 4) return <f32>(<u32>load<u8>(s + sub + 4) & 63);
  return <f32>((<u32>load<u8>(s + sub + 4) >> 4) | ((<u32>load<u8>(s + sub) >> 6) << 4));
}

export function decodeQ4K(out: usize, p: usize, nBlocks: i32): void {
  for (let b = 0; b < nBlocks; b++, p += 144) {
    const d = f16At(p);
    const dmin = f16At(p + 2);
    for (let sub: u32 = 0; sub < 8; sub++, out += 128) {
      const scale = f32x4.splat(d * scaleK4(p + 4, sub));
      const offset = f32x4.splat(-(dmin * minimumK4(p + 4, sub)));
      const quants = p + 16 + 32 * (sub >> 1);
      const shift = 4 * (sub & 1);
      const low = lowNibbles(i8x16.shr_u(v128.load(quants), shift));
      storeOffset(out, low, scale, offset);
      const high = lowNibbles(i8x16.shr_u(v128.load(quants, 16), shift));
      storeOffset(out + 64, high, scale, offset);
    }
  }
}

export function decodeQ5K(out: usize, p: usize, nBlocks: i32): void {
  for (let b = 0; b < nBlocks; b++, p += 176) {
    const d = f16At(p);
    const dmin = f16At(p + 2);
    for (let sub: u32 = 0; sub < 8; sub++, out += 128) {
      const scale = f32x4.splat(d * scaleK4(p + 4, sub));
      const offset = f32x4.splat(-(dmin * minimumK4(p + 4, sub)));
      const quants = p + 48 + 32 * (sub >> 1);
      const shift = 4 * (sub & 1);
      for (let half: usize = 0; half < 2; half++) {
        const low = lowNibbles(i8x16.shr_u(v128.load(quants + 16 * half), shift));
        const fifth = v128.and(i8x16.shr_u(v128.load(p + 16 + 16 * half), sub), i8x16.splat(1));
        storeOffset(out + 64 * half, v128.or(low, i8x16.shl(fifth, 4)), scale, offset);
      }
    }
  }
}

export function decodeQ6K(out: usize, p: usize, nBlocks: i32): void {
  for (let b = 0; b < nBlocks; b++, p += 210) {
    const d = f16At(p + 208);
    for (let sub: u32 = 0; sub < 16; sub++, out += 64) {
      const scale = d * <f32>load<i8>(p + 192 + sub);
      const half = sub >> 3;
      const n = (sub >> 1) & 3;
      const within = 16 * (sub & 1);
      const low = lowNibbles(i8x16.shr_u(v128.load(p + 64 * half + 32 * (n & 1) + within), 4 * (n >> 1)));
      const high = v128.and(i8x16.shr_u(v128.load(p + 128 + 32 * half + within), 2 * n), i8x16.splat(3));
      const bytes = i8x16.sub(v128.or(low, i8x16.shl(high, 4)), i8x16.splat(32));
      storeScaled(out, bytes, f32x4.splat(scale));
    }
  }
}

export function decodeQ8(out: usize, p: usize, nBlocks: i32): void {
  for (let b = 0; b < nBlocks; b++, p += 66) {
    const d = f32x4.splat(f16At(p));
    for (let at: usize = 2; at < 66; at += 16, out += 64) storeScaled(out, v128.load(p + at), d);
  }
}

export function decodeQ4(out: usize, p: usize, nBlocks: i32): void {
  for (let b = 0; b < nBlocks; b++, p += 36, out += 256) {
    const d = f32x4.splat(f16At(p));
    const m = f32x4.splat(f16At(p + 2));
    for (let at: usize = 0; at < 32; at += 16) {
      const pairs = v128.load(p + at, 4);
      storeOffset(out + 4 * at, lowNibbles(pairs), d, m);
      storeOffset(out + 4 * at + 128, highNibbles(pairs), d, m);
    }
  }
}

/** LEVELS of core/blocks.ts, of nf4 or sf4. */
@inline
export function levelsOf(dtype: i32): v128 {
  return dtype == DTYPE_SF4
    ? i8x16(-127, -80, -58, -42, -30, -19, -10, 0, 8, 17, 26, 36, 48, 62, 83, 127)
    : i8x16(-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127);
}

/** nf4 or sf4. */
export function decodeLevels(dtype: i32, out: usize, p: usize, nBlocks: i32): void {
  const levels = levelsOf(dtype);
  for (let b = 0; b < nBlocks; b++, p += 34, out += 256) {
    const d = f32x4.splat(f16At(p));
    for (let at: usize = 0; at < 32; at += 16) {
      const pairs = v128.load(p + at, 2);
      storeScaled(out + 4 * at, i8x16.swizzle(levels, lowNibbles(pairs)), d);
      storeScaled(out + 4 * at + 128, i8x16.swizzle(levels, highNibbles(pairs)), d);
    }
  }
}
