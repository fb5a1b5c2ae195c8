// How far a backend may be from the f64 reference, derived from what it computes and not from what it gives.
//
// A backend rounds to f32 and may sum in any order. n roundings of relative size u = 2^-24, taken as independent with
// mean zero, grow an error of at most lambda * sqrt(n) * u times the magnitude of what is rounded, except with a
// probability of 2 exp(-lambda^2 / 2) (Higham and Mary, SIAM J. Sci. Comput. 41(5), 2019, theorem 2.4). With
// lambda = 8 that is 3e-14 per element. "Magnitude" is a sum of absolute values, or by Cauchy-Schwarz a product of norms.

import type { Activation } from "../../packages/rwkv/src/ops/ops.ts";
import type { CaseData } from "./case.ts";

const LAMBDA = 8;
const ROUNDING = 2 ** -24;
/** Results below the smallest normal f32 may be flushed to zero, and met by a weight or two afterwards. */
const FLUSHED = 2 ** -120;

/** Roundings charged for one exp, sigmoid or tanh: an error of up to LAMBDA * sqrt(8) = 22 units in the last place. */
export const ACTIVATION_ROUNDINGS = 8;

export function roundings(n: number, magnitude: number): number {
  return LAMBDA * Math.sqrt(n) * ROUNDING * magnitude + FLUSHED;
}

/** What a product loses where a subnormal factor is taken for zero. */
export function flushedFactors(a: number, b: number): number {
  return 2 ** -126 * (Math.abs(a) + Math.abs(b));
}

type Numbers = Float32Array | Float64Array;

export function maxAbs(values: Numbers): number {
  let most = 0;
  for (const value of values) most = Math.max(most, Math.abs(value));
  return most;
}

/** The greatest length of the vectors of `nElements` that `values` consists of. */
export function maxNorm(values: Numbers, nElements: number): number {
  let most = 0;
  for (let start = 0; start < values.length; start += nElements) {
    most = Math.max(most, Math.hypot(...values.subarray(start, start + nElements)));
  }
  return most;
}

/** The greatest length of a head's columns: `values` holds matrices [N, N], the index of the key first. */
function maxColumnNorm(values: Numbers, N: number): number {
  const column = new Float64Array(N);
  let most = 0;
  for (let start = 0; start < values.length; start += N * N) {
    for (let j = 0; j < N; j++) {
      for (let i = 0; i < N; i++) column[i] = values[start + i * N + j]!;
      most = Math.max(most, Math.hypot(...column));
    }
  }
  return most;
}

/** Mean and 1 / deviation amplify the error of an element by its size relative to the deviation of its group. */
export function normLimit(data: CaseData, groupElements: number, eps: number): number {
  const x = data.given("x");
  let amplification = 0;
  for (let start = 0; start < x.length; start += groupElements) {
    const group = Float64Array.from(x.subarray(start, start + groupElements));
    const mean = group.reduce((sum, value) => sum + value, 0) / groupElements;
    const variance = group.reduce((sum, value) => sum + (value - mean) ** 2, 0) / groupElements;
    amplification = Math.max(amplification, maxAbs(group) / Math.sqrt(variance + eps));
  }
  return roundings(
    groupElements + 8,
    amplification * maxAbs(data.given("weight")) + maxAbs(data.given("bias")),
  );
}

/** Weights that share a scale come in groups of this many, or of a multiple. */
const SCALE_ELEMENTS = 16;

/**
 * What each term of a product may be taken for. A block may be summed as scale * (sum of q x) minus minimum * (sum of
 * x): each of its parts is at most about three times the greatest weight that shares the scale.
 */
function termSizes(w: Float32Array, isBlocks: boolean): Float32Array {
  if (!isBlocks) return w.map(Math.abs);
  return w.map((_, i) => {
    const group = i - (i % SCALE_ELEMENTS);
    return 3 * maxAbs(w.subarray(group, group + SCALE_ELEMENTS));
  });
}

/** Sum of |w x| over row `o` of w [nOut, nIn] and row `t` of x. */
function productMagnitude(sizes: Numbers, x: Numbers, t: number, o: number, nIn: number): number {
  let magnitude = 0;
  for (let i = 0; i < nIn; i++) magnitude += sizes[o * nIn + i]! * Math.abs(x[t * nIn + i]!);
  return magnitude;
}

export function matmulLimit(data: CaseData, nOut: number, isBlocks: boolean): (i: number) => number {
  const x = data.given("x");
  const sizes = termSizes(data.given("w"), isBlocks);
  const nIn = sizes.length / nOut;
  return (at) => roundings(nIn + 4, productMagnitude(sizes, x, Math.floor(at / nOut), at % nOut, nIn));
}

