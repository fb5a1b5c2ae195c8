// Operations on single elements and on whole rows. One thread per element: workgroups are (64 elements, row).

import type { Activation } from "../../../ops/ops.ts";
import { activationText } from "./activations.ts";

export const ELEMENTS_PER_GROUP = 64;

/** Runs `statements` for row `t` and column `i`. */
const forElements = (statements: string): string => `
@compute @workgroup_size(${ELEMENTS_PER_GROUP})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let i = id.x;
  let t = id.y;
  if (i >= p.width) { return; }
  ${statements}
}`;

export const ADD = forElements("set_x(t, i, x(t, i) + y(t, i) * p.scale);");
export const MUL = forElements("set_x(t, i, x(t, i) * y(t, i));");
export const LERP = forElements("set_x(t, i, x(t, i) + (goal(t, i) - x(t, i)) * weight(t, i));");
export const ADD_MUL = forElements("set_out(t, i, x(t, i) + a(t, i) * b(t, i));");
export const SCALE_KEY = forElements("set_k(t, i, k(t, i) * (1.0 + (a(t, i) - 1.0) * kA(t, i)));");
/** Of words, so that no value is touched. */
export const COPY = forElements("set_out(t, i, x(t, i));");
export const SELECT_ROWS = forElements("set_out(t, i, x(wanted_row(t), i));");

export function activate(f: Activation): string {
  return activationText("it", f) + forElements("set_out(t, i, activate_it(x(t, i)));");
}

/**
 * The row before row `t` is that of the state if `t` is the first of its run. The thread of the first row also makes the
 * last row the state: no other thread touches that element of the state.
 */
const WITH_PREVIOUS = `
  let run = run_of_row(t);
  let current = x(t, i);
  var previous: f32;
  if (t == run.first) {
    previous = shift(run.slot, i);
    set_shift(run.slot, i, x(run.first + run.n - 1u, i));
  } else {
    previous = x(t - 1u, i);
  }`;

export const SHIFT_DELTA = forElements(`${WITH_PREVIOUS}
  set_out(t, i, previous - current);`);

/** Operands `out0`, `mix0`, `out1`, `mix1` and so on. */
export function tokenShift(nOuts: number): string {
  const stores = Array.from(
    { length: nOuts },
    (_, n) => `set_out${n}(t, i, current + (previous - current) * mix${n}(t, i));`,
  );
  return forElements(`${WITH_PREVIOUS}
  ${stores.join("\n  ")}`);
}
