// Token shifts per run, forward and backward. A list is a table of addresses.

import { addWanted, at, fma, fnma, isAdded, loadUpTo, setOrAdd, splat, storeUpTo } from "./simd.ts";

@inline
function item(list: usize, i: i32): usize {
  return load<usize>(list + (<usize>i << 2));
}

@inline
function firstRowOf(runs: usize, run: i32): i32 {
  return load<i32>(at(runs, run));
}

/** The row before `row` of a run that begins at `first`. */
@inline
function rowBefore(x: usize, shift: usize, row: i32, first: i32, run: i32, width: i32): usize {
  return row > first ? at(x, (row - 1) * width) : at(shift, run * width);
}

export function tokenShift(
  outs: usize,
  shiftOut: usize,
  x: usize,
  shift: usize,
  mix: usize,
  nOuts: i32,
  runs: usize,
  nRuns: i32,
  width: i32,
): void {
  for (let run = 0; run < nRuns; run++) {
    const first = firstRowOf(runs, run);
    const end = firstRowOf(runs, run + 1);
    for (let row = first; row < end; row++) {
      const before = rowBefore(x, shift, row, first, run, width);
      for (let i = 0; i < width; i += 4) {
        const n = width - i;
        const now = loadUpTo(at(x, row * width + i), n);
        const delta = f32x4.sub(loadUpTo(at(before, i), n), now);
        for (let o = 0; o < nOuts; o++) {
          storeUpTo(at(item(outs, o), row * width + i), fma(delta, loadUpTo(at(item(mix, o), i), n), now), n);
        }
      }
    }
    memory.copy(at(shiftOut, run * width), rowBefore(x, shift, end, first, run, width), <usize>width << 2);
  }
}

export function tokenShiftBackward(
  dx: usize,
  dShift: usize,
  dMix: usize,
  dOuts: usize,
  x: usize,
  shift: usize,
  mix: usize,
  nOuts: i32,
  runs: usize,
  nRuns: i32,
  width: i32,
  added: i32,
): void {
  for (let run = 0; run < nRuns; run++) {
    const first = firstRowOf(runs, run);
    const end = firstRowOf(runs, run + 1);
    const dState: usize = dShift == 0 ? <usize>0 : at(dShift, run * width);
    for (let row = first; row < end; row++) {
      const before = rowBefore(x, shift, row, first, run, width);
      const isLast = row + 1 == end;
      for (let i = 0; i < width; i += 4) {
        const n = width - i;
        const here = row * width + i;
        const delta = f32x4.sub(loadUpTo(at(before, i), n), loadUpTo(at(x, here), n));
        let own = splat(0);
        let next = splat(0);
        if (isLast && dState != 0) next = loadUpTo(at(dState, i), n);
        for (let o = 0; o < nOuts; o++) {
          const d = loadUpTo(at(item(dOuts, o), here), n);
          const share = loadUpTo(at(item(mix, o), i), n);
          own = f32x4.add(own, fnma(d, share, d));
          if (!isLast) next = fma(loadUpTo(at(item(dOuts, o), here + width), n), share, next);
          addWanted(item(dMix, o), i, f32x4.mul(d, delta), n);
        }
        setOrAdd(at(dx, here), f32x4.add(own, next), n, isAdded(added, 0));
      }
    }
    if (dState == 0) continue;
    for (let i = 0; i < width; i += 4) {
      const n = width - i;
      let d = splat(0);
      for (let o = 0; o < nOuts; o++) {
        d = fma(loadUpTo(at(item(dOuts, o), first * width + i), n), loadUpTo(at(item(mix, o), i), n), d);
      }
      storeUpTo(at(dState, i), d, n);
    }
  }
}
