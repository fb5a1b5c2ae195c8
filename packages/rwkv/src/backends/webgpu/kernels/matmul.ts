// Products with matrices of every weight type: w x. A workgroup has 8 outputs, and 8 threads ("lanes") for
// each; it works on one row of x, or on eight at once, for which the weights are then read and unpacked once. Workgroups
// are (8 outputs, 1 or 8 rows), those of several products side by side; product-end.ts has what becomes of the sums.
//
// Order of sums, the same for any number of rows: lane l takes the inputs 4 (8 n + l) + c for n = 0, 1, 2 ..., in four
// sums, one for each c = 0 to 3; these are added as (0 + 1) + (2 + 3), then the lanes in increasing order.

import { weightsText, type GpuDType } from "./decode.ts";
import { SELECT_PART } from "./kernel.ts";
import { productEndText } from "./product-end.ts";

export const OUTPUTS_PER_GROUP = 8;
const LANES = 8;
const THREADS = OUTPUTS_PER_GROUP * LANES;
/** Vectors of four inputs of each row that are brought into the workgroup's memory at a time. */
const TILE_VECTORS = 64;

/** @param rows - what the rows of x are */
export function matmulText(dtype: GpuDType, nRows: 1 | 8, rows: "token" | "logit", hasBias: boolean): string {
  return `${weightsText(dtype)}${productEndText(hasBias)}
fn n_rows() -> u32 { return n_${rows}s(); }
const ROWS = ${nRows}u;
const TILE = ${TILE_VECTORS}u;
var<workgroup> tile: array<vec4f, ${nRows * TILE_VECTORS}>;
var<workgroup> sums: array<f32, ${nRows * THREADS}>;

// Four inputs, zeros beyond the end.
fn inputs(t: u32, i4: u32) -> vec4f {
  var v = vec4f();
  if (t < n_rows()) {
    for (var c = 0u; c < 4u; c++) {
      if (4u * i4 + c < p.n_in) { v[c] = x(t, 4u * i4 + c); }
    }
  }
  return v;
}

@compute @workgroup_size(${THREADS})
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) thread: u32) {${SELECT_PART}
  let lane = thread % ${LANES}u;
  let o = group.x * ${OUTPUTS_PER_GROUP}u + thread / ${LANES}u;
  let first = group.y * ROWS;
  let n4 = (p.n_in + 3u) / 4u;
  var acc: array<vec4f, ROWS>;
  for (var base = 0u; base < n4; base += TILE) {
    for (var i = thread; i < ROWS * TILE; i += ${THREADS}u) {
      tile[i] = inputs(first + i / TILE, base + i % TILE);
    }
    workgroupBarrier();
    if (o < p.n_out) {
      let end = min(TILE, n4 - base);
      for (var i = lane; i < end; i += ${LANES}u) {
        let weight = weights(o, base + i);
        for (var r = 0u; r < ROWS; r++) { acc[r] = fma(weight, tile[r * TILE + i], acc[r]); }
      }
    }
    workgroupBarrier();
  }
  for (var r = 0u; r < ROWS; r++) {
    sums[r * ${THREADS}u + thread] = (acc[r].x + acc[r].y) + (acc[r].z + acc[r].w);
  }
  workgroupBarrier();
  // Lane r sums row r.
  let t = first + lane;
  if (lane >= ROWS || o >= p.n_out || t >= n_rows()) { return; }
  let start = lane * ${THREADS}u + (thread / ${LANES}u) * ${LANES}u;
  var sum = sums[start];
  for (var l = 1u; l < ${LANES}u; l++) { sum += sums[start + l]; }
  finish(t, o, sum);
}`;
}
