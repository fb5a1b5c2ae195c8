// Dot products of f32 rows, one, four, or four by four at a time.
//
// There is one order of summation for matrices in rows: over i in increasing order in four lanes,
// lane l taking the i with i mod 4 = l, each term a product rounded and then added; at the end of the row missing lanes
// count as 0; then (l0 + l2) + (l1 + l3). So the bits of a result do not depend on which kernel computed it.

import { loadTail, sumLanes, sumLanes4 } from "./simd.ts";

@inline
function addProduct(sum: v128, a: v128, b: v128): v128 {
  return f32x4.add(sum, f32x4.mul(a, b));
}

/** w . x over n elements. */
export function dot(w: usize, x: usize, n: i32): f32 {
  const end = w + (<usize>(n & ~3) << 2);
  let sum = f32x4.splat(0);
  for (; w < end; w += 16, x += 16) sum = addProduct(sum, v128.load(w), v128.load(x));
  if (n & 3) sum = addProduct(sum, loadTail(w, n & 3), loadTail(x, n & 3));
  return f32x4.extract_lane(sumLanes(sum), 0);
}

/** out[o] = w_o . x for four rows of w, `stride` bytes apart. */
export function dot4(out: usize, w: usize, stride: usize, x: usize, n: i32): void {
  let w1 = w + stride;
  let w2 = w1 + stride;
  let w3 = w2 + stride;
  let sum0 = f32x4.splat(0);
  let sum1 = sum0;
  let sum2 = sum0;
  let sum3 = sum0;
  const end = x + (<usize>(n & ~3) << 2);
  const end8 = x + (<usize>(n & ~7) << 2);
  for (; x < end8; x += 32, w += 32, w1 += 32, w2 += 32, w3 += 32) {
    const xa = v128.load(x);
    sum0 = addProduct(sum0, v128.load(w), xa);
    sum1 = addProduct(sum1, v128.load(w1), xa);
    sum2 = addProduct(sum2, v128.load(w2), xa);
    sum3 = addProduct(sum3, v128.load(w3), xa);
    const xb = v128.load(x, 16);
    sum0 = addProduct(sum0, v128.load(w, 16), xb);
    sum1 = addProduct(sum1, v128.load(w1, 16), xb);
    sum2 = addProduct(sum2, v128.load(w2, 16), xb);
    sum3 = addProduct(sum3, v128.load(w3, 16), xb);
  }
  if (x < end) {
    const xa = v128.load(x);
    sum0 = addProduct(sum0, v128.load(w), xa);
    sum1 = addProduct(sum1, v128.load(w1), xa);
    sum2 = addProduct(sum2, v128.load(w2), xa);
    sum3 = addProduct(sum3, v128.load(w3), xa);
    x += 16;
    w += 16;
    w1 += 16;
    w2 += 16;
    w3 += 16;
  }
  const nTail = n & 3;
  if (nTail) {
    const xa = loadTail(x, nTail);
    sum0 = addProduct(sum0, loadTail(w, nTail), xa);
    sum1 = addProduct(sum1, loadTail(w1, nTail), xa);
    sum2 = addProduct(sum2, loadTail(w2, nTail), xa);
    sum3 = addProduct(sum3, loadTail(w3, nTail), xa);
  }
  v128.store(out, sumLanes4(sum0, sum1, sum2, sum3));
}

/**
 * Four rows of w with two rows of x: eight chains of additions, enough to keep the units busy, in registers that
 * every engine has.
 */
export function dot4x2(out: usize, outStride: usize, w: usize, stride: usize, x: usize, xStride: usize, n: i32): void {
  let w1 = w + stride;
  let w2 = w1 + stride;
  let w3 = w2 + stride;
  let y = x + xStride;
  let sum0x = f32x4.splat(0);
  let sum1x = sum0x;
  let sum2x = sum0x;
  let sum3x = sum0x;
  let sum0y = sum0x;
  let sum1y = sum0x;
  let sum2y = sum0x;
  let sum3y = sum0x;
  const end = x + (<usize>(n & ~3) << 2);
  for (; x < end; x += 16, y += 16, w += 16, w1 += 16, w2 += 16, w3 += 16) {
    const xv = v128.load(x);
    const yv = v128.load(y);
    const v0 = v128.load(w);
    sum0x = addProduct(sum0x, v0, xv);
    sum0y = addProduct(sum0y, v0, yv);
    const v1 = v128.load(w1);
    sum1x = addProduct(sum1x, v1, xv);
    sum1y = addProduct(sum1y, v1, yv);
    const v2 = v128.load(w2);
    sum2x = addProduct(sum2x, v2, xv);
    sum2y = addProduct(sum2y, v2, yv);
    const v3 = v128.load(w3);
    sum3x = addProduct(sum3x, v3, xv);
    sum3y = addProduct(sum3y, v3, yv);
  }
  const nTail = n & 3;
  if (nTail) {
    const xv = loadTail(x, nTail);
    const yv = loadTail(y, nTail);
    const v0 = loadTail(w, nTail);
    sum0x = addProduct(sum0x, v0, xv);
    sum0y = addProduct(sum0y, v0, yv);
    const v1 = loadTail(w1, nTail);
    sum1x = addProduct(sum1x, v1, xv);
    sum1y = addProduct(sum1y, v1, yv);
    const v2 = loadTail(w2, nTail);
    sum2x = addProduct(sum2x, v2, xv);
    sum2y = addProduct(sum2y, v2, yv);
    const v3 = loadTail(w3, nTail);
    sum3x = addProduct(sum3x, v3, xv);
    sum3y = addProduct(sum3y, v3, yv);
  }
  v128.store(out, sumLanes4(sum0x, sum1x, sum2x, sum3x));
  v128.store(out + outStride, sumLanes4(sum0y, sum1y, sum2y, sum3y));
}
