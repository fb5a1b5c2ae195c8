// norm, l2NormHeads and addBonus, forward and backward. Sums are f32 in four lanes; a norm takes the mean off before it
// squares, so that a large mean costs no digits of the variance.

import { addWanted, at, firstOf, fma, fnma, isAdded, loadUpTo, setOrAdd, splat, storeUpTo, sum } from "./simd.ts";

export function norm(
  out: usize,
  stats: usize,
  x: usize,
  weight: usize,
  bias: usize,
  nRows: i32,
  width: i32,
  nGroups: i32,
  eps: f32,
): void {
  const N = width / nGroups;
  for (let row = 0; row < nRows; row++) {
    for (let first = 0; first < width; first += N, stats += 8) {
      const from = at(x, row * width + first);
      const to = at(out, row * width + first);
      let sums = splat(0);
      for (let i = 0; i < N; i += 4) sums = f32x4.add(sums, loadUpTo(at(from, i), N - i));
      const mean = sum(sums) / <f32>N;
      const means = splat(mean);
      let squares = splat(0);
      for (let i = 0; i < N; i += 4) {
        const difference = firstOf(f32x4.sub(loadUpTo(at(from, i), N - i), means), N - i);
        squares = fma(difference, difference, squares);
      }
      const inverse = <f32>1 / sqrt<f32>(sum(squares) / <f32>N + eps);
      store<f32>(stats, mean);
      store<f32>(stats, inverse, 4);
      const scale = splat(inverse);
      for (let i = 0; i < N; i += 4) {
        const n = N - i;
        const u = f32x4.mul(f32x4.sub(loadUpTo(at(from, i), n), means), scale);
        storeUpTo(at(to, i), fma(u, loadUpTo(at(weight, first + i), n), loadUpTo(at(bias, first + i), n)), n);
      }
    }
  }
}

export function normBackward(
  dx: usize,
  dWeight: usize,
  dBias: usize,
  dOut: usize,
  x: usize,
  stats: usize,
  weight: usize,
  nRows: i32,
  width: i32,
  nGroups: i32,
  added: i32,
): void {
  const N = width / nGroups;
  for (let row = 0; row < nRows; row++) {
    for (let first = 0; first < width; first += N, stats += 8) {
      const start = row * width + first;
      const mean = v128.load32_splat(stats, 0);
      const inverse = v128.load32_splat(stats, 4);
      let sumG = splat(0);
      let sumGu = splat(0);
      for (let i = 0; i < N; i += 4) {
        const n = N - i;
        const g = f32x4.mul(loadUpTo(at(dOut, start + i), n), loadUpTo(at(weight, first + i), n));
        const u = f32x4.mul(f32x4.sub(loadUpTo(at(x, start + i), n), mean), inverse);
        sumG = f32x4.add(sumG, g);
        sumGu = fma(g, u, sumGu);
      }
      const meanG = splat(sum(sumG) / <f32>N);
      const meanGu = splat(sum(sumGu) / <f32>N);
      for (let i = 0; i < N; i += 4) {
        const n = N - i;
        const d = loadUpTo(at(dOut, start + i), n);
        const u = f32x4.mul(f32x4.sub(loadUpTo(at(x, start + i), n), mean), inverse);
        addWanted(dWeight, first + i, f32x4.mul(d, u), n);
        addWanted(dBias, first + i, d, n);
        const rest = fnma(u, meanGu, f32x4.sub(f32x4.mul(d, loadUpTo(at(weight, first + i), n)), meanG));
        setOrAdd(at(dx, start + i), f32x4.mul(inverse, rest), n, isAdded(added, 0));
      }
    }
  }
}

export function l2NormHeads(
  out: usize,
  inverses: usize,
  x: usize,
  scale: usize,
  nRows: i32,
  width: i32,
  nHeads: i32,
  eps: f32,
): void {
  const N = width / nHeads;
  for (let row = 0; row < nRows; row++) {
    for (let first = 0; first < width; first += N, inverses += 4) {
      const from = at(x, row * width + first);
      const scales = at(scale, first);
      const to = at(out, row * width + first);
      let squares = splat(0);
      for (let i = 0; i < N; i += 4) {
        const u = f32x4.mul(loadUpTo(at(from, i), N - i), loadUpTo(at(scales, i), N - i));
        squares = fma(u, u, squares);
      }
      const inverse = <f32>1 / max<f32>(sqrt<f32>(sum(squares)), eps);
      store<f32>(inverses, inverse);
      for (let i = 0; i < N; i += 4) {
        const n = N - i;
        const u = f32x4.mul(loadUpTo(at(from, i), n), loadUpTo(at(scales, i), n));
        storeUpTo(at(to, i), f32x4.mul(u, splat(inverse)), n);
      }
    }
  }
}

