// Norms over groups of consecutive elements, and the bonus of a head, which sums over one. A workgroup has one group of
// one row: workgroups are (group, row); `p.n` is the elements of a group. Sums go over the threads as a binary tree.

/** Threads for a whole row, and for a head. */
export const ROW_THREADS = 256;
export const HEAD_THREADS = 64;

const sums = (nThreads: number): string => `
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

const main = (nThreads: number, statements: string): string => `${sums(nThreads)}
@compute @workgroup_size(${nThreads})
fn main(@builtin(workgroup_id) group: vec3u, @builtin(local_invocation_index) thread: u32) {
  let t = group.y;
  let start = group.x * p.n;
  let end = start + p.n;
${statements}
}`;

const forGroup = (statement: string): string =>
  `for (var i = start + thread; i < end; i += n_threads) { ${statement} }`;

/** layerNorm with one group, groupNorm with one per head. */
export function norm(nThreads: number): string {
  return `const n_threads = ${nThreads}u;${main(
    nThreads,
    `
  var sum = 0.0;
  ${forGroup("sum += x(t, i);")}
  let mean = total(thread, sum) / f32(p.n);
  var squares = 0.0;
  ${forGroup("let d = x(t, i) - mean; squares += d * d;")}
  let deviation = sqrt(total(thread, squares) / f32(p.n) + p.eps);
  ${forGroup("set_out(t, i, (x(t, i) - mean) / deviation * weight(t, i) + bias(t, i));")}`,
  )}`;
}

export const L2_NORM = `const n_threads = ${HEAD_THREADS}u;${main(
  HEAD_THREADS,
  `
  var squares = 0.0;
  ${forGroup("let u = x(t, i) * scale(t, i); squares += u * u;")}
  let size = max(sqrt(total(thread, squares)), p.eps);
  ${forGroup("set_out(t, i, x(t, i) * scale(t, i) / size);")}`,
)}`;

export const ADD_BONUS = `const n_threads = ${HEAD_THREADS}u;${main(
  HEAD_THREADS,
  `
  var sum = 0.0;
  ${forGroup("sum += r(t, i) * k(t, i) * rK(t, i);")}
  let bonus = total(thread, sum);
  ${forGroup("set_y(t, i, y(t, i) + bonus * v(t, i));")}`,
)}`;
