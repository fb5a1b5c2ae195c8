// Products of block types with activations rounded to 8 bits, as the cpu backend rounds them: each block of 32 inputs of a
// row has the scale s = max|x| / 127, and q = x * (127 / max), to the nearest whole number, ties to even. Of a block of an
// output, or of each of its halves where these have scales of their own, a lane adds
//
//   sum = fma(d * s, exact sum of q * quant, sum)   and, with a minimum,   sum = fma(m, s * (sum of q), sum)
//
// A block with a NaN or an infinity makes its row NaN; one that is too small for 127 / max to be finite counts as zeros.

import type { QuantDType } from "../../../core/dtype.ts";
import { hasMinimum, hasUnitScales, quantsText } from "./decode.ts";
import { repeat } from "./text.ts";

/** The bits of 2^-100: 127 / max overflows for what is far below. */
const LEAST_BITS = (127 - 100) << 23;
const INFINITY_BITS = 0x7f800000;

/**
 * WGSL of `rounded(t, b) -> Rounded`, block b of row t of x; of `packed_block(o, u) -> PackedBlock`, the weights of output o from
 * unit u on; and of `add_block(sum, weights, inputs)`.
 */
export function roundedText(dtype: QuantDType, hasPackedDot: boolean): string {
  const minimum = hasMinimum(dtype);
  const isHalved = hasUnitScales(dtype);
  const halves = [
    { scales: "w.scales.x", minimum: "w.scales.y", whole: "dot_unit(w.low, x.low)", total: "x.totals.x" },
    { scales: "w.scales.z", minimum: "w.scales.w", whole: "dot_unit(w.high, x.high)", total: "x.totals.y" },
  ];
  const block = { ...halves[0]!, whole: `${halves[0]!.whole} + ${halves[1]!.whole}` };
  const terms = (isHalved ? halves : [block]).map(({ scales, minimum: m, whole, total }) => {
    const product = `sum = fma(${scales} * x.scale, f32(${whole}), sum);`;
    return minimum ? `${product}\n  sum = fma(${m}, ${total}, sum);` : product;
  });
  return `${quantsText(dtype)}
${hasPackedDot ? DOT : EMULATED_DOT}
fn dot_unit(a: vec4u, b: vec4u) -> i32 { return (dot_bytes(a.x, b.x) + dot_bytes(a.y, b.y)) + (dot_bytes(a.z, b.z) + dot_bytes(a.w, b.w)); }

struct PackedBlock { low: vec4u, high: vec4u, scales: vec4f }
fn packed_block(o: u32, u: u32) -> PackedBlock {
  return PackedBlock(quants(o, u), quants(o, u + 1u), vec4f(scales(o, u), ${isHalved ? "scales(o, u + 1u)" : "0.0, 0.0"}));
}

struct Rounded { low: vec4u, high: vec4u, totals: vec2f, scale: f32 }
fn sizes(v: vec4f) -> vec4u { return bitcast<vec4u>(v) & vec4u(0x7fffffffu); }
fn rounded_four(v: vec4f, inverse: f32) -> u32 {
  let q = bitcast<vec4u>(vec4i(round(v * inverse))) & vec4u(255u);
  return (q.x | (q.y << 8u)) | ((q.z << 16u) | (q.w << 24u));
}
fn rounded(t: u32, b: u32) -> Rounded {
  ${repeat(8, (i) => `let v${i} = inputs(t, 8u * b + ${i}u);`, "\n  ")}
  let most = ${[0, 2, 4, 6].map((i) => `max(sizes(v${i}), sizes(v${i + 1}))`).reduce((a, b) => `max(${a}, ${b})`)};
  let bits = max(max(most.x, most.y), max(most.z, most.w));
  let greatest = bitcast<f32>(bits);
  var block = Rounded(vec4u(), vec4u(), vec2f(), greatest / 127.0);
  if (bits < ${LEAST_BITS}u || bits >= ${INFINITY_BITS}u) { return block; }
  let inverse = 127.0 / greatest;
  block.low = vec4u(${repeat(4, (i) => `rounded_four(v${i}, inverse)`, ", ")});
  block.high = vec4u(${repeat(4, (i) => `rounded_four(v${i + 4}, inverse)`, ", ")});
  ${minimum ? totalsText(isHalved) : ""}
  return block;
}

fn add_block(before: f32, w: PackedBlock, x: Rounded) -> f32 {
  var sum = before;
  ${terms.join("\n  ")}
  return sum;
}`;
}

/** The sums that minimums are multiplied with: of each half, or of the block. */
function totalsText(isHalved: boolean): string {
  const [low, high] = ["low", "high"].map((half) => `dot_unit(vec4u(0x01010101u), block.${half})`);
  return isHalved
    ? `block.totals = block.scale * vec2f(f32(${low}), f32(${high}));`
    : `block.totals.x = block.scale * f32(${low} + ${high});`;
}

const DOT = `fn dot_bytes(a: u32, b: u32) -> i32 { return dot4I8Packed(a, b); }`;
const EMULATED_DOT = `
fn bytes_of(word: u32) -> vec4i { return (vec4i(i32(word)) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u); }
fn dot_bytes(a: u32, b: u32) -> i32 { return dot(bytes_of(a), bytes_of(b)); }`;