export function l2NormHeadsBackward(
  dx: usize,
  dScale: usize,
  dOut: usize,
  out: usize,
  inverses: usize,
  x: usize,
  scale: usize,
  nRows: i32,
  width: i32,
  nHeads: i32,
  eps: f32,
  added: i32,
): void {
  const N = width / nHeads;
  for (let row = 0; row < nRows; row++) {
    for (let first = 0; first < width; first += N, inverses += 4) {
      const start = row * width + first;
      const inverse = load<f32>(inverses);
      let products = splat(0);
      // A vector shorter than eps was divided by a constant.
      if (inverse < <f32>1 / eps) {
        for (let i = 0; i < N; i += 4) {
          products = fma(loadUpTo(at(dOut, start + i), N - i), loadUpTo(at(out, start + i), N - i), products);
        }
      }
      const along = splat(sum(products));
      for (let i = 0; i < N; i += 4) {
        const n = N - i;
        const rest = fnma(loadUpTo(at(out, start + i), n), along, loadUpTo(at(dOut, start + i), n));
        const du = f32x4.mul(splat(inverse), rest);
        addWanted(dScale, first + i, f32x4.mul(du, loadUpTo(at(x, start + i), n)), n);
        setOrAdd(at(dx, start + i), f32x4.mul(du, loadUpTo(at(scale, first + i), n)), n, isAdded(added, 0));
      }
    }
  }
}

/** The sum of r * k * rK over a head. */
@inline
function bonusOf(r: usize, k: usize, rK: usize, N: i32): v128 {
  let sums = splat(0);
  for (let i = 0; i < N; i += 4) {
    const n = N - i;
    sums = fma(f32x4.mul(loadUpTo(at(r, i), n), loadUpTo(at(k, i), n)), loadUpTo(at(rK, i), n), sums);
  }
  return splat(sum(sums));
}

export function addBonus(
  out: usize,
  y: usize,
  r: usize,
  k: usize,
  v: usize,
  rK: usize,
  nRows: i32,
  width: i32,
  nHeads: i32,
): void {
  const N = width / nHeads;
  for (let row = 0; row < nRows; row++) {
    for (let first = 0; first < width; first += N) {
      const start = row * width + first;
      const bonus = bonusOf(at(r, start), at(k, start), at(rK, first), N);
      for (let i = 0; i < N; i += 4) {
        const n = N - i;
        storeUpTo(at(out, start + i), fma(bonus, loadUpTo(at(v, start + i), n), loadUpTo(at(y, start + i), n)), n);
      }
    }
  }
}

export function addBonusBackward(
  dr: usize,
  dk: usize,
  dv: usize,
  dRK: usize,
  dOut: usize,
  r: usize,
  k: usize,
  v: usize,
  rK: usize,
  nRows: i32,
  width: i32,
  nHeads: i32,
  added: i32,
): void {
  const N = width / nHeads;
  for (let row = 0; row < nRows; row++) {
    for (let first = 0; first < width; first += N) {
      const start = row * width + first;
      const bonus = bonusOf(at(r, start), at(k, start), at(rK, first), N);
      let sums = splat(0);
      for (let i = 0; i < N; i += 4) {
        sums = fma(loadUpTo(at(dOut, start + i), N - i), loadUpTo(at(v, start + i), N - i), sums);
      }
      const dBonus = splat(sum(sums));
      for (let i = 0; i < N; i += 4) {
        const n = N - i;
        const ri = loadUpTo(at(r, start + i), n);
        const ki = loadUpTo(at(k, start + i), n);
        const weight = f32x4.mul(dBonus, loadUpTo(at(rK, first + i), n));
        addWanted(dRK, first + i, f32x4.mul(f32x4.mul(dBonus, ri), ki), n);
        setOrAdd(at(dr, start + i), f32x4.mul(weight, ki), n, isAdded(added, 0));
        setOrAdd(at(dk, start + i), f32x4.mul(weight, ri), n, isAdded(added, 1));
        setOrAdd(at(dv, start + i), f32x4.mul(bonus, loadUpTo(at(dOut, start + i), n)), n, isAdded(added, 2));
      }
    }
  }
}
