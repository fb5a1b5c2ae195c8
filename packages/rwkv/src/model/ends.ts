// What all versions share around their layers: the first norm of the embedding rows, and the logits. Decides that the
// embedding is looked up outside (its rows are the program's input) and that only wanted rows meet the head.

import type { TensorDeclarer } from "../ops/backend.ts";
import type { Ops } from "../ops/ops.ts";
import type { Tensor } from "../ops/tensor.ts";
import { LAYER_NORM_EPS, type ModelConfig } from "./config.ts";
import type { Norm } from "./weights/visitor.ts";

export interface EndWeights<T = Tensor> {
  /** Null where it is folded into the embedding. */
  readonly ln0: Norm<T> | null;
  readonly lnOut: Norm<T>;
  /** `[V, C]` */
  readonly head: T;
}

export interface EndRows {
  /** Input: embedding rows `[T, C]`. */
  readonly embedding: Tensor;
  /** Input: rows of the position table `[T, C]`, zeros beyond its end; null for models without one. */
  readonly position: Tensor | null;
  /** The residual stream `[T, C]`. */
  readonly x: Tensor;
  /** The stream's rows whose logits are wanted, `[R, C]`. */
  readonly last: Tensor;
  /** Output `[R, V]`. */
  readonly logits: Tensor;
}

/** Inputs are declared in the order in which a step takes them: embedding, then position. */
export function declareEnds(builder: TensorDeclarer, c: ModelConfig): EndRows {
  return {
    embedding: builder.input("embedding", [c.nEmbd]),
    position: c.positions > 0 ? builder.input("position", [c.nEmbd]) : null,
    x: builder.scratch("x", [c.nEmbd], "token"),
    last: builder.scratch("last", [c.nEmbd], "logit"),
    logits: builder.output("logits", [c.nVocab]),
  };
}

/** Starts the residual stream. */
export function readEmbedding(ops: Ops, w: EndWeights, s: EndRows): void {
  if (w.ln0 === null) ops.copy(s.x, s.embedding);
  else ops.layerNorm(s.x, s.embedding, w.ln0, LAYER_NORM_EPS);
  if (s.position !== null) ops.add(s.x, s.position, 1);
}

export function writeLogits(ops: Ops, w: EndWeights, s: EndRows): void {
  ops.selectRows(s.last, s.x);
  ops.layerNorm(s.last, s.last, w.lnOut, LAYER_NORM_EPS);
  ops.matmul(s.logits, w.head, s.last);
}
