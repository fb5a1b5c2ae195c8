// Products for few rows. A workgroup has 8 outputs of up to 4 rows, and 16 threads, one for each lane, for each output.
// Weights are read once, in consecutive words, and multiplied with all rows; inputs are brought into the workgroup's memory
// for 64 blocks at a time, or 16 where there are 4 rows. Workgroups are (8 outputs, rows).

import { LANES, MAIN_BEGIN, productText, type KernelFeatures, type ProductKind } from "./product.ts";
import { repeat } from "./text.ts";

export const MATVEC_OUTPUTS = 8;
const THREADS = MATVEC_OUTPUTS * LANES;
/** Blocks of all rows in the workgroup's memory. */
const STAGED_BLOCKS = 64;

export function matvecText(kind: ProductKind, features: KernelFeatures, nRows: number): string {
  const staged = STAGED_BLOCKS / nRows;
  const stage = kind.isRounded ? stageRounded(nRows, staged) : stageFloats(nRows, staged);
  return `${productText(kind, features)}
${stage.memory}
${sumsMemory(features, nRows)}
@compute @workgroup_size(${THREADS})
fn main(
  @builtin(workgroup_id) workgroup: vec3u,
  @builtin(local_invocation_index) thread: u32,${
    features.subgroupThreads === 16 ? "\n  @builtin(subgroup_invocation_id) in_subgroup: u32," : ""
  }
) {${MAIN_BEGIN}
  let lane = thread % ${LANES}u;
  let output = thread / ${LANES}u;
  let o = group.x * ${MATVEC_OUTPUTS}u + output;
  let first = group.y * ${nRows}u;
  ${repeat(nRows, (r) => `var sum${r} = 0.0;`, " ")}
  for (var base = 0u; base < n_blocks; base += ${staged}u) {
    let n = min(${staged}u, n_blocks - base);
    ${stage.fill}
    workgroupBarrier();
    if (o < p.n_out) {
      for (var b = lane; b < n; b += ${LANES}u) {
        let u = 2u * (base + b);
        ${stage.multiply}
      }
    }
    workgroupBarrier();
  }
  ${foldText(features, nRows)}
}`;
}

interface Stage {
  readonly memory: string;
  /** Brings `n` blocks from \`base\` on into it. */
  readonly fill: string;
  /** Adds the products of block `b` of them, whose first unit is `u`. */
  readonly multiply: string;
}

/** Vectors of four inputs, those of a block exchanged so that the threads of a subgroup meet different banks. */
function stageFloats(nRows: number, staged: number): Stage {
  const four = (r: number, v: number): string =>
    `sum${r} = add_four(sum${r}, w${v >> 2}[${v & 3}], staged[${r * staged * 8}u + 8u * b + (${v}u ^ (b & 7u))]);`;
  return {
    memory: `var<workgroup> staged: array<vec4f, ${8 * STAGED_BLOCKS}>;`,
    fill: `for (var r = 0u; r < ${nRows}u; r++) {
      for (var i = thread; i < 8u * n; i += ${THREADS}u) {
        staged[r * ${staged * 8}u + (i ^ ((i >> 3u) & 7u))] = inputs(first + r, 8u * base + i);
      }
    }`,
    multiply: `let w0 = weights(o, u);
        let w1 = weights(o, u + 1u);
        ${repeat(8, (v) => repeat(nRows, (r) => four(r, v), "\n        "), "\n        ")}`,
  };
}

function stageRounded(nRows: number, staged: number): Stage {
  return {
    memory: `var<workgroup> staged: array<Rounded, ${STAGED_BLOCKS}>;`,
    fill: `for (var i = thread; i < ${nRows}u * n; i += ${THREADS}u) {
      let r = i / n;
      staged[r * ${staged}u + i % n] = rounded(first + r, base + i % n);
    }`,
    multiply: `let w = packed_block(o, u);
        ${repeat(nRows, (r) => `sum${r} = add_block(sum${r}, w, staged[${r * staged}u + b]);`, "\n        ")}`,
  };
}

/** What lanes that are in no common subgroup meet in. */
function sumsMemory({ subgroupThreads }: KernelFeatures, nRows: number): string {
  if (subgroupThreads === 16) return "";
  const perOutput = subgroupThreads === 4 ? LANES / 4 : LANES;
  return `var<workgroup> sums: array<f32, ${nRows * MATVEC_OUTPUTS * perOutput}>;`;
}

/** Adds the lanes of each output and stores the sums, the one of row r by lane r. */
function foldText({ subgroupThreads }: KernelFeatures, nRows: number): string {
  const inOrder = (term: (i: number) => string): string =>
    `((${term(0)} + ${term(1)}) + ${term(2)}) + ${term(3)}`;
  if (subgroupThreads === 0) {
    const quad = (q: number): string => `(${inOrder((i) => `sums[at + ${4 * q + i}u]`)})`;
    return `${repeat(nRows, (r) => `sums[${r * THREADS}u + thread] = sum${r};`, " ")}
  workgroupBarrier();
  if (lane < ${nRows}u) {
    let at = lane * ${THREADS}u + output * ${LANES}u;
    store(first + lane, o, ${inOrder(quad)});
  }`;
  }
  const quads = repeat(
    nRows,
    (r) => `let quad${r} = ${inOrder((i) => `quadBroadcast(sum${r}, ${i}u)`)};`,
    "\n  ",
  );
  if (subgroupThreads === 4) {
    const perRow = THREADS / 4;
    return `${quads}
  if (lane % 4u == 0u) { ${repeat(nRows, (r) => `sums[${r * perRow}u + thread / 4u] = quad${r};`, " ")} }
  workgroupBarrier();
  if (lane < ${nRows}u) {
    let at = lane * ${perRow}u + output * 4u;
    store(first + lane, o, ${inOrder((i) => `sums[at + ${i}u]`)});
  }`;
  }
  const total = (r: number): string => inOrder((i) => `subgroupShuffle(quad${r}, leader + ${4 * i}u)`);
  return `${quads}
  let leader = in_subgroup & ~15u;
  ${repeat(nRows, (r) => `let total${r} = ${total(r)};`, "\n  ")}
  ${repeat(nRows, (r) => `if (lane == ${r}u) { store(first + ${r}u, o, total${r}); }`, "\n  ")}`;
}
