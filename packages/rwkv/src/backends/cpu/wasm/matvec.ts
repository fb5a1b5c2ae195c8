// Four rows of a stored matrix times one row, decoded in registers: the hot loops of decode. Order of summation: dot.ts.

import { quants0, quants1, quants2, quants3 } from "./blocks.ts";
import {
  f16ToF32,
  highAny,
  highBf16,
  highOrdinary,
  lowAny,
  lowBf16,
  lowOrdinary,
  ordinary,
} from "./half.ts";
import { sumLanes4 } from "./simd.ts";

@inline
function addProduct(sum: v128, a: v128, b: v128): v128 {
  return f32x4.add(sum, f32x4.mul(a, b));
}

/** n is a multiple of 8. */
export function matvec4F16(out: usize, w0: usize, stride: usize, x: usize, n: i32): void {
  let w1 = w0 + stride;
  let w2 = w1 + stride;
  let w3 = w2 + stride;
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  let sum2 = sum0;
  let sum3 = sum0;
  const end = x + (<usize>n << 2);
  for (; x < end; x += 32, w0 += 16, w1 += 16, w2 += 16, w3 += 16) {
    const xa = v128.load(x);
    const xb = v128.load(x, 16);
    const h0 = v128.load(w0);
    const h1 = v128.load(w1);
    const h2 = v128.load(w2);
    const h3 = v128.load(w3);
    const least01 = i16x8.min_u(ordinary(h0), ordinary(h1));
    const least23 = i16x8.min_u(ordinary(h2), ordinary(h3));
    if (i16x8.all_true(i16x8.min_u(least01, least23))) {
      sum0 = addProduct(addProduct(sum0, lowOrdinary(h0), xa), highOrdinary(h0), xb);
      sum1 = addProduct(addProduct(sum1, lowOrdinary(h1), xa), highOrdinary(h1), xb);
      sum2 = addProduct(addProduct(sum2, lowOrdinary(h2), xa), highOrdinary(h2), xb);
      sum3 = addProduct(addProduct(sum3, lowOrdinary(h3), xa), highOrdinary(h3), xb);
    } else {
      sum0 = addProduct(addProduct(sum0, lowAny(h0), xa), highAny(h0), xb);
      sum1 = addProduct(addProduct(sum1, lowAny(h1), xa), highAny(h1), xb);
      sum2 = addProduct(addProduct(sum2, lowAny(h2), xa), highAny(h2), xb);
      sum3 = addProduct(addProduct(sum3, lowAny(h3), xa), highAny(h3), xb);
    }
  }
  v128.store(out, sumLanes4(sum0, sum1, sum2, sum3));
}

@inline
function addBf16(sum: v128, halves: v128, xa: v128, xb: v128): v128 {
  return addProduct(addProduct(sum, lowBf16(halves), xa), highBf16(halves), xb);
}

/** n is a multiple of 8. */
export function matvec4Bf16(out: usize, w0: usize, stride: usize, x: usize, n: i32): void {
  let w1 = w0 + stride;
  let w2 = w1 + stride;
  let w3 = w2 + stride;
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  let sum2 = sum0;
  let sum3 = sum0;
  const end = x + (<usize>n << 2);
  for (; x < end; x += 32, w0 += 16, w1 += 16, w2 += 16, w3 += 16) {
    const xa = v128.load(x);
    const xb = v128.load(x, 16);
    sum0 = addBf16(sum0, v128.load(w0), xa, xb);
    sum1 = addBf16(sum1, v128.load(w1), xa, xb);
    sum2 = addBf16(sum2, v128.load(w2), xa, xb);
    sum3 = addBf16(sum3, v128.load(w3), xa, xb);
  }
  v128.store(out, sumLanes4(sum0, sum1, sum2, sum3));
}

/** Adds 16 terms: scale * quant, rounded (exact), times x. */
@inline
function addQuants(sum: v128, scale: v128, bytes: v128, xa: v128, xb: v128, xc: v128, xd: v128): v128 {
  sum = addProduct(sum, f32x4.mul(scale, quants0(bytes)), xa);
  sum = addProduct(sum, f32x4.mul(scale, quants1(bytes)), xb);
  sum = addProduct(sum, f32x4.mul(scale, quants2(bytes)), xc);
  return addProduct(sum, f32x4.mul(scale, quants3(bytes)), xd);
}

