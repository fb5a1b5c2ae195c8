// How a product ends, whatever kernel makes its sums: out = base + scale * factor * f(bias + sum). Together with SELECT_PART
// of kernel.ts this is all that product kernels need to know of what they are fused with: they read `x`, `w`, `p.n_in` and
// `p.n_out`, and call `finish(t, o, sum)` once for each output o of each row t.

import { ACTIVATIONS_TEXT } from "./activations.ts";

/** Bits of `p.has`. */
export const HAS = { bias: 1, factor: 2, base: 4 } as const;

/** WGSL of `fn finish(t: u32, o: u32, sum: f32)`; operands `out`, `factor`, `base` and, if there is one, `bias`. */
export function productEndText(hasBias: boolean): string {
  return `${ACTIVATIONS_TEXT}
fn finish(t: u32, o: u32, sum: f32) {
  var value = sum;
  ${hasBias ? `if ((p.has & ${HAS.bias}u) != 0u) { value += bias(t, o); }` : ""}
  value = activate(p.activation, value);
  if ((p.has & ${HAS.factor}u) != 0u) { value *= factor(t, o); }
  if ((p.has & ${HAS.base}u) != 0u) { value = fma(p.scale, value, base(t, o)); }
  set_out(t, o, value);
}`;
}
