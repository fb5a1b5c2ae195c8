// Products for few rows with a matrix in panels, most of whose inputs are zero. A workgroup has 32 outputs of up to 4 rows, and
// of each lane 4 threads with 8 outputs each. The threads of a lane list its inputs that are not zero in some row, and read
// the weights of these only: 64 bytes side by side in f16, 128 in f32. Workgroups are (32 outputs, rows).
//
// The order of sums is that of kernels/product.ts; a term of zero would change none of them, but for the sign of a zero.

import { LANES, MAIN_BEGIN, productText, type KernelFeatures, type ProductKind } from "./product.ts";
import { repeat } from "./text.ts";

export const COLUMNS_OUTPUTS = 32;
const THREADS_PER_LANE = COLUMNS_OUTPUTS / 8;
const THREADS = LANES * THREADS_PER_LANE;
/** Blocks whose inputs are listed at a time: one for each thread. */
const LISTED_BLOCKS = THREADS;
const LISTED_PER_LANE = 32 * THREADS_PER_LANE;
/** Inputs whose weights are asked for before the first of them is used. */
const AT_ONCE = 4;

export function columnsText(kind: ProductKind, features: KernelFeatures, nRows: number): string {
  const forRows = (text: (r: number) => string, indent: string): string => repeat(nRows, text, `\n${indent}`);
  const add = (k: number): string =>
    forRows((r) => `sum${r} = add_column(sum${r}, w${k}, x(first + ${r}u, i${k}));`, "          ");
  return `${productText(kind, features)}
fn add_column(sum: mat2x4f, w: mat2x4f, input: f32) -> mat2x4f {
  return mat2x4f(fma(w[0], vec4f(input), sum[0]), fma(w[1], vec4f(input), sum[1]));
}
// Of four inputs those that are not zero. A comparison of floats would lose a NaN.
fn bits_of(v: vec4f) -> u32 {
  let is_nonzero = (bitcast<vec4u>(v) & vec4u(0x7fffffffu)) != vec4u();
  let bits = select(vec4u(), vec4u(1u, 2u, 4u, 8u), is_nonzero);
  return (bits.x | bits.y) | (bits.z | bits.w);
}
var<workgroup> list: array<u32, ${32 * LISTED_BLOCKS}>;
var<workgroup> lengths: array<u32, ${THREADS}>;
var<workgroup> sums: array<f32, ${LANES * COLUMNS_OUTPUTS}>;
var<workgroup> n_counted: atomic<u32>;

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) thread: u32) {${MAIN_BEGIN}
  let lane = thread / ${THREADS_PER_LANE}u;
  let part = thread % ${THREADS_PER_LANE}u;
  let first = group.y * ${nRows}u;
  let outputs = group.x * ${THREADS_PER_LANE}u + part;
  let list_at = lane * ${LISTED_PER_LANE}u;
  var n_found = 0u;
  ${forRows((r) => `var sum${r} = mat2x4f();`, "  ")}
  for (var base = 0u; base < n_blocks; base += ${LISTED_BLOCKS}u) {
    // Block number \`part\` of the lane's, as bits of the inputs that are not zero.
    let b = base + lane + ${LANES}u * part;
    var found = 0u;
    for (var v = 0u; v < 8u; v++) {
      ${forRows((r) => `let bits${r} = bits_of(inputs(first + ${r}u, 8u * b + v));`, "      ")}
      n_found += ${repeat(nRows, (r) => `countOneBits(bits${r})`, " + ")};
      found |= (${repeat(nRows, (r) => `bits${r}`, " | ")}) << (4u * v);
    }
    lengths[thread] = countOneBits(found);
    workgroupBarrier();
    var n = 0u;
    var at = list_at;
    for (var q = 0u; q < ${THREADS_PER_LANE}u; q++) {
      let length = lengths[lane * ${THREADS_PER_LANE}u + q];
      n += length;
      at += select(0u, length, q < part);
    }
    for (; found != 0u; found &= found - 1u) {
      list[at] = 32u * b + firstTrailingBit(found);
      at += 1u;
    }
    workgroupBarrier();
    for (var j = 0u; j < n; j += ${AT_ONCE}u) {
      ${repeat(AT_ONCE, (k) => `let i${k} = list[list_at + min(j + ${k}u, n - 1u)];`, "\n      ")}
      ${repeat(AT_ONCE, (k) => `let w${k} = column_of(outputs, i${k});`, "\n      ")}
      ${repeat(AT_ONCE, (k) => `if (j + ${k}u < n) {\n          ${add(k)}\n      }`, "\n      ")}
    }
  }
  // Of each product one workgroup for each group of rows counts.
  if (group.x == 0u && p.counts_inputs != 0u) { atomicAdd(&n_counted, n_found); }
  ${forRows((r) => `{ ${foldText(r)} }`, "  ")}
  if (group.x == 0u && p.counts_inputs != 0u && thread == 0u) {
    set_counts(group.y, 0u, counts(group.y, 0u) + min(${nRows}u, n_rows() - first) * p.n_in);
    set_counts(group.y, 1u, counts(group.y, 1u) + atomicLoad(&n_counted));
  }
}`;
}

/** Adds the lanes of each output of row r and stores the sums. */
function foldText(r: number): string {
  const inOrder = (term: (i: number) => string): string =>
    `((${term(0)} + ${term(1)}) + ${term(2)}) + ${term(3)}`;
  const quad = (q: number): string =>
    `(${inOrder((i) => `sums[${(4 * q + i) * COLUMNS_OUTPUTS}u + thread]`)})`;
  return `
    ${r > 0 ? "workgroupBarrier();" : ""}
    ${repeat(8, (o) => `sums[${COLUMNS_OUTPUTS}u * lane + 8u * part + ${o}u] = sum${r}[${o >> 2}][${o & 3}];`, "\n    ")}
    workgroupBarrier();
    if (thread < ${COLUMNS_OUTPUTS}u) {
      store(first + ${r}u, group.x * ${COLUMNS_OUTPUTS}u + thread, ${inOrder(quad)});
    }`;
}
