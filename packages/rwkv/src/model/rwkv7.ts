// RWKV-7 ("Goose"): the whole forward pass, in the order of the official numpy code (BlinkDL/RWKV-LM,
// RWKV-v7/rwkv_v7_numpy.py). Prefill is the same code with more rows. Paper: arXiv:2503.14456.

import type { TensorDeclarer } from "../ops/backend.ts";
import type { Ops } from "../ops/ops.ts";
import type { Tensor } from "../ops/tensor.ts";
import { L2_NORM_EPS, LAYER_NORM_EPS, type ModelConfig } from "./config.ts";
import { declareEnds, readEmbedding, writeLogits, type EndRows, type EndWeights } from "./ends.ts";
import type { HeadOptions, LayerState } from "./rwkv5.ts";
import type { Lora, Norm } from "./weights/visitor.ts";

export interface TimeMix7<T = Tensor> {
  /** Shares of the previous token, `[C]` each, in the order r, w, k, v, a, g. */
  readonly mix: readonly T[];
  /** `[A, C]` */
  readonly receptance: T;
  readonly key: T;
  readonly value: T;
  /** Low-rank maps `[C] -> [A]`: decay, in-context rate, gate, and (not in layer 0) the share of the first value. */
  readonly decay: Lora<T>;
  readonly rate: Lora<T>;
  readonly gate: Lora<T>;
  readonly valueGate: Lora<T> | null;
  /** `[A]` */
  readonly kK: T;
  readonly kA: T;
  readonly rK: T;
  readonly lnX: Norm<T>;
  /** `[C, A]` */
  readonly output: T;
}

export interface ChannelMix7<T = Tensor> {
  /** Share of the previous token, `[C]`. */
  readonly mix: T;
  /** `[F, C]` */
  readonly key: T;
  /** `[C, F]` */
  readonly value: T;
}

export interface Layer7<T = Tensor> {
  readonly ln1: Norm<T>;
  readonly att: TimeMix7<T>;
  readonly ln2: Norm<T>;
  readonly ffn: ChannelMix7<T>;
}

export interface Rwkv7Weights<T = Tensor> {
  readonly ends: EndWeights<T>;
  readonly layers: readonly Layer7<T>[];
}

export interface Scratch7 extends EndRows {
  /** `[T, C]`: a norm's output, and the residual branch. */
  readonly xn: Tensor;
  readonly dx: Tensor;
  readonly xr: Tensor;
  readonly xw: Tensor;
  readonly xk: Tensor;
  readonly xv: Tensor;
  readonly xa: Tensor;
  readonly xg: Tensor;
  /** `[T, A]` */
  readonly r: Tensor;
  readonly w: Tensor;
  readonly k: Tensor;
  readonly v: Tensor;
  readonly a: Tensor;
  readonly g: Tensor;
  readonly kk: Tensor;
  readonly y: Tensor;
  /** The values of layer 0, and how much of them a later layer takes. */
  readonly vFirst: Tensor;
  readonly vGate: Tensor;
  /** `[T, F]` */
  readonly hidden: Tensor;
}

export function declareScratch7(builder: TensorDeclarer, c: ModelConfig): Scratch7 {
  const rows = (name: string, width: number): Tensor => builder.scratch(name, [width], "token");
  return {
    ...declareEnds(builder, c),
    xn: rows("xn", c.nEmbd),
    dx: rows("dx", c.nEmbd),
    xr: rows("xr", c.nEmbd),
    xw: rows("xw", c.nEmbd),
    xk: rows("xk", c.nEmbd),
    xv: rows("xv", c.nEmbd),
    xa: rows("xa", c.nEmbd),
    xg: rows("xg", c.nEmbd),
    r: rows("r", c.nAtt),
    w: rows("w", c.nAtt),
    k: rows("k", c.nAtt),
    v: rows("v", c.nAtt),
    a: rows("a", c.nAtt),
    g: rows("g", c.nAtt),
    kk: rows("kk", c.nAtt),
    y: rows("y", c.nAtt),
    vFirst: rows("vFirst", c.nAtt),
    vGate: rows("vGate", c.nAtt),
    hidden: rows("hidden", c.nFfn),
  };
}

export function forward7(
  ops: Ops,
  w: Rwkv7Weights,
  states: readonly LayerState[],
  s: Scratch7,
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
  p: TimeMix7,
  state: LayerState,
  s: Scratch7,
  { heads, groupNormEps }: HeadOptions,
): void {
  ops.tokenShift([s.xr, s.xw, s.xk, s.xv, s.xa, s.xg], s.xn, state.attShift, p.mix);

  ops.matmul(s.r, p.receptance, s.xr);
  ops.matmul(s.k, p.key, s.xk);
  ops.matmul(s.v, p.value, s.xv);
  ops.lora(s.w, s.xw, p.decay, "tanh", "decay7");
  ops.lora(s.a, s.xa, p.rate, "none", "sigmoid");
  ops.lora(s.g, s.xg, p.gate, "sigmoid", "none");

  if (p.valueGate === null) {
    ops.copy(s.vFirst, s.v); // layer 0
  } else {
    ops.lora(s.vGate, s.xv, p.valueGate, "none", "sigmoid");
    ops.lerp(s.v, s.vFirst, s.vGate); // v += (vFirst - v) * vGate
  }

  ops.l2NormHeads(s.kk, s.k, p.kK, heads, L2_NORM_EPS); // from k before the next line changes it
  ops.scaleKey(s.k, s.a, p.kA);
  ops.wkv7(s.y, state.wkv, s.r, s.w, s.k, s.v, s.kk, s.a);
  ops.groupNorm(s.y, s.y, p.lnX, heads, groupNormEps);
  ops.addBonus(s.y, s.r, s.k, s.v, p.rK, heads);
  ops.mul(s.y, s.g);
  ops.matmul(s.dx, p.output, s.y);
}

/** Channel mix of one layer: reads s.xn, leaves the residual branch in s.dx, advances `shift`. */
function channelMix(ops: Ops, p: ChannelMix7, shift: Tensor, s: Scratch7): void {
  ops.tokenShift([s.xk], s.xn, shift, [p.mix]);
  ops.matmul(s.hidden, p.key, s.xk);
  ops.activate(s.hidden, s.hidden, "reluSquared");
  ops.matmul(s.dx, p.value, s.hidden);
}
