// exp and the functions built on it, four lanes at a time: one polynomial for every lane, so that no result depends on
// where in a row a value stands. exp is within 2 ulp, the others within 4.
//
//   exp(x) = 2^n (1 + q),  n = round(x / ln 2),  r = x - n ln 2, |r| <= 0.347,
//   q = exp(r) - 1 by its Taylor series to r^7; the first term left out is below 2^-27 of the result.

import {
  ACTIVATION_DECAY6,
  ACTIVATION_DECAY7,
  ACTIVATION_NONE,
  ACTIVATION_RELU_SQUARED,
  ACTIVATION_SIGMOID,
  ACTIVATION_SILU,
  ACTIVATION_TANH,
} from "../abi.ts";
import { loadTail, storeTail } from "./simd.ts";

@inline
function splat(value: f32): v128 {
  return f32x4.splat(value);
}

/** x / ln 2, rounded to a whole number. */
@inline
function exponent(x: v128): v128 {
  return f32x4.nearest(f32x4.mul(x, splat(1.4426950408889634)));
}

/** exp(x - n ln 2) - 1 for |x - n ln 2| <= 0.347. */
@inline
function fraction(x: v128, n: v128): v128 {
  // ln 2 in two parts; the first has 9 significant bits, so that its product with n is exact.
  let r = f32x4.sub(x, f32x4.mul(n, splat(0.693359375)));
  r = f32x4.sub(r, f32x4.mul(n, splat(-0.00021219444005469057)));
  let q = f32x4.add(f32x4.mul(r, splat(1.0 / 5040.0)), splat(1.0 / 720.0));
  q = f32x4.add(f32x4.mul(q, r), splat(1.0 / 120.0));
  q = f32x4.add(f32x4.mul(q, r), splat(1.0 / 24.0));
  q = f32x4.add(f32x4.mul(q, r), splat(1.0 / 6.0));
  q = f32x4.add(f32x4.mul(q, r), splat(0.5));
  return f32x4.add(f32x4.mul(f32x4.mul(r, r), q), r);
}

/** 2^n for whole -126 <= n <= 127. */
@inline
function powerOf2(n: v128): v128 {
  return i32x4.shl(i32x4.add(n, i32x4.splat(127)), 23);
}

/** Within 2 ulp, subnormal results included; 0 from -104 down, infinity from 88.8 up, NaN for NaN. */
export function exp(x: v128): v128 {
  // pmin and pmax with the value first keep a NaN.
  const bounded = f32x4.pmax(f32x4.pmin(x, splat(89.0)), splat(-105.0));
  const n = exponent(bounded);
  const power = i32x4.trunc_sat_f32x4_s(n);
  // 2^n in two factors, since it may lie outside the normal range; only the last product rounds.
  const half = i32x4.shr_s(power, 1);
  const rest = i32x4.sub(power, half);
  const mantissa = f32x4.add(splat(1.0), fraction(bounded, n));
  return f32x4.mul(f32x4.mul(mantissa, powerOf2(half)), powerOf2(rest));
}

@inline
function sigmoid(x: v128): v128 {
  return f32x4.div(splat(1.0), f32x4.add(splat(1.0), exp(f32x4.neg(x))));
}

/** -e / (e + 2) with e = exp(-2 |x|) - 1, which keeps its relative accuracy near zero; then the sign of x. */
function tanh(x: v128): v128 {
  const y = f32x4.pmax(f32x4.mul(f32x4.abs(x), splat(-2.0)), splat(-60.0));
  const n = exponent(y);
  const power = powerOf2(i32x4.trunc_sat_f32x4_s(n));
  const e = f32x4.add(f32x4.mul(power, fraction(y, n)), f32x4.sub(power, splat(1.0)));
  const magnitude = f32x4.abs(f32x4.div(e, f32x4.add(e, splat(2.0))));
  return v128.bitselect(x, magnitude, i32x4.splat(0x80000000));
}

@inline
function apply(activation: i32, x: v128): v128 {
  if (activation == ACTIVATION_SIGMOID) return sigmoid(x);
  if (activation == ACTIVATION_SILU) return f32x4.mul(x, sigmoid(x));
  if (activation == ACTIVATION_TANH) return tanh(x);
  if (activation == ACTIVATION_DECAY6) return exp(f32x4.neg(exp(x)));
  // exp(-0.5) is the steepest decay that RWKV-7 allows: exp(-exp(-0.5) * sigmoid(x)).
  if (activation == ACTIVATION_DECAY7) return exp(f32x4.mul(sigmoid(x), splat(-0.6065306597126334)));
  const positive = f32x4.pmax(x, splat(0.0));
  return f32x4.mul(positive, positive);
}

@inline
function applyToSpan(activation: i32, out: usize, x: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    v128.store(out + (<usize>i << 2), apply(activation, v128.load(x + (<usize>i << 2))));
  }
  if (i < n) {
    const at = <usize>i << 2;
    storeTail(out + at, apply(activation, loadTail(x + at, n - i)), n - i);
  }
}

/** out[i] = f(x[i]) for n consecutive elements; out may be x. */
export function activateSpan(activation: i32, out: usize, x: usize, n: i32): void {
  switch (activation) {
    case ACTIVATION_NONE:
      if (out != x) memory.copy(out, x, <usize>n << 2);
      return;
    case ACTIVATION_SIGMOID:
      applyToSpan(ACTIVATION_SIGMOID, out, x, n);
      return;
    case ACTIVATION_SILU:
      applyToSpan(ACTIVATION_SILU, out, x, n);
      return;
    case ACTIVATION_TANH:
      applyToSpan(ACTIVATION_TANH, out, x, n);
      return;
    case ACTIVATION_RELU_SQUARED:
      applyToSpan(ACTIVATION_RELU_SQUARED, out, x, n);
      return;
    case ACTIVATION_DECAY6:
      applyToSpan(ACTIVATION_DECAY6, out, x, n);
      return;
    case ACTIVATION_DECAY7:
      applyToSpan(ACTIVATION_DECAY7, out, x, n);
      return;
    default:
      unreachable();
  }
}
