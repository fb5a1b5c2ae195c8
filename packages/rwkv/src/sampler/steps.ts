// The steps a sampler is made of. Each narrows or reshapes the candidates and knows nothing of the others, so that a
// chain is a list in any order. Nucleus sampling (top-p): arXiv:1904.09751; the rule for ties is that of the rwkv package.

import type { Candidates } from "./candidates.ts";
import type { Selector } from "./select.ts";

/** What the steps of a chain share. */
export interface SamplerContext {
  readonly selector: Selector;
}

/** One step. It leaves at least one candidate, keeps their order and `maxLogit` right, and allocates nothing. */
export interface SamplerStep {
  readonly name: string;
  apply(candidates: Candidates, context: SamplerContext): void;
}

/** Keeps the candidate with the largest logit; of equal ones, that with the lowest id. */
export function greedy(): SamplerStep {
  return {
    name: "greedy",
    apply: (candidates) => candidates.keepFrom(candidates.maxLogit, 1),
  };
}

/**
 * Divides the logits by `temperature`, which is as raising the probabilities to the power of its inverse. They are first
 * shifted so that the largest is 0: nothing can overflow then, however small the temperature is.
 * @param temperature - above 0
 */
export function temperature(temperature: number): SamplerStep {
  return {
    name: "temperature",
    apply(candidates) {
      const { logits, count, maxLogit } = candidates;
      for (let i = 0; i < count; i++) logits[i] = (logits[i]! - maxLogit) / temperature;
      candidates.maxLogit = 0;
    },
  };
}

/**
 * Keeps the `k` candidates with the largest logits; of those that tie for the last place, the ones with the lowest ids.
 * @param k - at least 1
 */
export function topK(k: number): SamplerStep {
  return {
    name: "top-k",
    apply(candidates, { selector }) {
      const { logits, weights, count } = candidates;
      if (k >= count) return;
      weights.fill(1, 0, count);
      const cutoff = selector.cutoffLogit(candidates, k);
      let nAbove = 0;
      for (let i = 0; i < count; i++) if (logits[i]! > cutoff) nAbove++;
      candidates.keepFrom(cutoff, k - nAbove);
    },
  };
}

/**
 * Keeps the likeliest candidates whose probabilities sum to at least `p`, and all that are as likely as the last of them.
 * @param p - from 0, which keeps the likeliest and its equals, to below 1
 */
export function topP(p: number): SamplerStep {
  return {
    name: "top-p",
    apply(candidates, { selector }) {
      const total = candidates.weigh();
      // What is lighter than half of an even share of the mass that may be left out cannot be among the tokens kept:
      // all of it together is less than that mass. Mostly this leaves a few hundred of 65,536 candidates.
      candidates.dropLighterThan(((1 - p) * total) / candidates.count / 2);
      candidates.keepFrom(selector.cutoffLogit(candidates, p * total));
    },
  };
}
