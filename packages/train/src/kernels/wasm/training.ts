// The loss and what the optimiser does to one tensor.

import { exp } from "../../../../rwkv/src/backends/cpu/wasm/functions.ts";
import { at, firstOf, fma, fnma, loadUpTo, splat, storeUpTo, sum } from "./simd.ts";

/**
 * The natural logarithm of a normal x > 0. The library's has tables, which would lie among the arrays.
 *
 *   x = 2^n m, m in [sqrt(1/2), sqrt(2));   log m = 2 artanh s = 2 (s + s^3 / 3 + ... + s^19 / 19), s = (m - 1) / (m + 1)
 *
 * |s| <= 0.172, so that the first term left out is below 2^-53 of the result.
 */
function log(x: f64): f64 {
  const bits = reinterpret<u64>(x);
  let n = <i32>(bits >> 52) - 1023;
  let m = reinterpret<f64>((bits & 0xfffffffffffff) | 0x3ff0000000000000);
  if (m > 1.4142135623730951) {
    m *= 0.5;
    n++;
  }
  const s = (m - 1) / (m + 1);
  const square = s * s;
  let series: f64 = 1.0 / 19.0;
  for (let i = 17; i > 0; i -= 2) series = series * square + 1.0 / <f64>i;
  return <f64>n * 0.6931471805599453 + 2 * s * series;
}

export function crossEntropy(
  losses: usize,
  dLogits: usize,
  logits: usize,
  targets: usize,
  weights: usize,
  nRows: i32,
  vocab: i32,
  pull: f32,
): void {
  for (let row = 0; row < nRows; row++) {
    const x = at(logits, row * vocab);
    const dx: usize = dLogits == 0 ? <usize>0 : at(dLogits, row * vocab);
    const target = load<i32>(at(targets, row));
    if (target < 0) {
      store<f32>(at(losses, row), 0);
      if (dx != 0) memory.fill(dx, 0, <usize>vocab << 2);
      continue;
    }
    // The first largest.
    let argmax = 0;
    let most = load<f32>(x);
    for (let i = 1; i < vocab; i++) {
      const value = load<f32>(at(x, i));
      if (value > most) {
        most = value;
        argmax = i;
      }
    }
    const targetLogit = load<f32>(at(x, target));
    let sums = splat(0);
    // dLogits may be logits: each vector is read before its place is written.
    for (let i = 0; i < vocab; i += 4) {
      const n = vocab - i;
      const e = firstOf(exp(f32x4.sub(loadUpTo(at(x, i), n), splat(most))), n);
      if (dx != 0) storeUpTo(at(dx, i), e, n);
      sums = f32x4.add(sums, e);
    }
    const total = sum(sums);
    store<f32>(at(losses, row), <f32>(log(<f64>total) + (<f64>most - <f64>targetLogit)));
    if (dx == 0) continue;
    const weight = load<f32>(at(weights, row));
    const scale = splat(weight / total);
    for (let i = 0; i < vocab; i += 4) {
      storeUpTo(at(dx, i), f32x4.mul(loadUpTo(at(dx, i), vocab - i), scale), vocab - i);
    }
    store<f32>(at(dx, target), load<f32>(at(dx, target)) - weight);
    if (pull != 0) store<f32>(at(dx, argmax), load<f32>(at(dx, argmax)) + weight * pull * most);
  }
}

/** In f64: even and odd elements, then both. */
export function sumOfSquares(x: usize, nElements: i32): f64 {
  let sums = f64x2.splat(0);
  let i = 0;
  for (; i + 2 <= nElements; i += 2) {
    const v = f64x2.promote_low_f32x4(v128.load64_zero(at(x, i)));
    sums = f64x2.add(sums, f64x2.mul(v, v));
  }
  let total = f64x2.extract_lane(sums, 0) + f64x2.extract_lane(sums, 1);
  if (i < nElements) {
    const last = <f64>load<f32>(at(x, i));
    total += last * last;
  }
  return total;
}

export function adamw(
  weight: usize,
  m: usize,
  v: usize,
  gradient: usize,
  nElements: i32,
  rate: f64,
  beta1: f64,
  beta2: f64,
  eps: f64,
  decay: f64,
  correction1: f64,
  correction2: f64,
  gradientScale: f64,
): void {
  // Of f64, so that each costs one rounding.
  const keepM = splat(<f32>beta1);
  const addM = splat(<f32>(1 - beta1));
  const keepV = splat(<f32>beta2);
  const addV = splat(<f32>(1 - beta2));
  const step = splat(<f32>(rate / correction1));
  const scaleV = splat(<f32>(1 / correction2));
  const shrink = splat(<f32>(rate * decay));
  for (let i = 0; i < nElements; i += 4) {
    const n = nElements - i;
    const g = f32x4.mul(loadUpTo(at(gradient, i), n), splat(<f32>gradientScale));
    const mi = fma(loadUpTo(at(m, i), n), keepM, f32x4.mul(g, addM));
    const vi = fma(loadUpTo(at(v, i), n), keepV, f32x4.mul(f32x4.mul(g, g), addV));
    const w = loadUpTo(at(weight, i), n);
    const length = f32x4.add(f32x4.sqrt(f32x4.mul(vi, scaleV)), splat(<f32>eps));
    storeUpTo(at(m, i), mi, n);
    storeUpTo(at(v, i), vi, n);
    storeUpTo(at(weight, i), f32x4.sub(fnma(w, shrink, w), f32x4.div(f32x4.mul(mi, step), length)), n);
  }
}
