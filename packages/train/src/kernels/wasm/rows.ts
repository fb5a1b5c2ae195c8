// Operations on single elements and activations, forward and backward. The maths is in ../kernels.ts.

import { activateSpan, exp } from "../../../../rwkv/src/backends/cpu/wasm/functions.ts";
import {
  ACTIVATION_DECAY6,
  ACTIVATION_DECAY7,
  ACTIVATION_RELU_SQUARED,
  ACTIVATION_SIGMOID,
  ACTIVATION_SILU,
  ACTIVATION_TANH,
} from "../../../../rwkv/src/backends/cpu/abi.ts";
import { addWanted, at, fma, fnma, isAdded, loadUpTo, setOrAdd, splat, storeUpTo } from "./simd.ts";

export function addScaled(out: usize, x: usize, y: usize, scale: f32, nElements: i32): void {
  const factor = splat(scale);
  for (let i = 0; i < nElements; i += 4) {
    const n = nElements - i;
    storeUpTo(at(out, i), fma(loadUpTo(at(y, i), n), factor, loadUpTo(at(x, i), n)), n);
  }
}

export function mul(out: usize, x: usize, y: usize, nElements: i32): void {
  for (let i = 0; i < nElements; i += 4) {
    const n = nElements - i;
    storeUpTo(at(out, i), f32x4.mul(loadUpTo(at(x, i), n), loadUpTo(at(y, i), n)), n);
  }
}

export function mulBackward(
  dx: usize,
  dy: usize,
  dOut: usize,
  x: usize,
  y: usize,
  nElements: i32,
  added: i32,
): void {
  for (let i = 0; i < nElements; i += 4) {
    const n = nElements - i;
    const d = loadUpTo(at(dOut, i), n);
    const toX = f32x4.mul(d, loadUpTo(at(y, i), n));
    const toY = f32x4.mul(d, loadUpTo(at(x, i), n));
    setOrAdd(at(dx, i), toX, n, isAdded(added, 0));
    setOrAdd(at(dy, i), toY, n, isAdded(added, 1));
  }
}

export function lerp(out: usize, x: usize, target: usize, weight: usize, nElements: i32): void {
  for (let i = 0; i < nElements; i += 4) {
    const n = nElements - i;
    const from = loadUpTo(at(x, i), n);
    const difference = f32x4.sub(loadUpTo(at(target, i), n), from);
    storeUpTo(at(out, i), fma(difference, loadUpTo(at(weight, i), n), from), n);
  }
}

export function lerpBackward(
  dx: usize,
  dTarget: usize,
  dWeight: usize,
  dOut: usize,
  x: usize,
  target: usize,
  weight: usize,
  nElements: i32,
  added: i32,
): void {
  for (let i = 0; i < nElements; i += 4) {
    const n = nElements - i;
    const d = loadUpTo(at(dOut, i), n);
    const toTarget = f32x4.mul(d, loadUpTo(at(weight, i), n));
    const difference = f32x4.sub(loadUpTo(at(target, i), n), loadUpTo(at(x, i), n));
    setOrAdd(at(dx, i), f32x4.sub(d, toTarget), n, isAdded(added, 0));
    setOrAdd(at(dTarget, i), toTarget, n, isAdded(added, 1));
    setOrAdd(at(dWeight, i), f32x4.mul(d, difference), n, isAdded(added, 2));
  }
}

export function scaleKey(out: usize, k: usize, a: usize, kA: usize, nRows: i32, width: i32): void {
  for (let row = 0; row < nRows * width; row += width) {
    for (let i = 0; i < width; i += 4) {
      const n = width - i;
      const less = f32x4.sub(loadUpTo(at(a, row + i), n), splat(1));
      const factor = fma(less, loadUpTo(at(kA, i), n), splat(1));
      storeUpTo(at(out, row + i), f32x4.mul(loadUpTo(at(k, row + i), n), factor), n);
    }
  }
}

export function scaleKeyBackward(
  dk: usize,
  da: usize,
  dKA: usize,
  dOut: usize,
  k: usize,
  a: usize,
  kA: usize,
  nRows: i32,
  width: i32,
  added: i32,
): void {
  for (let row = 0; row < nRows * width; row += width) {
    for (let i = 0; i < width; i += 4) {
      const n = width - i;
      const d = loadUpTo(at(dOut, row + i), n);
      const less = f32x4.sub(loadUpTo(at(a, row + i), n), splat(1));
      const weight = loadUpTo(at(kA, i), n);
      const dFactor = f32x4.mul(d, loadUpTo(at(k, row + i), n));
      setOrAdd(at(dk, row + i), f32x4.mul(d, fma(less, weight, splat(1))), n, isAdded(added, 0));
      setOrAdd(at(da, row + i), f32x4.mul(dFactor, weight), n, isAdded(added, 1));
      addWanted(dKA, i, f32x4.mul(dFactor, less), n);
    }
  }
}

