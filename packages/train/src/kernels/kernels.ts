// The kernels of training: plain functions over typed arrays, forward and backward of every operation of rwkv/ops, and
// the optimiser. The maths of each is here, once; sets of kernels (reference, WebAssembly, native) add only speed. Which
// tensor an array belongs to, and when a buffer may be used again, is the tape's affair.
//
// Rules that hold for all:
//
// - Arrays are row-major views of the memory the kernels were opened on, of the set's precision, at least as long as the
//   sizes say. Outputs overlap no input unless it says so.
// - `rows` is the number of rows, `width` their length. `runs` is an Int32Array of n + 1 row numbers: run i has the rows
//   runs[i] to runs[i + 1] - 1, and runs[0] is 0. A state has one block per run: `[n, ...]`.
// - Gradients of weights (dWeight, dBias, dMix, dScale, dKA, dRK, dDecay, dFirst) are ADDED to; null means not wanted.
// - Gradients of rows are set, or added to where their bit of `added` is 1: bit 0 is the first gradient of rows in the
//   order of arguments, bit 1 the second. They are always wanted.
// - Gradients of states (dState, dShift, dAa, dBb) hold on entry the gradient of the state after the last row, and on
//   return that of the state before the first. null stands for zero and not wanted.
// - The same call on the same values gives the same bits: sums have one order that depends on sizes alone.

import type { Activation } from "rwkv/ops";

/** What kernels compute on; one kind throughout a set. */
export type Numbers = Float32Array | Float64Array;

/** `f64` is for checks of gradients. */
export type Precision = "f32" | "f64";

/**
 * Which products `gemm` forms.
 *
 * - `nt`: c[m, n] = a[m, k] b[n, k]^T, the forward of a matrix kept `[out, in]`: Y = X W^T
 * - `nn`: c[m, n] = a[m, k] b[k, n], the gradient of its input: dX = dY W
 * - `tn`: c[m, n] = a[k, m]^T b[k, n], the gradient of the matrix: dW = dY^T X
 */
export type GemmForm = "nt" | "nn" | "tn";

/** Rows between two kept states of wkv6 and wkv7. */
export const WKV_CHUNK = 16;

/** Kept states of each run: the one before rows 0, 16, 32, ... of the run. */
export function countChunks(runs: Int32Array): number {
  let nChunks = 0;
  for (let i = 0; i + 1 < runs.length; i++) nChunks += Math.ceil((runs[i + 1]! - runs[i]!) / WKV_CHUNK);
  return nChunks;
}

/** A kind of kernels, from which each thread opens its own. */
export interface KernelModule {
  /** `reference`, `native-avx2`, `wasm-simd`... */
  readonly name: string;
  readonly precision: Precision;
  /** Bytes at the beginning of the memory that belong to the kernels; arrays come after them. */
  readonly reservedByteLength: number;
  /**
   * Memory that all threads share and whose bytes are zero, as structured cloning passes it on to workers. Its length
   * counts the reserved bytes.
   * @throws DeviceError if there is not so much
   */
  createMemory(byteLength: number): TrainMemory;
  /** The kernels of one thread; to be called in that thread, any number of times. */
  open(memory: TrainMemory): TrainKernels;
}

/** One block of memory for weights, gradients, moments and every thread's rows. */
export type TrainMemory = SharedArrayBuffer | WebAssembly.Memory;

/** One thread's kernels; nothing in them outlives a call. */
export interface TrainKernels {
  readonly name: string;
  readonly precision: Precision;

  /** See GemmForm; added to c where `accumulate`. c overlaps neither a nor b. */
  gemm(
    c: Numbers,
    a: Numbers,
    b: Numbers,
    m: number,
    n: number,
    k: number,
    form: GemmForm,
    accumulate: boolean,
  ): void;

