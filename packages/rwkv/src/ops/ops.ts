// The operations a model's forward pass is written in, destination first. Here is the contract of each: shapes,
// values, what is written, and where the maths is published. Every backend is held to it by test/contract.
//
// Letters: T tokens of the step (rows), C embedding width, A attention width, H heads, N head size, A = H * N.
// Shapes below include the leading dimension of rows; handles leave it out (see tensor.ts). "Per run" means that an
// operation handles each sequence of the step on its own, in order of its tokens; all others are per row.

import type { Tensor } from "./tensor.ts";

/**
 * Element-wise functions.
 *
 * - `none`: x
 * - `sigmoid`: 1 / (1 + exp(-x))
 * - `silu`: x * sigmoid(x)
 * - `tanh`
 * - `reluSquared`: max(x, 0)^2
 * - `decay6`: exp(-exp(x)), the decay of v6 from its logarithm's logarithm
 * - `decay7`: exp(-exp(-0.5) * sigmoid(x)), the decay of v7, in (0.545, 1)
 */
export type Activation = "none" | "sigmoid" | "silu" | "tanh" | "reluSquared" | "decay6" | "decay7";

/** The two factors of a low-rank map and the bias added after them. */
export interface LoraWeights {
  /** `[rank, in]` */
  readonly down: Tensor;
  /** `[out, rank]` */
  readonly up: Tensor;
  /** `[out]`, or null for none */
  readonly bias: Tensor | null;
}

/** Weight and bias of a norm, each as wide as its input. */
export interface NormWeights {
  readonly weight: Tensor;
  readonly bias: Tensor;
}

/** The running sums of wkv4, each `[A]`; true sums are `aa * exp(pp)` and `bb * exp(pp)`. */
export interface Wkv4State {
  readonly aa: Tensor;
  readonly bb: Tensor;
  readonly pp: Tensor;
}

/** Every method throws ShapeError, naming the operation and the handles, if shapes or kinds do not fit. */
export interface Ops {
  /**
   * out = (x - mean) / sqrt(variance + eps) * weight + bias over the whole row; the variance is the biased one.
   * out, x: [T, C]; out may be x.
   */
  layerNorm(out: Tensor, x: Tensor, norm: NormWeights, eps: number): void;

  /**
   * The same over each of `heads` groups of N consecutive channels, with weight and bias per channel.
   * out, x: [T, A]; out may be x.
   */
  groupNorm(out: Tensor, x: Tensor, norm: NormWeights, heads: number, eps: number): void;

  /**
   * Per run. outs[i] = x + (previous - x) * mix[i], where previous is the row before x, and `shift` before the first
   * row; afterwards shift is the last row of x. `mix` is the share of the previous token.
   * outs[i], x: [T, C]; mix[i]: [C]; shift: state [C]. No out may be x.
   */
  tokenShift(outs: readonly Tensor[], x: Tensor, shift: Tensor, mix: readonly Tensor[]): void;

  /**
   * Per run. out = previous - x, with previous and shift as in tokenShift: v6 needs the difference twice.
   * out, x: [T, C]; shift: state [C]. out may not be x.
   */
  shiftDelta(out: Tensor, x: Tensor, shift: Tensor): void;

  /** out = x + a * b. out, x, a: [T, C]; b: [T, C], or a weight [C] used for every row. out may be any of them. */
  addMul(out: Tensor, x: Tensor, a: Tensor, b: Tensor): void;

  /**
   * out = x * w^T: out[t, o] = sum over i of w[o, i] * x[t, i].
   * out: [T, O]; w: weight [O, I] of any weight dtype; x: [T, I] and not out.
   * A backend sums over i in one order, whatever T is, so that a row's bits do not depend on the other rows.
   */
  matmul(out: Tensor, w: Tensor, x: Tensor): void;

  /**
   * out = outer(bias + up * inner(down * x)), the low-rank maps of v6 and v7.
   * out: [T, O]; x: [T, I] and not out.
   */
  lora(out: Tensor, x: Tensor, lora: LoraWeights, inner: Activation, outer: Activation): void;

