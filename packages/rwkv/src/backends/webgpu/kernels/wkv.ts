// The recurrences, token by token within a run; the formula of each is in ops/ops.ts. Runs are independent, and so are
// heads (wkv6, wkv7) or channels (wkv4). The state is read once, kept in registers for all tokens of the run, and written back.
// Around the recurrence of each token there may be stages (stages.ts), whose threads have the same elements.

export const WKV4_THREADS = 64;

/** Texts of stages.ts. */
export interface StagesAround {
  readonly functions: string;
  readonly before: string;
  readonly after: string;
}

/** A thread per channel; workgroups are (64 channels, run). `pp` begins at -1e30, which leaves exp(pp - m) at 0. */
export const wkv4 = ({ functions, before, after }: StagesAround): string => `${functions}
@compute @workgroup_size(${WKV4_THREADS})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let start = group.x * ${WKV4_THREADS}u;
  let end = min(start + ${WKV4_THREADS}u, p.width);
  let i = start + thread;
  if (i >= end) { return; }
  let run = run_of(group.y);
  var a = aa(run.slot, i);
  var b = bb(run.slot, i);
  var e = pp(run.slot, i);
  for (var t = run.first; t < run.first + run.n; t++) {
${before}
    let kt = k(t, i);
    let vt = v(t, i);

    let now = first(t, i) + kt;
    var m = max(e, now);
    var old = exp(e - m);
    var fresh = exp(now - m);
    set_y(t, i, (old * a + fresh * vt) / (old * b + fresh));

    let decayed = e + decay(t, i);
    m = max(decayed, kt);
    old = exp(decayed - m);
    fresh = exp(kt - m);
    a = old * a + fresh * vt;
    b = old * b + fresh;
    e = m;
${after}
  }
  set_aa(run.slot, i, a);
  set_bb(run.slot, i, b);
  set_pp(run.slot, i, e);
}`;

/** Thread j of a head owns column j of S, the key's index being that of the row; workgroups are (head, run). */
export function wkv6(headSize: number, { functions, before, after }: StagesAround): string {
  return `${functions}
const N = ${headSize}u;
var<workgroup> rt: array<f32, N>;
var<workgroup> kt: array<f32, N>;
var<workgroup> dt: array<f32, N>;
var<workgroup> ft: array<f32, N>;
@compute @workgroup_size(N)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) j: u32) {
  let run = run_of(group.y);
  let head = group.x * N;
  let thread = j;
  let start = head;
  let end = head + N;
  var s: array<f32, N>;
  for (var i = 0u; i < N; i++) { s[i] = wkv(run.slot, (head + i) * N + j); }
  ft[j] = first(0u, head + j);
  for (var t = run.first; t < run.first + run.n; t++) {
    workgroupBarrier();
${before}
    rt[j] = r(t, head + j);
    kt[j] = k(t, head + j);
    dt[j] = decay(t, head + j);
    workgroupBarrier();
    let vj = v(t, head + j);
    var sum = 0.0;
    for (var i = 0u; i < N; i++) {
      let kv = kt[i] * vj;
      sum = fma(rt[i], fma(ft[i], kv, s[i]), sum);
      s[i] = fma(dt[i], s[i], kv);
    }
    set_y(t, head + j, sum);
${after}
  }
  for (var i = 0u; i < N; i++) { set_wkv(run.slot, (head + i) * N + j, s[i]); }
}`;
}

/** Thread i of a head owns row i of S, the value's index; workgroups are (head, run). */
export function wkv7(headSize: number, { functions, before, after }: StagesAround): string {
  return `${functions}
const N = ${headSize}u;
var<workgroup> rt: array<f32, N>;
var<workgroup> wt: array<f32, N>;
var<workgroup> kt: array<f32, N>;
var<workgroup> removal: array<f32, N>;
var<workgroup> replacement: array<f32, N>;
@compute @workgroup_size(N)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) i: u32) {
  let run = run_of(group.y);
  let head = group.x * N;
  let thread = i;
  let start = head;
  let end = head + N;
  var s: array<f32, N>;
  for (var j = 0u; j < N; j++) { s[j] = wkv(run.slot, (head + i) * N + j); }
  for (var t = run.first; t < run.first + run.n; t++) {
    workgroupBarrier();
${before}
    rt[i] = r(t, head + i);
    wt[i] = w(t, head + i);
    kt[i] = k(t, head + i);
    let key = kk(t, head + i);
    removal[i] = key;
    replacement[i] = key * a(t, head + i);
    workgroupBarrier();
    var removed = 0.0;
    for (var j = 0u; j < N; j++) { removed = fma(s[j], removal[j], removed); }
    let vi = v(t, head + i);
    var sum = 0.0;
    for (var j = 0u; j < N; j++) {
      s[j] = fma(vi, kt[j], fma(s[j], wt[j], -removed * replacement[j]));
      sum = fma(s[j], rt[j], sum);
    }
    set_y(t, head + i, sum);
${after}
  }
  for (var j = 0u; j < N; j++) { set_wkv(run.slot, (head + i) * N + j, s[j]); }
}`;
}