  /**
   * Layer norm (`groups` 1) and group norm: per group of width / groups elements
   *
   *   out = (x - mean) * inverse * weight + bias,   inverse = 1 / sqrt(variance + eps), the biased variance
   *
   * out, x: [rows, width]; stats: [rows, groups, 2], mean and inverse, for the backward; weight, bias: [width].
   */
  norm(
    out: Numbers,
    stats: Numbers,
    x: Numbers,
    weight: Numbers,
    bias: Numbers,
    rows: number,
    width: number,
    groups: number,
    eps: number,
  ): void;

  /**
   * With u = (x - mean) * inverse, g = dOut * weight and means over the group:
   *
   *   dx = inverse * (g - mean(g) - u * mean(g * u));   dWeight += sum of dOut * u;   dBias += sum of dOut
   *
   * dx may be dOut if it is not added to. added: dx.
   */
  normBackward(
    dx: Numbers,
    dWeight: Numbers | null,
    dBias: Numbers | null,
    dOut: Numbers,
    x: Numbers,
    stats: Numbers,
    weight: Numbers,
    rows: number,
    width: number,
    groups: number,
    added: number,
  ): void;

  /**
   * Per run. outs[i] = x + (previous - x) * mix[i]; previous is the row before x, `shift` before the first row.
   * outs[i], x: [rows, width]; shiftOut, shift: [runs, width], the last row of x afterwards, the row before the first.
   */
  tokenShift(
    outs: readonly Numbers[],
    shiftOut: Numbers,
    x: Numbers,
    shift: Numbers,
    mix: readonly Numbers[],
    runs: Int32Array,
    width: number,
  ): void;

  /**
   * dx[t] = sum over i of dOuts[i][t] * (1 - mix[i]) + dOuts[i][t + 1] * mix[i], with dShift for the second term of a
   * run's last row; dShift = sum over i of dOuts[i][first row] * mix[i];
   * dMix[i] += sum over t of dOuts[i] * (previous - x).   added: dx.
   */
  tokenShiftBackward(
    dx: Numbers,
    dShift: Numbers | null,
    dMix: readonly (Numbers | null)[],
    dOuts: readonly Numbers[],
    x: Numbers,
    shift: Numbers,
    mix: readonly Numbers[],
    runs: Int32Array,
    width: number,
    added: number,
  ): void;

  /** Per run. out = previous - x, as tokenShift has it. */
  shiftDelta(
    out: Numbers,
    shiftOut: Numbers,
    x: Numbers,
    shift: Numbers,
    runs: Int32Array,
    width: number,
  ): void;

  /** dx[t] = dOut[t + 1] - dOut[t], with dShift for dOut after the last row; dShift = dOut[first]. added: dx. */
  shiftDeltaBackward(
    dx: Numbers,
    dShift: Numbers | null,
    dOut: Numbers,
    runs: Int32Array,
    width: number,
    added: number,
  ): void;

  /** out = x + a * b. out, x, a: [nElements]; b: [nElements], or [width] for every row: b[i mod bElements]. */
  addMul(out: Numbers, x: Numbers, a: Numbers, b: Numbers, nElements: number, bElements: number): void;

  /** da = dOut * b; db = dOut * a, summed over rows and ADDED if bElements < nElements. added: da, db. dx is dOut. */
  addMulBackward(
    da: Numbers,
    db: Numbers | null,
    dOut: Numbers,
    a: Numbers,
    b: Numbers,
    nElements: number,
    bElements: number,
    added: number,
  ): void;

  /** out = f(x + bias). out, x: [rows, width]; bias: [width], or null for zero. out may be x. */
  activate(out: Numbers, x: Numbers, bias: Numbers | null, rows: number, width: number, f: Activation): void;

