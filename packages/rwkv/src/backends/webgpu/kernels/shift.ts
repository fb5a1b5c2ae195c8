// The token shift, of rows as they are or of a layer norm of them. Workgroups are (columns, row). With a norm each workgroup
// makes the statistics of its row and of the row before, whole, so that none waits for another.
//
// The row before row t is that of the state if t is the first of its run. The workgroup of that row also makes the last row
// the state: no other one touches these elements of the state.

import { STATISTICS, totalText } from "./stages.ts";

/** Threads of a workgroup, and the columns that it writes. */
export const SHIFT_THREADS = 256;
export const SHIFT_COLUMNS = 1024;

export interface ShiftKernel {
  readonly hasNorm: boolean;
  /** Whether it writes the norm, `xn`. */
  readonly isXKept: boolean;
  readonly hasDelta: boolean;
  readonly nOuts: number;
}

/** Operands `x`, `shift`, with a norm `weight` and `bias`; `xn` and `delta`; `out0`, `mix0`, `out1` and so on. */
export function shiftText({ hasNorm, isXKept, hasDelta, nOuts }: ShiftKernel): string {
  const stores = Array.from(
    { length: nOuts },
    (_, n) => `set_out${n}(t, i, fma(previous - current, mix${n}(t, i), current));`,
  );
  if (hasNorm && isXKept) stores.unshift("set_xn(t, i, current);");
  if (hasDelta) stores.unshift("set_delta(t, i, previous - current);");
  const statistics = (row: string): string =>
    hasNorm ? `statistics(thread, ${row}, 0u, p.width)` : "vec2f()";
  return `
${hasNorm ? totalText(SHIFT_THREADS) + STATISTICS.replaceAll("$", "") : ""}
fn value(row: u32, i: u32, s: vec2f) -> f32 {
  return ${hasNorm ? "fma((x(row, i) - s.x) / s.y, weight(row, i), bias(row, i))" : "x(row, i)"};
}
@compute @workgroup_size(${SHIFT_THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let t = group.y;
  let run = run_of_row(t);
  let last = run.first + run.n - 1u;
  let is_first = t == run.first;
  let here = ${statistics("t")};
  // Of the row before; of the last row where that is the state's.
  let other_row = select(t - 1u, last, is_first);
  var other = here;
  if (other_row != t) { other = ${statistics("other_row")}; }
  let start = group.x * ${SHIFT_COLUMNS}u;
  let end = min(start + ${SHIFT_COLUMNS}u, p.width);
  for (var i = start + thread; i < end; i += ${SHIFT_THREADS}u) {
    let current = value(t, i, here);
    var previous = value(other_row, i, other);
    if (is_first) {
      let final_value = previous;
      previous = shift(run.slot, i);
      set_shift(run.slot, i, final_value);
    }
    ${stores.join("\n    ")}
  }
}`;
}
