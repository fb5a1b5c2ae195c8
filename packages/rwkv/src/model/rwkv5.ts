// RWKV-5 ("Eagle"), all three kinds: 5.0 has no gate, 5.1 one decay per head, 5.2 one per channel. The whole forward
// pass, in the order of the official `rwkv` package (ChatRWKV, att_one_v5 to v5_2). Paper: arXiv:2404.05892.

import type { TensorDeclarer } from "../ops/backend.ts";
import type { Ops } from "../ops/ops.ts";
import type { Tensor } from "../ops/tensor.ts";
import { LAYER_NORM_EPS, type ModelConfig } from "./config.ts";
import { declareEnds, readEmbedding, writeLogits, type EndRows, type EndWeights } from "./ends.ts";
import { channelMix, declareChannelMixScratch, type ChannelMix, type ChannelMixScratch } from "./rwkv4.ts";
import type { Norm } from "./weights/visitor.ts";

export interface Gate5<T = Tensor> {
  /** Share of the previous token, `[C]`. */
  readonly mix: T;
  /** `[A, C]` */
  readonly weight: T;
}

export interface TimeMix5<T = Tensor> {
  /** Shares of the previous token, `[C]`. */
  readonly mixR: T;
  readonly mixK: T;
  readonly mixV: T;
  /** `[A]`, in (0, 1); per head in 5.0 and 5.1, repeated over its channels. */
  readonly decay: T;
  /** `[A]` */
  readonly bonus: T;
  /** `[A, C]` */
  readonly receptance: T;
  readonly key: T;
  readonly value: T;
  /** Null in 5.0. */
  readonly gate: Gate5<T> | null;
  readonly lnX: Norm<T>;
  /** `[C, A]` */
  readonly output: T;
}

export interface Layer5<T = Tensor> {
  readonly ln1: Norm<T>;
  readonly att: TimeMix5<T>;
  readonly ln2: Norm<T>;
  readonly ffn: ChannelMix<T>;
}

export interface Rwkv5Weights<T = Tensor> {
  readonly ends: EndWeights<T>;
  readonly layers: readonly Layer5<T>[];
}

/** State of one layer of version 5, 6 or 7. */
export interface LayerState {
  /** Last row of ln1 and of ln2, `[C]`. */
  readonly attShift: Tensor;
  readonly ffnShift: Tensor;
  /** `[H, N, N]`: key's index before the value's in versions 5 and 6, after it in 7. */
  readonly wkv: Tensor;
}

/** Numbers of the time mix that are not weights. */
export interface HeadOptions {
  readonly heads: number;
  readonly groupNormEps: number;
}

export interface Scratch5 extends EndRows, ChannelMixScratch {
  /** `[T, C]` */
  readonly xv: Tensor;
  readonly xg: Tensor;
  /** `[T, A]` */
  readonly r: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly g: Tensor;
  readonly y: Tensor;
}

export function declareScratch5(builder: TensorDeclarer, c: ModelConfig): Scratch5 {
  const rows = (name: string, width: number): Tensor => builder.scratch(name, [width], "token");
  return {
    ...declareEnds(builder, c),
    ...declareChannelMixScratch(builder, c),
    xv: rows("xv", c.nEmbd),
    xg: rows("xg", c.nEmbd),
    r: rows("r", c.nAtt),
    k: rows("k", c.nAtt),
    v: rows("v", c.nAtt),
    g: rows("g", c.nAtt),
    y: rows("y", c.nAtt),
  };
}

export function forward5(
  ops: Ops,
  w: Rwkv5Weights,
  states: readonly LayerState[],
  s: Scratch5,
  options: HeadOptions,
): void {
  readEmbedding(ops, w.ends, s);
  for (let i = 0; i < w.layers.length; i++) {
    const layer = w.layers[i]!;
    const state = states[i]!;
    ops.layerNorm(s.xn, s.x, layer.ln1, LAYER_NORM_EPS);
    timeMix(ops, layer.att, state, s, options);
    ops.add(s.x, s.dx, 1);
    ops.layerNorm(s.xn, s.x, layer.ln2, LAYER_NORM_EPS);
    channelMix(ops, layer.ffn, state.ffnShift, s);
    ops.add(s.x, s.dx, 1);
  }
  writeLogits(ops, w.ends, s);
}

/** Time mix of one layer: reads s.xn, leaves the residual branch in s.dx, advances `state`. */
function timeMix(
  ops: Ops,
  p: TimeMix5,
  state: LayerState,
  s: Scratch5,
  { heads, groupNormEps }: HeadOptions,
): void {
  if (p.gate === null) {
    ops.tokenShift([s.xr, s.xk, s.xv], s.xn, state.attShift, [p.mixR, p.mixK, p.mixV]);
  } else {
    const mixes = [p.mixR, p.mixK, p.mixV, p.gate.mix];
    ops.tokenShift([s.xr, s.xk, s.xv, s.xg], s.xn, state.attShift, mixes);
    ops.matmul(s.g, p.gate.weight, s.xg);
    ops.activate(s.g, s.g, "silu");
  }

  ops.matmul(s.r, p.receptance, s.xr);
  ops.matmul(s.k, p.key, s.xk);
  ops.matmul(s.v, p.value, s.xv);

  ops.wkv6(s.y, state.wkv, s.r, s.k, s.v, p.decay, p.bonus);
  ops.groupNorm(s.y, s.y, p.lnX, heads, groupNormEps);
  if (p.gate !== null) ops.mul(s.y, s.g);
  ops.matmul(s.dx, p.output, s.y);
}