export function activate(out: usize, x: usize, bias: usize, nRows: i32, width: i32, activation: i32): void {
  if (bias == 0) {
    activateSpan(activation, out, x, nRows * width);
    return;
  }
  for (let row = 0; row < nRows * width; row += width) {
    for (let i = 0; i < width; i += 4) {
      const n = width - i;
      storeUpTo(at(out, row + i), f32x4.add(loadUpTo(at(x, row + i), n), loadUpTo(at(bias, i), n)), n);
    }
    activateSpan(activation, at(out, row), at(out, row), width);
  }
}

@inline
function sigmoid(x: v128): v128 {
  return f32x4.div(splat(1), f32x4.add(splat(1), exp(f32x4.neg(x))));
}

/** f'(x), of which out is f(x). */
@inline
function slope(activation: i32, x: v128, out: v128): v128 {
  if (activation == ACTIVATION_SIGMOID) return fnma(out, out, out);
  if (activation == ACTIVATION_SILU) {
    const s = sigmoid(x);
    return f32x4.mul(s, fma(x, f32x4.sub(splat(1), s), splat(1)));
  }
  if (activation == ACTIVATION_TANH) return fnma(out, out, splat(1));
  if (activation == ACTIVATION_RELU_SQUARED) {
    const positive = f32x4.pmax(x, splat(0));
    return f32x4.add(positive, positive);
  }
  // Beyond 88 exp is infinite where out is zero: the bound keeps their product from being no number.
  if (activation == ACTIVATION_DECAY6) return f32x4.mul(f32x4.neg(out), exp(f32x4.pmin(x, splat(88))));
  if (activation == ACTIVATION_DECAY7) {
    const s = sigmoid(x);
    return f32x4.mul(f32x4.mul(out, splat(-0.6065306597126334)), fnma(s, s, s));
  }
  return splat(1);
}

@inline
function activateRowsBackward(
  activation: i32,
  dx: usize,
  dBias: usize,
  dOut: usize,
  x: usize,
  out: usize,
  bias: usize,
  nRows: i32,
  width: i32,
): void {
  for (let row = 0; row < nRows * width; row += width) {
    for (let i = 0; i < width; i += 4) {
      const n = width - i;
      let value = loadUpTo(at(x, row + i), n);
      if (bias != 0) value = f32x4.add(value, loadUpTo(at(bias, i), n));
      const d = f32x4.mul(loadUpTo(at(dOut, row + i), n), slope(activation, value, loadUpTo(at(out, row + i), n)));
      storeUpTo(at(dx, row + i), d, n);
      addWanted(dBias, i, d, n);
    }
  }
}

export function activateBackward(
  dx: usize,
  dBias: usize,
  dOut: usize,
  x: usize,
  out: usize,
  bias: usize,
  nRows: i32,
  width: i32,
  activation: i32,
): void {
  switch (activation) {
    case ACTIVATION_SIGMOID:
      activateRowsBackward(ACTIVATION_SIGMOID, dx, dBias, dOut, x, out, bias, nRows, width);
      return;
    case ACTIVATION_SILU:
      activateRowsBackward(ACTIVATION_SILU, dx, dBias, dOut, x, out, bias, nRows, width);
      return;
    case ACTIVATION_TANH:
      activateRowsBackward(ACTIVATION_TANH, dx, dBias, dOut, x, out, bias, nRows, width);
      return;
    case ACTIVATION_RELU_SQUARED:
      activateRowsBackward(ACTIVATION_RELU_SQUARED, dx, dBias, dOut, x, out, bias, nRows, width);
      return;
    case ACTIVATION_DECAY6:
      activateRowsBackward(ACTIVATION_DECAY6, dx, dBias, dOut, x, out, bias, nRows, width);
      return;
    case ACTIVATION_DECAY7:
      activateRowsBackward(ACTIVATION_DECAY7, dx, dBias, dOut, x, out, bias, nRows, width);
      return;
    default:
      activateRowsBackward(0, dx, dBias, dOut, x, out, bias, nRows, width);
  }
}
