// A state as an embedding: one vector for a whole text, to compare texts by.

import { UsageError } from "../core/errors.ts";
import { stateView, type LayerStateView, type StateOwner } from "./state-view.ts";

/** Which numbers of a state make the vector. */
export interface StateEmbeddingOptions {
  /** `wkv` is the memory (in RWKV-4 its weighted mean, aa / bb), the others are the last token's. Default `wkv`. */
  readonly part?: "wkv" | "attShift" | "ffnShift" | undefined;
  /** One layer by number, the `last`, the `mean` of all, or `all` one after the other. Default `last`. */
  readonly layers?: number | "last" | "mean" | "all" | undefined;
}

/**
 * The vector of a state; its length depends on the model and the options alone.
 * @param state - a whole state, as `session.readState` gives
 * @returns f32, a copy, not scaled to any length
 * @throws UsageError if the state has another length, or there is no such layer
 */
export function stateEmbedding(
  model: StateOwner,
  state: Float32Array,
  { part = "wkv", layers = "last" }: StateEmbeddingOptions = {},
): Float32Array {
  const vectors = stateView(model, state).map((layer) => vectorOf(layer, part));
  const width = vectors[0]!.length;
  if (layers === "all") {
    const all = new Float32Array(vectors.length * width);
    vectors.forEach((vector, i) => all.set(vector, i * width));
    return all;
  }
  if (layers === "mean") {
    return Float32Array.from({ length: width }, (_, i) => {
      let sum = 0;
      for (const vector of vectors) sum += vector[i]!;
      return sum / vectors.length;
    });
  }
  const chosen = vectors[layers === "last" ? vectors.length - 1 : layers];
  if (chosen !== undefined) return chosen.slice();
  throw new UsageError(`There is no layer ${layers}; this model has layers 0 to ${vectors.length - 1}.`);
}

/**
 * The cosine of the angle between two vectors, from -1 to 1; 0 if one of them is all zeros. Summed in f64.
 * @throws UsageError if their lengths differ
 */
export function cosineSimilarity(a: Float32Array, b: Float32Array): number {
  if (a.length !== b.length) {
    throw new UsageError(`Vectors of ${a.length} and ${b.length} numbers cannot be compared.`);
  }
  let [dot, aa, bb] = [0, 0, 0];
  for (let i = 0; i < a.length; i++) {
    dot += a[i]! * b[i]!;
    aa += a[i]! ** 2;
    bb += b[i]! ** 2;
  }
  return aa === 0 || bb === 0 ? 0 : dot / Math.sqrt(aa * bb);
}

function vectorOf(
  { attShift, ffnShift, wkv, exponential }: LayerStateView,
  part: NonNullable<StateEmbeddingOptions["part"]>,
): Float32Array {
  if (part !== "wkv") return part === "attShift" ? attShift : ffnShift;
  if (wkv !== null) return wkv;
  const { aa, bb } = exponential!;
  return aa.map((sum, c) => (bb[c] === 0 ? 0 : sum / bb[c]!));
}