  /**
   * dx = dOut * f'(x + bias); dBias += sum over rows of dx. dx may be dOut. Of x and out a kernel may read either.
   *
   *   sigmoid: s (1 - s)    silu: s (1 + x (1 - s))    tanh: 1 - out^2    reluSquared: 2 max(x, 0)
   *   decay6: -out exp(x)    decay7: -out exp(-0.5) s (1 - s)    none: 1        with s = sigmoid(x)
   */
  activateBackward(
    dx: Numbers,
    dBias: Numbers | null,
    dOut: Numbers,
    x: Numbers,
    out: Numbers,
    bias: Numbers | null,
    rows: number,
    width: number,
    f: Activation,
  ): void;

  /** out = x + y * scale. out may be x, y or both. Serves residuals, fan-out, and sums of the threads' gradients. */
  addScaled(out: Numbers, x: Numbers, y: Numbers, scale: number, nElements: number): void;

  /** out = x * y. out may be either. */
  mul(out: Numbers, x: Numbers, y: Numbers, nElements: number): void;

  /** dx = dOut * y; dy = dOut * x. dx may be dOut if not added to. added: dx, dy. */
  mulBackward(
    dx: Numbers,
    dy: Numbers,
    dOut: Numbers,
    x: Numbers,
    y: Numbers,
    nElements: number,
    added: number,
  ): void;

  /** out = x + (target - x) * weight. out may be x. */
  lerp(out: Numbers, x: Numbers, target: Numbers, weight: Numbers, nElements: number): void;

  /** dx = dOut (1 - weight); dTarget = dOut weight; dWeight = dOut (target - x). added: dx, dTarget, dWeight (rows). */
  lerpBackward(
    dx: Numbers,
    dTarget: Numbers,
    dWeight: Numbers,
    dOut: Numbers,
    x: Numbers,
    target: Numbers,
    weight: Numbers,
    nElements: number,
    added: number,
  ): void;

  /**
   * out = u * inverse in each head, u = x * scale, inverse = 1 / max(|u|, eps).
   * out, x: [rows, width]; inverses: [rows, heads], for the backward; scale: [width].
   */
  l2NormHeads(
    out: Numbers,
    inverses: Numbers,
    x: Numbers,
    scale: Numbers,
    rows: number,
    width: number,
    heads: number,
    eps: number,
  ): void;

  /**
   * du = inverse * (dOut - out * sum over the head of dOut * out), without the second term where |u| <= eps, that is
   * where inverse >= 1 / eps;   dx = du * scale;   dScale += sum of du * x.   added: dx.
   */
  l2NormHeadsBackward(
    dx: Numbers,
    dScale: Numbers | null,
    dOut: Numbers,
    out: Numbers,
    inverses: Numbers,
    x: Numbers,
    scale: Numbers,
    rows: number,
    width: number,
    heads: number,
    eps: number,
    added: number,
  ): void;

  /** out = k * (1 + (a - 1) * kA). out, k, a: [rows, width]; kA: [width]. out may be k. */
  scaleKey(out: Numbers, k: Numbers, a: Numbers, kA: Numbers, rows: number, width: number): void;

  /** dk = dOut (1 + (a - 1) kA); da = dOut k kA; dKA += sum of dOut k (a - 1). added: dk, da. */
  scaleKeyBackward(
    dk: Numbers,
    da: Numbers,
    dKA: Numbers | null,
    dOut: Numbers,
    k: Numbers,
    a: Numbers,
    kA: Numbers,
    rows: number,
    width: number,
    added: number,
  ): void;

  /** out = y + (sum over the head of r * k * rK) * v. All [rows, width] but rK: [width]. out may be y. */
  addBonus(
    out: Numbers,
    y: Numbers,
    r: Numbers,
    k: Numbers,
    v: Numbers,
    rK: Numbers,
    rows: number,
    width: number,
    heads: number,
  ): void;

  /**
   * With b = sum of r k rK and g = sum of dOut v, over the head:
   *
   *   dr = g k rK;   dk = g r rK;   dv = b dOut;   dRK += sum of g r k.   added: dr, dk, dv. dy is dOut.
   */
  addBonusBackward(
    dr: Numbers,
    dk: Numbers,
    dv: Numbers,
    dRK: Numbers | null,
    dOut: Numbers,
    r: Numbers,
    k: Numbers,
    v: Numbers,
    rK: Numbers,
    rows: number,
    width: number,
    heads: number,
    added: number,
  ): void;

