// WGSL that unpacks a matrix, the operand `w` in vec4u, by units of 16 inputs; kernels/formats.ts draws its rows. `p.n_in` is
// its inputs.
//
// Quants become signed bytes, their zero point taken off, so that a value is scale * quant + minimum for every block type,
// and kernels with 8-bit activations multiply the bytes as they are.

import { LEVELS } from "../../../core/blocks.ts";
import { DTYPES, hasLevels, isQuantized, type QuantDType } from "../../../core/dtype.ts";
import {
  BLOCK_FORMATS,
  PANEL_OUTPUTS,
  PLANE_WORDS,
  type GpuDType,
  type PlainDType,
  type Plane,
} from "./formats.ts";

/** What is taken off the quants as the planes hold them. */
const ZEROS: Readonly<Partial<Record<QuantDType, number>>> = { q4_0: 8, q5_0: 16, q3_k: 4, q6_k: 32 };

/** Scale and minimum of unit u out of the bytes of its super-block, `d` and `m` given; for types that have those. */
const SUB_SCALES: Readonly<Partial<Record<QuantDType, string>>> = {
  q2_k: `
  let both = (w_word(o, scales_at() + (u >> 2u)) >> (8u * (u & 3u))) & 255u;
  return vec2f(d * f32(both & 15u), -m * f32(both >> 4u));`,
  q3_k: "return vec2f(d * signed_scale(o, u), 0.0);",
  q4_k: "return vec2f(d, -m) * scale_and_minimum(o, u);",
  q5_k: "return vec2f(d, -m) * scale_and_minimum(o, u);",
  q6_k: "return vec2f(d * signed_scale(o, u), 0.0);",
};

const SCALE_READERS = `
fn signed_scale(o: u32, u: u32) -> f32 {
  let word = w_word(o, scales_at() + (u >> 2u));
  return f32(i32(word << (24u - 8u * (u & 3u))) >> 24u);
}
fn scale_and_minimum(o: u32, u: u32) -> vec2f {
  let pair = w_word(o, scales_at() + (u >> 2u)) >> (8u * (u & 2u));
  return vec2f(f32(pair & 255u), f32((pair >> 8u) & 255u));
}`;

/** The 16 quants of a unit in a plane, a byte each. */
const PLANE_TEXTS: Readonly<Record<Plane, (start: string) => string>> = {
  bytes: () => "w(o, u)",
  nibbles: () => "((w(o, u >> 1u) >> vec4u(4u * (u & 1u))) & vec4u(0x0f0f0f0fu))",
  crumbs: (start) => `((vec4u(w_word(o, ${start} + u)) >> vec4u(0u, 2u, 4u, 6u)) & vec4u(0x03030303u))`,
  bits: (start) =>
    `((vec4u(w_word(o, ${start} + (u >> 1u))) >> (vec4u(0u, 1u, 2u, 3u) + 4u * (u & 1u))) & vec4u(0x01010101u))`,
};

/** Bits of a quant that are in the first plane. */
const FIRST_BITS: Readonly<Record<Exclude<Plane, "bits">, number>> = { bytes: 8, nibbles: 4, crumbs: 2 };

export function hasMinimum(dtype: QuantDType): boolean {
  return BLOCK_FORMATS[dtype].halves.length === 2;
}

/** Whether the two units of a block may have scales of their own. */
export function hasUnitScales(dtype: QuantDType): boolean {
  return SUB_SCALES[dtype] !== undefined && dtype !== "q4_k" && dtype !== "q5_k";
}

/**
 * WGSL of `quants(o, u) -> vec4u`, the 16 signed quants of unit u of output o, input 4 j + i in byte i of component j; and of
 * `scales(o, u) -> vec2f`, its scale and minimum.
 */
export function quantsText(dtype: QuantDType): string {
  const { first, second, hasScales } = BLOCK_FORMATS[dtype];
  const zero = ZEROS[dtype];
  const levels = hasLevels(dtype) ? LEVELS[dtype] : undefined;
  const secondWords = second === null ? 0 : PLANE_WORDS[second];
  const planes = PLANE_TEXTS[first]("0u");
  const all =
    second === null
      ? planes
      : `(${planes} | (${PLANE_TEXTS[second]("second_at()")} << vec4u(${FIRST_BITS[first]}u)))`;
  // A byte of 128 + q never borrows from its neighbour.
  const signed =
    zero === undefined
      ? all
      : `(((${all} | vec4u(0x80808080u)) - vec4u(${zero * 0x01010101}u)) ^ vec4u(0x80808080u))`;
  return `
fn all_blocks() -> u32 { return (p.n_in + 31u) / 32u; }
fn second_at() -> u32 { return all_blocks() * ${PLANE_WORDS[first]}u; }
fn scales_at() -> u32 { return all_blocks() * ${PLANE_WORDS[first] + secondWords}u; }
fn fields_at() -> u32 { return scales_at()${hasScales ? " + all_blocks() / 2u" : ""}; }
${hasScales ? SCALE_READERS : ""}
${levels === undefined ? "" : levelsText(levels)}
fn quants(o: u32, u: u32) -> vec4u { return ${levels === undefined ? signed : `levels_of(${all})`}; }
fn scales(o: u32, u: u32) -> vec2f {
  let block = u / ${DTYPES[dtype].blockElements / 16}u;
  ${
    hasMinimum(dtype)
      ? "let fields = unpack2x16float(w_word(o, fields_at() + block)); let d = fields.x; let m = fields.y;"
      : `let pair = unpack2x16float(w_word(o, fields_at() + (block >> 1u)));
  let d = select(pair.x, pair.y, (block & 1u) == 1u);`
  }
  ${SUB_SCALES[dtype] ?? (hasMinimum(dtype) ? "return vec2f(d, m);" : "return vec2f(d, 0.0);")}
}`;
}

