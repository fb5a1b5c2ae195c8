// RWKV-6 ("Finch"): the whole forward pass, in the order of the official `rwkv` package (ChatRWKV, att_one_v6). Token
// shift and decay depend on the data through low-rank maps. Paper: arXiv:2404.05892.

import type { TensorDeclarer } from "../ops/backend.ts";
import type { Ops } from "../ops/ops.ts";
import type { Tensor } from "../ops/tensor.ts";
import { LAYER_NORM_EPS, type ModelConfig } from "./config.ts";
import { declareEnds, readEmbedding, writeLogits, type EndRows, type EndWeights } from "./ends.ts";
import { channelMix, declareChannelMixScratch, type ChannelMix, type ChannelMixScratch } from "./rwkv4.ts";
import type { HeadOptions, LayerState } from "./rwkv5.ts";
import type { Lora, Norm } from "./weights/visitor.ts";

export interface TimeMix6<T = Tensor> {
  /** Share of the previous token in the input of the shift maps, `[C]`. */
  readonly mixX: T;
  /** Maps to the shares of the previous token: down `[D, C]`, up `[C, D]`, bias `[C]`. */
  readonly shiftW: Lora<T>;
  readonly shiftK: Lora<T>;
  readonly shiftV: Lora<T>;
  readonly shiftR: Lora<T>;
  readonly shiftG: Lora<T>;
  /** Map to the decay: down `[Dd, C]`, up `[A, Dd]`, bias `[A]`. */
  readonly decay: Lora<T>;
  /** `[A]` */
  readonly bonus: T;
  /** `[A, C]` */
  readonly receptance: T;
  readonly key: T;
  readonly value: T;
  readonly gate: T;
  readonly lnX: Norm<T>;
  /** `[C, A]` */
  readonly output: T;
}

export interface Layer6<T = Tensor> {
  readonly ln1: Norm<T>;
  readonly att: TimeMix6<T>;
  readonly ln2: Norm<T>;
  readonly ffn: ChannelMix<T>;
}

export interface Rwkv6Weights<T = Tensor> {
  readonly ends: EndWeights<T>;
  readonly layers: readonly Layer6<T>[];
}

export interface Scratch6 extends EndRows, ChannelMixScratch {
  /** `[T, C]`: previous token less this one, and the input of the shift maps. */
  readonly delta: Tensor;
  readonly xx: Tensor;
  /** `[T, C]`: the share of the previous token, for one input at a time. */
  readonly share: Tensor;
  readonly xw: Tensor;
  readonly xv: Tensor;
  readonly xg: Tensor;
  /** `[T, A]` */
  readonly r: Tensor;
  readonly w: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly g: Tensor;
  readonly y: Tensor;
}

export interface Options6 extends HeadOptions {
  /** By layer: what the residual branches are multiplied by; a power of two, 1 but for rescaled GGUF files. */
  readonly residualScale: readonly number[];
}

export function declareScratch6(builder: TensorDeclarer, c: ModelConfig): Scratch6 {
  const rows = (name: string, width: number): Tensor => builder.scratch(name, [width], "token");
  return {
    ...declareEnds(builder, c),
    ...declareChannelMixScratch(builder, c),
    delta: rows("delta", c.nEmbd),
    xx: rows("xx", c.nEmbd),
    share: rows("share", c.nEmbd),
    xw: rows("xw", c.nEmbd),
    xv: rows("xv", c.nEmbd),
    xg: rows("xg", c.nEmbd),
    r: rows("r", c.nAtt),
    w: rows("w", c.nAtt),
    k: rows("k", c.nAtt),
    v: rows("v", c.nAtt),
    g: rows("g", c.nAtt),
    y: rows("y", c.nAtt),
  };
}

export function forward6(
  ops: Ops,
  w: Rwkv6Weights,
  states: readonly LayerState[],
  s: Scratch6,
  options: Options6,
): void {
  readEmbedding(ops, w.ends, s);
  for (let i = 0; i < w.layers.length; i++) {
    const layer = w.layers[i]!;
    const state = states[i]!;
    const scale = options.residualScale[i]!;
    ops.layerNorm(s.xn, s.x, layer.ln1, LAYER_NORM_EPS);
    timeMix(ops, layer.att, state, s, options);
    ops.add(s.x, s.dx, scale);
    ops.layerNorm(s.xn, s.x, layer.ln2, LAYER_NORM_EPS);
    channelMix(ops, layer.ffn, state.ffnShift, s);
    ops.add(s.x, s.dx, scale);
  }
  writeLogits(ops, w.ends, s);
}

/** Time mix of one layer: reads s.xn, leaves the residual branch in s.dx, advances `state`. */
function timeMix(
  ops: Ops,
  p: TimeMix6,
  state: LayerState,
  s: Scratch6,
  { heads, groupNormEps }: HeadOptions,
): void {
  ops.shiftDelta(s.delta, s.xn, state.attShift);
  ops.addMul(s.xx, s.xn, s.delta, p.mixX);
  shift(ops, s.xw, p.shiftW, s);
  shift(ops, s.xk, p.shiftK, s);
  shift(ops, s.xv, p.shiftV, s);
  shift(ops, s.xr, p.shiftR, s);
  shift(ops, s.xg, p.shiftG, s);

  ops.matmul(s.r, p.receptance, s.xr);
  ops.matmul(s.k, p.key, s.xk);
  ops.matmul(s.v, p.value, s.xv);
  ops.matmul(s.g, p.gate, s.xg);
  ops.activate(s.g, s.g, "silu");
  ops.lora(s.w, s.xw, p.decay, "tanh", "decay6");

  ops.wkv6(s.y, state.wkv, s.r, s.k, s.v, s.w, p.bonus);
  ops.groupNorm(s.y, s.y, p.lnX, heads, groupNormEps);
  ops.mul(s.y, s.g);
  ops.matmul(s.dx, p.output, s.y);
}

/** out = x + (previous - x) * (bias + tanh(xx * down) * up): the data-dependent token shift. */
function shift(ops: Ops, out: Tensor, map: Lora<Tensor>, s: Scratch6): void {
  ops.lora(s.share, s.xx, map, "tanh", "none");
  ops.addMul(out, s.xn, s.delta, s.share);
}