  /**
   * Per run, per channel: wkv4 of rwkv/ops. y, k, v: [rows, width]; decay (the logarithm, negative), first: [width];
   * aa, bb, pp and the three outs: [runs, width]. An out may be its in.
   */
  wkv4(
    y: Numbers,
    aaOut: Numbers,
    bbOut: Numbers,
    ppOut: Numbers,
    k: Numbers,
    v: Numbers,
    decay: Numbers,
    first: Numbers,
    aa: Numbers,
    bb: Numbers,
    pp: Numbers,
    runs: Int32Array,
    width: number,
  ): void;

  /**
   * The gradient, by running forward again from the state before the first row. dAa and dBb are gradients at a given
   * pp: only aa exp(pp) and bb exp(pp) mean anything, so that no gradient flows through pp.
   *
   * One row, with m = max(pp, first + k), e1 = exp(pp - m), e2 = exp(first + k - m), q = 1 / (e1 bb + e2):
   *   dv = dy e2 q;   dk = dFirst = dy e2 q (v - y);   dAa' = dy e1 q;   dBb' = -dy e1 q y
   * and with p = max(pp + decay, k) the pp after the row, E1 = exp(pp + decay - p), E2 = exp(k - p), and dAa, dBb the
   * gradients of aa and bb after the row:
   *   dv += dAa E2;   dk += E2 (dAa v + dBb);   dDecay += E1 (dAa aa + dBb bb);   dAa' += E1 dAa;   dBb' += E1 dBb
   * added: dk, dv.
   */
  wkv4Backward(
    dk: Numbers,
    dv: Numbers,
    dDecay: Numbers | null,
    dFirst: Numbers | null,
    dAa: Numbers | null,
    dBb: Numbers | null,
    dy: Numbers,
    k: Numbers,
    v: Numbers,
    decay: Numbers,
    first: Numbers,
    aa: Numbers,
    bb: Numbers,
    pp: Numbers,
    runs: Int32Array,
    width: number,
    added: number,
  ): void;

  /**
   * Per run, per head: wkv6 of rwkv/ops, S[i][j] with i the key's index.
   *
   *   y_j = sum over i of r_i (first_i k_i v_j + S[i][j]);   S[i][j] = decay_i S[i][j] + k_i v_j
   *
   * y, r, k, v: [rows, width]; decay: [rows, width] if isDecayPerRow, else [width]; first: [width];
   * stateOut, state: [runs, heads, N, N], N = width / heads; checkpoints: [countChunks(runs), heads, N, N], chunks of
   * run 0 first.
   */
  wkv6(
    y: Numbers,
    stateOut: Numbers,
    checkpoints: Numbers,
    r: Numbers,
    k: Numbers,
    v: Numbers,
    decay: Numbers,
    first: Numbers,
    state: Numbers,
    runs: Int32Array,
    width: number,
    heads: number,
    isDecayPerRow: boolean,
  ): void;

  /**
   * From the last row to the first, S the state before the row, G the gradient of the state after it:
   *
   *   b = sum over i of r_i first_i k_i;   g = sum over j of dy_j v_j
   *   dr_i = first_i k_i g + sum over j of S[i][j] dy_j
   *   dk_i = first_i r_i g + sum over j of G[i][j] v_j          dFirst_i += r_i k_i g
   *   dv_j = b dy_j + sum over i of G[i][j] k_i                 dDecay_i = sum over j of G[i][j] S[i][j]
   *   G[i][j] = decay_i G[i][j] + r_i dy_j
   *
   * added: dr, dk, dv, dDecay; dDecay is [rows, width] or, if not isDecayPerRow, [width] and then always added to.
   */
  wkv6Backward(
    dr: Numbers,
    dk: Numbers,
    dv: Numbers,
    dDecay: Numbers | null,
    dFirst: Numbers | null,
    dState: Numbers | null,
    dy: Numbers,
    r: Numbers,
    k: Numbers,
    v: Numbers,
    decay: Numbers,
    first: Numbers,
    checkpoints: Numbers,
    runs: Int32Array,
    width: number,
    heads: number,
    isDecayPerRow: boolean,
    added: number,
  ): void;

