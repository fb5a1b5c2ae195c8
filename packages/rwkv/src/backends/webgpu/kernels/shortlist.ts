// The likeliest tokens of a row of logits. `partText` finds those of each part of a row, several parts at a time, `shortlistText`
// those of the whole row among them. Both choose by radix selection: four rounds, each of which counts how often each
// value of the next 8 bits occurs among the keys that begin as the one sought, tell the key of the last token that is taken.
// Whoever is taken has a place that follows from the keys alone, and sums are added in one order: all bits are the same each time.

import { N_LIKELIEST } from "../../../core/shortlist.ts";
import { totalText } from "./stages.ts";

/** Threads of a workgroup; in each round one for each value of 8 bits. */
export const SHORTLIST_THREADS = 256;
/** Tokens of a part. */
export const PART_TOKENS = 2048;

/** What is asked of a row: words of operand `asked`, one row for each shortlist. The listed ids follow all of them. */
export const ASKED = { logitRow: 0, keptRow: 1, nIds: 2, nListed: 3, listedAt: 4, resultAt: 5 } as const;
export const ASKED_WORDS = 6;

/** Words of operand `found` for each part: keys and ids of its likeliest tokens, its largest key, its weight. */
export const FOUND_WORDS = 2 * N_LIKELIEST + 2;

/** Bits that hold how many keys are larger than that of the last token taken. */
const LARGER_BITS = Math.ceil(Math.log2(N_LIKELIEST));

/**
 * `choose`, which calls two functions of the kernel: `key` tells the j-th of its keys, `take` hears which are taken. Both know
 * them by the workgroup that they belong to.
 */
const CHOOSE = `${totalText(SHORTLIST_THREADS)}
const N_LIKELIEST = ${N_LIKELIEST}u;
fn asked_of(row: u32) -> Asked {
  return Asked(
    asked(row, ${ASKED.logitRow}u), asked(row, ${ASKED.keptRow}u), asked(row, ${ASKED.nIds}u),
    asked(row, ${ASKED.nListed}u), asked(row, ${ASKED.listedAt}u), asked(row, ${ASKED.resultAt}u),
  );
}
struct Asked { logit_row: u32, kept_row: u32, n_ids: u32, n_listed: u32, listed_at: u32, result_at: u32 }

// Keys are ordered as logits: -0 equals 0, NaN is the largest. What is left out has key 0, which no logit has.
const KEY_OF_MINUS_INFINITY = 0x007fffffu;
fn key_of(bits: u32) -> u32 {
  let magnitude = bits & 0x7fffffffu;
  if (magnitude > 0x7f800000u) { return 0xffffffffu; }
  if (magnitude == 0u) { return 0x80000000u; }
  return select(bits ^ 0x80000000u, ~bits, bits >= 0x80000000u);
}
fn logit_of(key: u32) -> f32 {
  return bitcast<f32>(select(~key, key ^ 0x80000000u, key >= 0x80000000u));
}

var<workgroup> largest_key: atomic<u32>;
// The largest over all threads, in each of them; called once.
fn largest(value: u32) -> u32 {
  atomicMax(&largest_key, value);
  workgroupBarrier();
  return atomicLoad(&largest_key);
}

var<workgroup> sums: array<u32, N_THREADS>;
// The sum over the threads before this one.
fn sum_before(thread: u32, value: u32) -> u32 {
  sums[thread] = value;
  workgroupBarrier();
  for (var n = 1u; n < N_THREADS; n <<= 1u) {
    var sum = sums[thread];
    if (thread >= n) { sum += sums[thread - n]; }
    workgroupBarrier();
    sums[thread] = sum;
    workgroupBarrier();
  }
  return sums[thread] - value;
}

var<workgroup> counts: array<atomic<u32>, N_THREADS>;
// (the next 8 bits of the key sought, how many are to be taken of those that begin like that)
var<workgroup> found_bits: vec2u;
// Takes the N_LIKELIEST largest of n keys, of which there are at least as many; of equal ones the first.
fn choose(thread: u32, group: vec2u, n: u32) {
  var sought = 0u;
  var mask = 0u;
  var n_left = N_LIKELIEST;
  for (var shift = 32u; shift > 0u;) {
    shift -= 8u;
    atomicStore(&counts[thread], 0u);
    workgroupBarrier();
    for (var j = thread; j < n; j += N_THREADS) {
      let k = key(group, j);
      if ((k & mask) == sought) { atomicAdd(&counts[(k >> shift) & 255u], 1u); }
    }
    workgroupBarrier();
    let bits = 255u - thread;
    let count = atomicLoad(&counts[bits]);
    let n_larger = sum_before(thread, count);
    if (n_larger < n_left && n_left <= n_larger + count) { found_bits = vec2u(bits, n_left - n_larger); }
    workgroupBarrier();
    sought |= found_bits.x << shift;
    mask |= 255u << shift;
    n_left = found_bits.y;
  }
  // A thread has consecutive keys here, so that equal ones are counted in their order.
  let share = (n + N_THREADS - 1u) / N_THREADS;
  let start = thread * share;
  let end = min(start + share, n);
  var own = 0u;
  for (var j = start; j < end; j++) {
    let k = key(group, j);
    if (k > sought) { own += 1u; }
    if (k == sought) { own += ${2 ** LARGER_BITS}u; }
  }
  let before = sum_before(thread, own);
  var n_larger = before & ${2 ** LARGER_BITS - 1}u;
  var n_equal = before >> ${LARGER_BITS}u;
  for (var j = start; j < end; j++) {
    let k = key(group, j);
    if (k > sought) {
      take(group, n_larger, j);
      n_larger += 1u;
    }
    if (k == sought) {
      if (n_equal < n_left) { take(group, N_LIKELIEST - n_left + n_equal, j); }
      n_equal += 1u;
    }
  }
}`;

