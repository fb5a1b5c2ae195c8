// The element-wise functions of ops/ops.ts in WGSL, whose `exp` is allowed to go wrong where it overflows and whose `tanh` to
// be off by 1e-5. Which one is a number, so that kernels that end in different ones are one kernel.

import type { Activation } from "../../../ops/ops.ts";

const EXPRESSIONS: Readonly<Record<Activation, string>> = {
  none: "v",
  sigmoid: "sigmoid(v)",
  silu: "v * sigmoid(v)",
  tanh: "hyperbolic_tangent(v)",
  reluSquared: "max(v, 0.0) * max(v, 0.0)",
  decay6: "exp(-exp(min(v, 20.0)))", // beyond 6 the decay is below the least f32
  decay7: `exp(${-Math.exp(-0.5)} * sigmoid(v))`,
};

const NAMES = Object.keys(EXPRESSIONS) as Activation[];

/** What `activate` knows a function by. */
export const activationNumber = (f: Activation): number => NAMES.indexOf(f);

const cases = NAMES.map((f, number) => `    case ${number}u: { return ${EXPRESSIONS[f]}; }`);

/** WGSL of `fn activate(f: u32, v: f32) -> f32`, and what it calls. */
export const ACTIVATIONS_TEXT = `
fn sigmoid(v: f32) -> f32 { return 1.0 / (1.0 + exp(clamp(-v, -87.0, 87.0))); }
fn hyperbolic_tangent(v: f32) -> f32 {
  let square = v * v;
  let near_zero = v * (1.0 - square * (1.0 / 3.0 - square * (2.0 / 15.0)));
  let size = 1.0 - 2.0 / (1.0 + exp(min(2.0 * abs(v), 87.0)));
  return select(sign(v) * size, near_zero, abs(v) < 0.1);
}
fn activate(f: u32, v: f32) -> f32 {
  switch f {
${cases.join("\n")}
    default: { return v; }
  }
}
`;
