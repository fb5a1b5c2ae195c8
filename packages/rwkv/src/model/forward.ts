// The one place that dispatches on the version: declares state and scratch, and binds a version's forward pass to the
// handles of its weights.

import type { TensorDeclarer } from "../ops/backend.ts";
import type { Ops } from "../ops/ops.ts";
import type { Tensor } from "../ops/tensor.ts";
import type { ModelConfig } from "./config.ts";
import { declareScratch4, forward4, type Layer4State } from "./rwkv4.ts";
import { declareScratch5, forward5, type LayerState } from "./rwkv5.ts";
import { declareScratch6, forward6 } from "./rwkv6.ts";
import { declareScratch7, forward7 } from "./rwkv7.ts";
import { stateLayout } from "./state.ts";
import { weights4, weights5, weights6, weights7 } from "./weights/tables.ts";
import { lookingVisitor } from "./weights/visitor.ts";

export interface ForwardOptions {
  readonly groupNormEps: number;
  /** See CanonicalWeights. */
  readonly rescaleEveryNLayers: number;
}

/**
 * Declares everything but the weights.
 * @param handles - the device weights by official name
 * @returns the forward pass, for the builder
 */
export function declareForward(
  builder: TensorDeclarer,
  c: ModelConfig,
  handles: ReadonlyMap<string, Tensor>,
  options: ForwardOptions,
): (ops: Ops) => void {
  const visit = lookingVisitor(handles);
  const states = new Map<string, Tensor>();
  for (const { name, shape, initial } of stateLayout(c).tensors) {
    states.set(name, builder.state(name, shape, initial));
  }
  const state = (i: number, name: string): Tensor => states.get(`blocks.${i}.${name}`)!;
  if (c.version === "4") {
    const weights = weights4(visit, c);
    const scratch = declareScratch4(builder, c);
    const layers: Layer4State[] = weights.layers.map((_, i) => ({
      attShift: state(i, "attShift"),
      aa: state(i, "aa"),
      bb: state(i, "bb"),
      pp: state(i, "pp"),
      ffnShift: state(i, "ffnShift"),
    }));
    return (ops) => forward4(ops, weights, layers, scratch);
  }
  const layers: LayerState[] = Array.from({ length: c.nLayer }, (_, i) => ({
    attShift: state(i, "attShift"),
    wkv: state(i, "wkv"),
    ffnShift: state(i, "ffnShift"),
  }));
  const headOptions = { heads: c.heads!, groupNormEps: options.groupNormEps };
  if (c.version === "7") {
    const weights = weights7(visit, c);
    const scratch = declareScratch7(builder, c);
    return (ops) => forward7(ops, weights, layers, scratch, headOptions);
  }
  if (c.version === "6") {
    const weights = weights6(visit, c);
    const scratch = declareScratch6(builder, c);
    const interval = options.rescaleEveryNLayers;
    const residualScale = layers.map((_, i) => (interval > 0 ? 2 ** Math.floor(i / interval) : 1));
    return (ops) => forward6(ops, weights, layers, scratch, { ...headOptions, residualScale });
  }
  const weights = weights5(visit, c);
  const scratch = declareScratch5(builder, c);
  return (ops) => forward5(ops, weights, layers, scratch, headOptions);
}