  /** out = f(x). out, x: [T, C]; out may be x. */
  activate(out: Tensor, x: Tensor, f: Activation): void;

  /** x += y * scale. x, y: [T, C]. `scale` is 1 but for files whose weights were divided for f16 runtimes. */
  add(x: Tensor, y: Tensor, scale: number): void;

  /** x *= y. x, y: [T, C]. */
  mul(x: Tensor, y: Tensor): void;

  /** x += (target - x) * weight. All [T, C]. */
  lerp(x: Tensor, target: Tensor, weight: Tensor): void;

  /** out = x. Both [T, C]. */
  copy(out: Tensor, x: Tensor): void;

  /** The rows of x whose logits are wanted, in order, closed up. out: [logit rows, C]; x: [T, C]. */
  selectRows(out: Tensor, x: Tensor): void;

  /**
   * out = u / max(|u|, eps) in each head, u = x * scale.
   * out, x: [T, A]; scale: weight [A]. out may be x. A zero head gives zeros.
   */
  l2NormHeads(out: Tensor, x: Tensor, scale: Tensor, heads: number, eps: number): void;

  /** k *= 1 + (a - 1) * kA. k, a: [T, A]; kA: weight [A]. Source: RWKV-7, `k_a`. */
  scaleKey(k: Tensor, a: Tensor, kA: Tensor): void;

  /**
   * y += (sum over the head of r * k * rK) * v, the bonus of the current token.
   * y, r, k, v: [T, A]; rK: weight [A]. y is none of the inputs. Source: RWKV-7, `r_k`.
   */
  addBonus(y: Tensor, r: Tensor, k: Tensor, v: Tensor, rK: Tensor, heads: number): void;

  /**
   * Per run: the RWKV-4 recurrence, per channel, with a running maximum exponent against overflow.
   *
   *   m = max(pp, first + k);  y = (exp(pp - m) aa + exp(first + k - m) v) / (exp(pp - m) bb + exp(first + k - m))
   *   m = max(pp + decay, k);  aa = exp(pp + decay - m) aa + exp(k - m) v;  bb likewise with 1 for v;  pp = m
   *
   * y, k, v: [T, A]; decay (negative, a logarithm) and first: weights [A]; y overlaps no input.
   * Source: BlinkDL/ChatRWKV, RWKV_in_150_lines.py.
   */
  wkv4(y: Tensor, state: Wkv4State, k: Tensor, v: Tensor, decay: Tensor, first: Tensor): void;

  /**
   * Per run: the recurrence of RWKV-5 and RWKV-6, independent over heads, with S[i][j], i the key's and j the
   * value's index:
   *
   *   y_j = sum over i of r_i (first_i k_i v_j + S[i][j]);   S[i][j] = decay_i S[i][j] + k_i v_j
   *
   * y, r, k, v: [T, A]; decay in (0, 1): [T, A] (v6), or a weight [A] (v5); first: weight [A]; wkv: state [H, N, N].
   * y overlaps no input. Source: arXiv:2404.05892.
   */
  wkv6(y: Tensor, wkv: Tensor, r: Tensor, k: Tensor, v: Tensor, decay: Tensor, first: Tensor): void;

  /**
   * Per run: the RWKV-7 recurrence, independent over heads, with S[i][j], i the value's and j the key's index:
   *
   *   S = S * diag(w) - (S @ kk) (kk * a)^T + v k^T;   y = S @ r
   *
   * y, r, w, k, v, kk, a: [T, A]; w is the decay itself, not its logarithm; kk has length 1 in each head; a is in
   * (0, 1); wkv: state [H, N, N]. y overlaps no input. Source: arXiv:2503.14456; RWKV-LM, rwkv_v7_numpy.py.
   */
  wkv7(y: Tensor, wkv: Tensor, r: Tensor, w: Tensor, k: Tensor, v: Tensor, kk: Tensor, a: Tensor): void;
}