/** Levels as bytes of four words, of which a number chooses the word and then the byte. */
function levelsText(levels: readonly number[]): string {
  const [a, b, c, d] = [0, 4, 8, 12].map((at) => {
    const bytes = Uint8Array.from(levels.slice(at, at + 4), (level) => level & 255);
    return `vec4u(${new DataView(bytes.buffer).getUint32(0, true)}u)`;
  });
  return `
fn level_bytes(q: vec4u) -> vec4u {
  let has4 = (q & vec4u(4u)) != vec4u();
  let word = select(select(${a}, ${b}, has4), select(${c}, ${d}, has4), (q & vec4u(8u)) != vec4u());
  return (word >> (vec4u(8u) * (q & vec4u(3u)))) & vec4u(255u);
}
fn levels_of(q: vec4u) -> vec4u {
  return level_bytes(q) | (level_bytes(q >> vec4u(8u)) << vec4u(8u))
    | (level_bytes(q >> vec4u(16u)) << vec4u(16u)) | (level_bytes(q >> vec4u(24u)) << vec4u(24u));
}`;
}

const PANEL_EIGHTS = PANEL_OUTPUTS / 8;

/** Eight consecutive values `i` of a row or panel. */
const EIGHT_TEXTS: Readonly<Record<PlainDType, string>> = {
  f32: "return mat2x4f(bitcast<vec4f>(w(row, 2u * i)), bitcast<vec4f>(w(row, 2u * i + 1u)));",
  f16: `
  let a = w(row, i);
  return mat2x4f(
    vec4f(unpack2x16float(a.x), unpack2x16float(a.y)), vec4f(unpack2x16float(a.z), unpack2x16float(a.w)));`,
  bf16: `
  let a = w(row, i);
  return mat2x4f(four(a.xy), four(a.zw));`,
};

const eightText = (dtype: PlainDType): string => `
fn four(halves: vec2u) -> vec4f {
  return bitcast<vec4f>(vec4u(halves.x << 16u, halves.x & 0xffff0000u, halves.y << 16u, halves.y & 0xffff0000u));
}
fn eight(row: u32, i: u32) -> mat2x4f { ${EIGHT_TEXTS[dtype]} }`;

/** WGSL of `weights(o, u) -> mat4x4f`: the 16 values of unit u of output o, four to a column. */
export function weightsText(dtype: GpuDType): string {
  if (!isQuantized(dtype)) {
    return `${eightText(dtype)}
fn weights(o: u32, u: u32) -> mat4x4f {
  let a = eight(o, 2u * u);
  let b = eight(o, 2u * u + 1u);
  return mat4x4f(a[0], a[1], b[0], b[1]);
}`;
  }
  return `${quantsText(dtype)}
fn signed_bytes(word: u32) -> vec4f { return vec4f((vec4i(i32(word)) << vec4u(24u, 16u, 8u, 0u)) >> vec4u(24u)); }
fn weights(o: u32, u: u32) -> mat4x4f {
  let q = quants(o, u);
  let s = scales(o, u);
  return mat4x4f(value(signed_bytes(q.x), s), value(signed_bytes(q.y), s), value(signed_bytes(q.z), s), value(signed_bytes(q.w), s));
}
fn value(q: vec4f, s: vec2f) -> vec4f { return ${hasMinimum(dtype) ? "fma(vec4f(s.x), q, vec4f(s.y))" : "s.x * q"}; }`;
}

/** WGSL of `column_of(g, i) -> mat2x4f`, for panels: the weights of outputs 8 g to 8 g + 7 of input i. */
export function columnText(dtype: PlainDType): string {
  return `${eightText(dtype)}
fn column_of(g: u32, i: u32) -> mat2x4f { return eight(g / ${PANEL_EIGHTS}u, ${PANEL_EIGHTS}u * i + g % ${PANEL_EIGHTS}u); }`;
}
