// Small pieces that all kernels share. Vectors have four lanes; a row ends with one that is cut short, whose lanes beyond
// are zero. Arguments stand in the order of ../kernels.ts, arrays and lists by their addresses, null as 0.

import { loadTail, storeTail, sumLanes } from "../../../../rwkv/src/backends/cpu/wasm/simd.ts";

/** The address of element i. */
@inline
export function at(array: usize, i: i32): usize {
  return array + (<usize>i << 2);
}

/** The first of n >= 1 elements, at most four. */
@inline
export function loadUpTo(p: usize, n: i32): v128 {
  return n >= 4 ? v128.load(p) : loadTail(p, n);
}

@inline
export function storeUpTo(p: usize, v: v128, n: i32): void {
  if (n >= 4) v128.store(p, v);
  else storeTail(p, v, n);
}

/** The first n lanes, zeros behind them. */
@inline
export function firstOf(v: v128, n: i32): v128 {
  if (n >= 4) return v;
  return v128.and(v, i32x4.gt_s(i32x4.splat(n), i32x4(0, 1, 2, 3)));
}

@inline
export function splat(value: f32): v128 {
  return f32x4.splat(value);
}

/** a * b + c; with relaxed SIMD rounded once where the processor can. */
@inline
export function fma(a: v128, b: v128, c: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? f32x4.relaxed_madd(a, b, c) : f32x4.add(f32x4.mul(a, b), c);
}

/** c - a * b, likewise. */
@inline
export function fnma(a: v128, b: v128, c: v128): v128 {
  return ASC_FEATURE_RELAXED_SIMD ? f32x4.relaxed_nmadd(a, b, c) : f32x4.sub(c, f32x4.mul(a, b));
}

@inline
export function sum(v: v128): f32 {
  return f32x4.extract_lane(sumLanes(v), 0);
}

/** Whether the i-th gradient of rows is added to, not set. */
@inline
export function isAdded(added: i32, i: i32): bool {
  return ((added >> i) & 1) != 0;
}

@inline
export function setOrAdd(to: usize, v: v128, n: i32, addToIt: bool): void {
  storeUpTo(to, addToIt ? f32x4.add(loadUpTo(to, n), v) : v, n);
}

/** The gradient of a weight: to += v, unless it is not wanted. */
@inline
export function addWanted(to: usize, i: i32, v: v128, n: i32): void {
  if (to != 0) setOrAdd(at(to, i), v, n, true);
}
