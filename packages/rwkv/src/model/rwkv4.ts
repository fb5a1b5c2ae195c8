// RWKV-4: the whole forward pass, in the order of the official one-token code (BlinkDL/ChatRWKV,
// RWKV_in_150_lines.py). Prefill is the same code with more rows. The channel mix also serves versions 5 and 6.

import type { TensorDeclarer } from "../ops/backend.ts";
import type { Ops, Wkv4State } from "../ops/ops.ts";
import type { Tensor } from "../ops/tensor.ts";
import { LAYER_NORM_EPS, type ModelConfig } from "./config.ts";
import { declareEnds, readEmbedding, writeLogits, type EndRows, type EndWeights } from "./ends.ts";
import type { Norm } from "./weights/visitor.ts";

export interface TimeMix4<T = Tensor> {
  /** Shares of the previous token, `[C]`. */
  readonly mixR: T;
  readonly mixK: T;
  readonly mixV: T;
  /** `[A]`, the logarithm of the decay per token, negative. */
  readonly decay: T;
  /** `[A]`, added to the exponent of the current token. */
  readonly bonus: T;
  /** `[A, C]` */
  readonly receptance: T;
  readonly key: T;
  readonly value: T;
  /** `[C, A]` */
  readonly output: T;
}

export interface ChannelMix<T = Tensor> {
  /** Shares of the previous token, `[C]`. */
  readonly mixR: T;
  readonly mixK: T;
  /** `[C, C]` */
  readonly receptance: T;
  /** `[F, C]` */
  readonly key: T;
  /** `[C, F]` */
  readonly value: T;
}

export interface Layer4<T = Tensor> {
  readonly ln1: Norm<T>;
  readonly att: TimeMix4<T>;
  readonly ln2: Norm<T>;
  readonly ffn: ChannelMix<T>;
}

export interface Rwkv4Weights<T = Tensor> {
  readonly ends: EndWeights<T>;
  readonly layers: readonly Layer4<T>[];
}

export interface Layer4State extends Wkv4State {
  /** Last row of ln1 and of ln2, `[C]`. */
  readonly attShift: Tensor;
  readonly ffnShift: Tensor;
}

export interface ChannelMixScratch {
  /** `[T, C]` */
  readonly xn: Tensor;
  readonly dx: Tensor;
  readonly xr: Tensor;
  readonly xk: Tensor;
  readonly ffnR: Tensor;
  /** `[T, F]` */
  readonly hidden: Tensor;
}

export interface Scratch4 extends EndRows, ChannelMixScratch {
  /** `[T, C]` */
  readonly xv: Tensor;
  /** `[T, A]` */
  readonly r: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly y: Tensor;
}

export function declareScratch4(builder: TensorDeclarer, c: ModelConfig): Scratch4 {
  const rows = (name: string, width: number): Tensor => builder.scratch(name, [width], "token");
  return {
    ...declareEnds(builder, c),
    ...declareChannelMixScratch(builder, c),
    xv: rows("xv", c.nEmbd),
    r: rows("r", c.nAtt),
    k: rows("k", c.nAtt),
    v: rows("v", c.nAtt),
    y: rows("y", c.nAtt),
  };
}

export function declareChannelMixScratch(builder: TensorDeclarer, c: ModelConfig): ChannelMixScratch {
  const rows = (name: string, width: number): Tensor => builder.scratch(name, [width], "token");
  return {
    xn: rows("xn", c.nEmbd),
    dx: rows("dx", c.nEmbd),
    xr: rows("xr", c.nEmbd),
    xk: rows("xk", c.nEmbd),
    ffnR: rows("ffnR", c.nEmbd),
    hidden: rows("hidden", c.nFfn),
  };
}

export function forward4(ops: Ops, w: Rwkv4Weights, states: readonly Layer4State[], s: Scratch4): void {
  readEmbedding(ops, w.ends, s);
  for (let i = 0; i < w.layers.length; i++) {
    const layer = w.layers[i]!;
    const state = states[i]!;
    ops.layerNorm(s.xn, s.x, layer.ln1, LAYER_NORM_EPS);
    timeMix(ops, layer.att, state, s);
    ops.add(s.x, s.dx, 1);
    ops.layerNorm(s.xn, s.x, layer.ln2, LAYER_NORM_EPS);
    channelMix(ops, layer.ffn, state.ffnShift, s);
    ops.add(s.x, s.dx, 1);
  }
  writeLogits(ops, w.ends, s);
}

/** Time mix of one layer: reads s.xn, leaves the residual branch in s.dx, advances `state`. */
function timeMix(ops: Ops, p: TimeMix4, state: Layer4State, s: Scratch4): void {
  ops.tokenShift([s.xr, s.xk, s.xv], s.xn, state.attShift, [p.mixR, p.mixK, p.mixV]);

  ops.matmul(s.r, p.receptance, s.xr);
  ops.activate(s.r, s.r, "sigmoid");
  ops.matmul(s.k, p.key, s.xk);
  ops.matmul(s.v, p.value, s.xv);

  ops.wkv4(s.y, state, s.k, s.v, p.decay, p.bonus);
  ops.mul(s.y, s.r);
  ops.matmul(s.dx, p.output, s.y);
}

/** Channel mix of versions 4 to 6: reads s.xn, leaves the residual branch in s.dx, advances `shift`. */
export function channelMix(ops: Ops, p: ChannelMix, shift: Tensor, s: ChannelMixScratch): void {
  ops.tokenShift([s.xr, s.xk], s.xn, shift, [p.mixR, p.mixK]);

  ops.matmul(s.ffnR, p.receptance, s.xr);
  ops.activate(s.ffnR, s.ffnR, "sigmoid");
  ops.matmul(s.hidden, p.key, s.xk);
  ops.activate(s.hidden, s.hidden, "reluSquared");
  ops.matmul(s.dx, p.value, s.hidden);
  ops.mul(s.dx, s.ffnR);
}