  /**
   * Per run, per head: wkv7 of rwkv/ops, S[i][j] with i the value's index.
   *
   *   sa = -S kk;   S = S diag(w) + sa (kk * a)^T + v k^T;   y = S r
   *
   * Rows: [rows, width]; state and checkpoints as in wkv6.
   */
  wkv7(
    y: Numbers,
    stateOut: Numbers,
    checkpoints: Numbers,
    r: Numbers,
    w: Numbers,
    k: Numbers,
    v: Numbers,
    kk: Numbers,
    a: Numbers,
    state: Numbers,
    runs: Int32Array,
    width: number,
    heads: number,
  ): void;

  /**
   * From the last row to the first, S' the state before the row, S the one after it, b = kk * a, sa = -S' kk, and G the
   * gradient of S. Inside a chunk the states are computed again from its checkpoint.
   *
   *   G += dy r^T
   *   dr = S^T dy;   dv = G k;   dk = G^T v;   dw_j = sum over i of G[i][j] S'[i][j]
   *   dsa = G b;   db = G^T sa;   dkk = db * a - S'^T dsa;   da = db * kk
   *   G = G diag(w) - dsa kk^T
   *
   * added: dr, dw, dk, dv, dkk, da.
   */
  wkv7Backward(
    dr: Numbers,
    dw: Numbers,
    dk: Numbers,
    dv: Numbers,
    dkk: Numbers,
    da: Numbers,
    dState: Numbers | null,
    dy: Numbers,
    r: Numbers,
    w: Numbers,
    k: Numbers,
    v: Numbers,
    kk: Numbers,
    a: Numbers,
    checkpoints: Numbers,
    runs: Int32Array,
    width: number,
    heads: number,
    added: number,
  ): void;

  /**
   * Softmax cross-entropy, forward and backward in one. With p the softmax of a row of logits:
   *
   *   losses = -log p[target];   dLogits = weight (p - onehot(target));   dLogits[argmax] += weight * pull * max logit
   *
   * The first largest logit counts as argmax. A row whose target is -1 has loss 0 and gradient 0.
   * losses, targets, weights: [rows]; logits, dLogits: [rows, vocab]. dLogits may be logits; null for the loss alone.
   */
  crossEntropy(
    losses: Numbers,
    dLogits: Numbers | null,
    logits: Numbers,
    targets: Int32Array,
    weights: Numbers,
    rows: number,
    vocab: number,
    pull: number,
  ): void;

  /** The sum of x^2, each lane summed in f64. */
  sumOfSquares(x: Numbers, nElements: number): number;

  /**
   * One step of Adam with decoupled decay, on one tensor; all but the numbers are [nElements].
   *
   *   g = gradient * gradientScale;   m = beta1 m + (1 - beta1) g;   v = beta2 v + (1 - beta2) g^2
   *   weight -= rate * (m / correction1 / (sqrt(v / correction2) + eps) + decay * weight)
   *
   * correction1 = 1 - beta1^step, correction2 = 1 - beta2^step. eps may be as small as 1e-18.
   */
  adamw(
    weight: Numbers,
    m: Numbers,
    v: Numbers,
    gradient: Numbers,
    nElements: number,
    rate: number,
    beta1: number,
    beta2: number,
    eps: number,
    decay: number,
    correction1: number,
    correction2: number,
    gradientScale: number,
  ): void;
}
