// Small pieces that all kernels share: vectors shorter than four lanes, the order of the horizontal sum, and how an
// operation is cut into parts.

/** The last 1 to 3 elements of a row, zeros in the lanes beyond. */
@inline
export function loadTail(p: usize, n: i32): v128 {
  let v = v128.load_zero<u32>(p);
  if (n > 1) v = v128.load_lane<u32>(p, v, 1, 4);
  if (n > 2) v = v128.load_lane<u32>(p, v, 2, 8);
  return v;
}

/** Stores the first 1 to 3 lanes. */
@inline
export function storeTail(p: usize, v: v128, n: i32): void {
  v128.store_lane<u32>(p, v, 0);
  if (n > 1) v128.store_lane<u32>(p, v, 1, 4);
  if (n > 2) v128.store_lane<u32>(p, v, 2, 8);
}

/**
 * A constant that stays in a register over a loop: engines (V8 11 and 13) make what they know to be constant anew for
 * each use. @param room - 16 bytes to overwrite
 */
@inline
export function kept(constant: v128, room: usize): v128 {
  v128.store(room, constant);
  return v128.load(room);
}

/** (l0 + l2) + (l1 + l3), in lane 0. */
@inline
export function sumLanes(v: v128): v128 {
  const pairs = f32x4.add(v, i8x16.shuffle(v, v, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7));
  return f32x4.add(pairs, i8x16.shuffle(pairs, pairs, 4, 5, 6, 7, 0, 1, 2, 3, 4, 5, 6, 7, 0, 1, 2, 3));
}

/** The horizontal sums of four vectors, each in the order of `sumLanes`. */
@inline
export function sumLanes4(a: v128, b: v128, c: v128, d: v128): v128 {
  // Transposed, so that lane i of `li` is lane l of the i-th vector.
  const ab02 = i32x4.shuffle(a, b, 0, 2, 4, 6);
  const ab13 = i32x4.shuffle(a, b, 1, 3, 5, 7);
  const cd02 = i32x4.shuffle(c, d, 0, 2, 4, 6);
  const cd13 = i32x4.shuffle(c, d, 1, 3, 5, 7);
  const l0 = i32x4.shuffle(ab02, cd02, 0, 2, 4, 6);
  const l2 = i32x4.shuffle(ab02, cd02, 1, 3, 5, 7);
  const l1 = i32x4.shuffle(ab13, cd13, 0, 2, 4, 6);
  const l3 = i32x4.shuffle(ab13, cd13, 1, 3, 5, 7);
  return f32x4.add(f32x4.add(l0, l2), f32x4.add(l1, l3));
}

/** Where part `part` of `nParts` begins among `n` things that are handed out `unit` at a time. */
@inline
export function partStart(n: i32, unit: i32, part: i32, nParts: i32): i32 {
  const nUnits = (n + unit - 1) / unit;
  const start = <i32>((<i64>nUnits * <i64>part) / <i64>nParts) * unit;
  return min(start, n);
}
