// What all kernels of products w x share: the terms of a block of 32 inputs, and the order in which they are
// added, which is the same for any number of rows and in every variant, so that a row's bits never depend on the rows
// beside it or on the features of the device.
//
// Order of sums. Block b belongs to lane b mod 16. A lane adds its blocks in increasing order: with f32 activations each
// product by one fma, in the order of the inputs; with rounded ones as kernels/rounding.ts says. Four lanes are added as
// ((0 + 1) + 2) + 3, and so are the four sums of such four.

import { isQuantized } from "../../../core/dtype.ts";
import { columnText, weightsText } from "./decode.ts";
import { BLOCK_INPUTS, type GpuDType } from "./formats.ts";
import { SELECT_PART } from "./kernel.ts";
import { productEndText } from "./product-end.ts";
import { roundedText } from "./rounding.ts";

/** Lanes that share the blocks of an output. */
export const LANES = 16;

/** What a device offers beyond plain WebGPU. */
export interface KernelFeatures {
  /** Consecutive threads that are sure to be in one subgroup, 4 or 16; 0 without subgroups. */
  readonly subgroupThreads: 0 | 4 | 16;
  /** Whether WGSL has dot products of packed bytes. */
  readonly hasPackedDot: boolean;
}

/** A product, as kernels are told apart by. */
export interface ProductKind {
  readonly dtype: GpuDType;
  /** What the rows of x are. */
  readonly rows: "token" | "logit";
  /** Whether one of the products of the dispatch has a bias. */
  readonly hasBias: boolean;
  /** Whether x is rounded to 8 bits; for block types. */
  readonly isRounded: boolean;
  /** Whether the matrix lies in panels, and zeros of x are skipped; for plain types. */
  readonly isSparse: boolean;
}

/** WGSL that both kinds of kernels begin with. */
export function productText(kind: ProductKind, features: KernelFeatures): string {
  const { rows, hasBias } = kind;
  return `${unpackText(kind, features)}
${productEndText(hasBias)}
fn n_rows() -> u32 { return n_${rows}s(); }

// Inputs 4 i4 to 4 i4 + 3 of row t, zeros beyond the end.
fn inputs(t: u32, i4: u32) -> vec4f {
  let i = 4u * i4;
  var v = vec4f();
  if (t >= n_rows()) { return v; }
  if (i + 3u < p.n_in) { return vec4f(x(t, i), x(t, i + 1u), x(t, i + 2u), x(t, i + 3u)); }
  for (var c = 0u; c < 4u; c++) {
    if (i + c < p.n_in) { v[c] = x(t, i + c); }
  }
  return v;
}

fn add_four(sum: f32, weight: vec4f, input: vec4f) -> f32 {
  return fma(weight.w, input.w, fma(weight.z, input.z, fma(weight.y, input.y, fma(weight.x, input.x, sum))));
}

fn store(t: u32, o: u32, sum: f32) {
  if (t < n_rows() && o < p.n_out) { finish(t, o, sum); }
}`;
}

function unpackText({ dtype, isRounded, isSparse }: ProductKind, { hasPackedDot }: KernelFeatures): string {
  if (!isQuantized(dtype)) return isSparse ? columnText(dtype) : weightsText(dtype);
  return isRounded ? roundedText(dtype, hasPackedDot) : weightsText(dtype);
}

/** Statements that `main` begins with; the parameters of the workgroup are the same in all its threads. */
export const MAIN_BEGIN = `${SELECT_PART}
  let n_blocks = (p.n_in + ${BLOCK_INPUTS - 1}u) / ${BLOCK_INPUTS}u;`;