export function matvec4Q8_0(out: usize, w0: usize, stride: usize, x: usize, n: i32): void {
  let w1 = w0 + stride;
  let w2 = w1 + stride;
  let w3 = w2 + stride;
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  let sum2 = sum0;
  let sum3 = sum0;
  const end = x + (<usize>n << 2);
  for (; x < end; w0 += 34, w1 += 34, w2 += 34, w3 += 34) {
    const d0 = f32x4.splat(f16ToF32(load<u16>(w0)));
    const d1 = f32x4.splat(f16ToF32(load<u16>(w1)));
    const d2 = f32x4.splat(f16ToF32(load<u16>(w2)));
    const d3 = f32x4.splat(f16ToF32(load<u16>(w3)));
    for (let half: usize = 2; half < 34; half += 16, x += 64) {
      const xa = v128.load(x, 0);
      const xb = v128.load(x, 16);
      const xc = v128.load(x, 32);
      const xd = v128.load(x, 48);
      sum0 = addQuants(sum0, d0, v128.load(w0 + half), xa, xb, xc, xd);
      sum1 = addQuants(sum1, d1, v128.load(w1 + half), xa, xb, xc, xd);
      sum2 = addQuants(sum2, d2, v128.load(w2 + half), xa, xb, xc, xd);
      sum3 = addQuants(sum3, d3, v128.load(w3 + half), xa, xb, xc, xd);
    }
  }
  v128.store(out, sumLanes4(sum0, sum1, sum2, sum3));
}

@inline
function lowQ4(pairs: v128): v128 {
  return i8x16.sub(v128.and(pairs, i8x16.splat(15)), i8x16.splat(8));
}

@inline
function highQ4(pairs: v128): v128 {
  return i8x16.sub(i8x16.shr_u(pairs, 4), i8x16.splat(8));
}

export function matvec4Q4_0(out: usize, w0: usize, stride: usize, x: usize, n: i32): void {
  let w1 = w0 + stride;
  let w2 = w1 + stride;
  let w3 = w2 + stride;
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  let sum2 = sum0;
  let sum3 = sum0;
  const end = x + (<usize>n << 2);
  for (; x < end; x += 128, w0 += 18, w1 += 18, w2 += 18, w3 += 18) {
    const d0 = f32x4.splat(f16ToF32(load<u16>(w0)));
    const d1 = f32x4.splat(f16ToF32(load<u16>(w1)));
    const d2 = f32x4.splat(f16ToF32(load<u16>(w2)));
    const d3 = f32x4.splat(f16ToF32(load<u16>(w3)));
    const xa = v128.load(x, 0);
    const xb = v128.load(x, 16);
    const xc = v128.load(x, 32);
    const xd = v128.load(x, 48);
    sum0 = addQuants(sum0, d0, lowQ4(v128.load(w0, 2)), xa, xb, xc, xd);
    sum1 = addQuants(sum1, d1, lowQ4(v128.load(w1, 2)), xa, xb, xc, xd);
    sum2 = addQuants(sum2, d2, lowQ4(v128.load(w2, 2)), xa, xb, xc, xd);
    sum3 = addQuants(sum3, d3, lowQ4(v128.load(w3, 2)), xa, xb, xc, xd);
    const xe = v128.load(x, 64);
    const xf = v128.load(x, 80);
    const xg = v128.load(x, 96);
    const xh = v128.load(x, 112);
    sum0 = addQuants(sum0, d0, highQ4(v128.load(w0, 2)), xe, xf, xg, xh);
    sum1 = addQuants(sum1, d1, highQ4(v128.load(w1, 2)), xe, xf, xg, xh);
    sum2 = addQuants(sum2, d2, highQ4(v128.load(w2, 2)), xe, xf, xg, xh);
    sum3 = addQuants(sum3, d3, highQ4(v128.load(w3, 2)), xe, xf, xg, xh);
  }
  v128.store(out, sumLanes4(sum0, sum1, sum2, sum3));
}