/** The steepest slope of each activation that a low-rank map ends with; those inside it have slopes of at most 1. */
const SLOPES: Readonly<Partial<Record<Activation, number>>> = {
  sigmoid: 1 / 4,
  decay6: Math.exp(-1),
  decay7: Math.exp(-0.5) / 4,
};

/** Error of the low-rank vector carried through `up`, then that of `up` itself, both through the last activation. */
export function loraLimit(
  data: CaseData,
  rank: number,
  isBlocks: boolean,
  inner: Activation,
  outer: Activation,
): (i: number) => number {
  const x = data.given("x");
  const down = termSizes(data.given("down"), isBlocks);
  const up = termSizes(data.given("up"), isBlocks);
  const bias = data.given("bias");
  const nIn = down.length / rank;
  const nOut = up.length / rank;
  const hidden = Float64Array.from({ length: (x.length / nIn) * rank }, (_, at) =>
    productMagnitude(down, x, Math.floor(at / rank), at % rank, nIn),
  );
  const hiddenErrors = hidden.map(
    (magnitude) => roundings(nIn + 4, magnitude) + roundings(ACTIVATION_ROUNDINGS, 1),
  );
  const hiddenSizes = inner === "none" ? hidden : hidden.map((magnitude) => Math.min(magnitude, 1));
  return (at) => {
    const [t, o] = [Math.floor(at / nOut), at % nOut];
    const carried = productMagnitude(up, hiddenErrors, t, o, rank);
    const own = productMagnitude(up, hiddenSizes, t, o, rank) + Math.abs(bias[o] ?? 0);
    return (
      (SLOPES[outer] ?? 1) * (carried + roundings(rank + 4, own)) +
      (outer === "none" ? 0 : roundings(ACTIVATION_ROUNDINGS, 1))
    );
  };
}

/**
 * An exponent of size P that is off by u P makes its exp off by a factor of 1 + u P; each token rounds pp once more.
 * y and aa / bb are averages of the values seen, so at most the greatest of them.
 */
export function wkv4Limits(data: CaseData): Record<string, number> {
  const T = data.nRows;
  // The initial pp, -1e30, stands for "nothing yet": exp(pp - m) is 0 whatever its rounding.
  const exponents = [...data.given("pp"), ...data.wanted("pp")].filter((pp) => pp > -1e29);
  const P = Math.max(
    maxAbs(data.given("k")) + maxAbs(data.given("first")),
    maxAbs(data.given("decay")),
    maxAbs(Float64Array.from(exponents)),
  );
  const bb = Math.max(maxAbs(data.given("bb")), maxAbs(data.wanted("bb")), 1);
  const mean = Math.max(
    maxAbs(data.given("v")),
    ...data.given("aa").map((aa, i) => Math.abs(aa) / Math.max(data.given("bb")[i]!, 1e-30)),
  );
  return {
    y: roundings(8 * T + 8, mean * (4 + P)),
    aa: roundings(8 * T + 8, mean * bb * (4 + P)),
    bb: roundings(8 * T + 8, bb * (4 + P)),
    pp: roundings(2 * T, P),
  };
}

/** Each token rounds an element of S three times, and decay only shrinks what was; y then adds N products. */
export function wkv6Limits(data: CaseData, N: number): Record<string, number> {
  const T = data.nRows;
  const kv = maxNorm(data.given("k"), N) * maxAbs(data.given("v"));
  const columns = maxColumnNorm(data.given("wkv"), N) + maxColumnNorm(data.wanted("wkv"), N) + kv;
  return {
    wkv: roundings(3 * T, columns),
    y: roundings(3 * T + N + 4, maxNorm(data.given("r"), N) * (columns + maxAbs(data.given("first")) * kv)),
  };
}

/**
 * Each token adds to a row of S the rounding of S kk, a sum of N products, and a few of its own. The transition
 * diag(w) - kk (kk a)^T lengthens no row by more than it is, so the errors of T tokens only add up.
 */
export function wkv7Limits(data: CaseData, N: number): Record<string, number> {
  const T = data.nRows;
  const kv = maxNorm(data.given("k"), N) * maxAbs(data.given("v"));
  const rows = maxNorm(data.given("wkv"), N) + maxNorm(data.wanted("wkv"), N) + kv;
  return {
    wkv: roundings(T * (N + 6), rows),
    y: roundings(T * (N + 6) + N, rows * maxNorm(data.given("r"), N)),
  };
}
