// Operations on single elements and on groups of consecutive ones (a row, a head), one or several in a kernel. A workgroup has
// one group of one row, workgroups are (group, row), and a thread the same elements in every stage, so that stages need no
// barrier between them. Sums over a group go over the threads as a binary tree, and sums of products are written as `fma`:
// the same stages give the same bits as a kernel of their own and around a recurrence.

import type { Stage } from "../fusion.ts";
import { ACTIVATIONS_TEXT } from "./activations.ts";

/** Threads for a whole row, for a head, and for elements that are each for themselves, one a thread. */
export const ROW_THREADS = 256;
export const HEAD_THREADS = 64;
export const ELEMENT_THREADS = 64;

/** WGSL of `total`. */
export const totalText = (nThreads: number): string => `
const N_THREADS = ${nThreads}u;
var<workgroup> partial: array<f32, ${nThreads}>;
// The sum over all threads, in each of them.
fn total(thread: u32, value: f32) -> f32 {
  partial[thread] = value;
  workgroupBarrier();
  for (var n = ${nThreads / 2}u; n > 0u; n >>= 1u) {
    if (thread < n) { partial[thread] += partial[thread + n]; }
    workgroupBarrier();
  }
  let sum = partial[0];
  workgroupBarrier();
  return sum;
}`;

const each = (statement: string): string =>
  `for (var i = start + thread; i < end; i += N_THREADS) { ${statement} }`;

/** Mean and deviation of x in a group of row t. */
export const STATISTICS = `
fn statistics$(thread: u32, t: u32, start: u32, end: u32) -> vec2f {
  var sum = 0.0;
  ${each("sum += x$(t, i);")}
  let mean = total(thread, sum) / f32(end - start);
  var squares = 0.0;
  ${each("let d = x$(t, i) - mean; squares += d * d;")}
  return vec2f(mean, sqrt(total(thread, squares) / f32(end - start) + p.eps$));
}`;

const NORM = `
  let s = statistics$(thread, t, start, end);
  ${each("set_out$(t, i, fma((x$(t, i) - s.x) / s.y, weight$(t, i), bias$(t, i)));")}`;

/** The statements of each stage; `$` stands for what tells its operands and numbers from those of other stages. */
const STATEMENTS: Readonly<Record<Stage["op"], string>> = {
  layerNorm: NORM,
  groupNorm: NORM,
  l2NormHeads: `
  var squares = 0.0;
  ${each("let u = x$(t, i) * scale$(t, i); squares += u * u;")}
  let size = max(sqrt(total(thread, squares)), p.eps$);
  ${each("set_out$(t, i, x$(t, i) * scale$(t, i) / size);")}`,
  addBonus: `
  var sum = 0.0;
  ${each("sum += r$(t, i) * k$(t, i) * rK$(t, i);")}
  let bonus = total(thread, sum);
  ${each("set_y$(t, i, fma(bonus, v$(t, i), y$(t, i)));")}`,
  addMul: each("set_out$(t, i, fma(a$(t, i), b$(t, i), x$(t, i)));"),
  activate: each("set_out$(t, i, activate(p.f$, x$(t, i)));"),
  add: each("set_x$(t, i, fma(y$(t, i), p.scale$, x$(t, i)));"),
  mul: each("set_x$(t, i, x$(t, i) * y$(t, i));"),
  lerp: each("set_x$(t, i, fma(target$(t, i) - x$(t, i), weight$(t, i), x$(t, i)));"),
  copy: each("set_out$(t, i, x$(t, i));"),
  selectRows: each("set_out$(t, i, x$(wanted_row(t), i));"),
  scaleKey: each("set_k$(t, i, k$(t, i) * fma(a$(t, i) - 1.0, kA$(t, i), 1.0));"),
};

/** What the statements of stages call; all stages of the kernel, from number 0. */
export function stageFunctions(stages: readonly Stage[], nThreads: number): string {
  const functions = stages.map(({ op }, k) =>
    op === "layerNorm" || op === "groupNorm" ? numbered(STATISTICS, k) : "",
  );
  return `${totalText(nThreads)}
${stages.some(({ op }) => op === "activate") ? ACTIVATIONS_TEXT : ""}
${functions.join("")}`;
}

/**
 * The statements of stages, for a workgroup that knows its `thread`, row `t` and elements from `start` to before `end`.
 * Operands and numbers of a stage end in its number, the first of them being `from`.
 */
export function stageStatements(stages: readonly Stage[], from: number): string {
  return stages.map(({ op }, k) => `  {${numbered(STATEMENTS[op], from + k)}}`).join("\n");
}

/** A kernel of nothing but stages. Expects `p.width` and `p.n`, the elements of a group. */
export function stagesText(stages: readonly Stage[], nThreads: number): string {
  return `${stageFunctions(stages, nThreads)}
@compute @workgroup_size(N_THREADS)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let t = group.y;
  let start = group.x * p.n;
  let end = min(start + p.n, p.width);
${stageStatements(stages, 0)}
}`;
}

const numbered = (text: string, k: number): string => text.replaceAll("$", `_${k}`);