/**
 * Finds the likeliest tokens of a part of a row and keeps its logits; workgroups are (part, shortlist). Operands `logits`, `asked`,
 * `kept` and `found`, all read as words, so that no bit is lost.
 */
export const partText = `${CHOOSE}
const PART_TOKENS = ${PART_TOKENS}u;
var<workgroup> is_listed: array<atomic<u32>, ${PART_TOKENS / 32}>;
var<workgroup> keys: array<u32, PART_TOKENS>;
fn key(group: vec2u, j: u32) -> u32 { return keys[j]; }
fn take(group: vec2u, position: u32, j: u32) {
  let at = group.x * N_LIKELIEST + position;
  set_found(group.y, at, keys[j]);
  set_found(group.y, p.n_parts * N_LIKELIEST + at, group.x * PART_TOKENS + j);
}
@compute @workgroup_size(N_THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) thread: u32) {
  let group = workgroup.xy;
  let row = asked_of(group.y);
  let first = group.x * PART_TOKENS;
  for (var j = thread; j < row.n_listed; j += N_THREADS) {
    let i = asked(0u, row.listed_at + j) - first; // far beyond the part for the ids before it
    if (i < PART_TOKENS) { atomicOr(&is_listed[i >> 5u], 1u << (i & 31u)); }
  }
  workgroupBarrier();
  var own = 0u;
  for (var i = thread; i < PART_TOKENS; i += N_THREADS) {
    let id = first + i;
    var k = 0u;
    if (id < p.width) {
      let bits = logits(row.logit_row, id);
      set_kept(row.kept_row, id, bits);
      let is_out = id >= row.n_ids || ((atomicLoad(&is_listed[i >> 5u]) >> (i & 31u)) & 1u) == 1u;
      k = select(key_of(bits), 0u, is_out);
    }
    keys[i] = k;
    own = max(own, k);
  }
  let top = largest(own);
  var sum = 0.0;
  for (var i = thread; i < PART_TOKENS; i += N_THREADS) {
    let k = keys[i];
    if (k > KEY_OF_MINUS_INFINITY) { sum += exp(logit_of(k) - logit_of(top)); }
  }
  let weight = total(thread, sum);
  if (thread == 0u) {
    let at = 2u * p.n_parts * N_LIKELIEST + group.x;
    set_found(group.y, at, top);
    set_found(group.y, at + p.n_parts, bitcast<u32>(weight));
  }
  choose(thread, group, PART_TOKENS);
}`;

/** Makes a shortlist of what was found in the parts of a row; workgroups are (1, shortlist). Operand `result` takes its words. */
export const shortlistText = `${CHOOSE}
fn key(group: vec2u, j: u32) -> u32 { return found(group.y, j); }
fn take(group: vec2u, position: u32, j: u32) {
  let row = asked_of(group.y);
  let id = found(group.y, p.n_parts * N_LIKELIEST + j);
  set_result(0u, row.result_at + position, bitcast<u32>(f32(id)));
  set_result(0u, row.result_at + N_LIKELIEST + position, logits(row.logit_row, id));
}
@compute @workgroup_size(N_THREADS)
fn main(@builtin(workgroup_id) workgroup: vec3u, @builtin(local_invocation_index) thread: u32) {
  let group = workgroup.xy;
  let row = asked_of(group.y);
  choose(thread, group, p.n_parts * N_LIKELIEST);
  let tops_at = 2u * p.n_parts * N_LIKELIEST;
  var own = 0u;
  for (var part = thread; part < p.n_parts; part += N_THREADS) { own = max(own, found(group.y, tops_at + part)); }
  let top = logit_of(largest(own));
  var sum = 0.0;
  for (var part = thread; part < p.n_parts; part += N_THREADS) {
    let k = found(group.y, tops_at + part);
    let weight = bitcast<f32>(found(group.y, tops_at + p.n_parts + part));
    if (k > KEY_OF_MINUS_INFINITY) { sum += weight * exp(logit_of(k) - top); }
  }
  let weight = total(thread, sum);
  let rest_at = row.result_at + 2u * N_LIKELIEST;
  if (thread == 0u) { set_result(0u, rest_at, bitcast<u32>(weight)); }
  for (var j = thread; j < row.n_listed; j += N_THREADS) {
    set_result(0u, rest_at + 1u + j, logits(row.logit_row, asked(0u, row.listed_at + j)));
  }
}`;
