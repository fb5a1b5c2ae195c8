// Locally typical sampling (arXiv:2202.00666): the candidates whose information is nearest to what the distribution gives on
// average, its entropy. Both are measured from the same largest logit, so that no logarithm is needed:
// -log p(i) - H = mean(x) - x(i), where x(i) = logit(i) - largest and the mean is by probability.

import { UsageError } from "../core/errors.ts";
import type { SamplerStep } from "./step.ts";

/**
 * Keeps the candidates nearest to the entropy whose probabilities sum to at least `p`, and all that are as near as the last
 * of them. The likeliest may go.
 * @param p - above 0; 1 or more keeps all
 * @throws UsageError for any other
 */
export function typical(p: number): SamplerStep {
  if (!(p > 0))
    throw new UsageError(`typical is ${p}; expected a number above 0 (1 or more switches it off).`);
  return {
    name: "typical",
    kind: "truncation",
    apply(candidates, { selector }) {
      if (p >= 1) return;
      const total = candidates.weigh();
      const { logits, weights, scores, count, maxLogit } = candidates;
      let sum = 0;
      for (let i = 0; i < count; i++) {
        const weight = weights[i]!;
        if (weight > 0) sum += weight * (logits[i]! - maxLogit);
      }
      const mean = sum / total;
      let best = -Infinity;
      for (let i = 0; i < count; i++) {
        // What has no weight is infinitely far, also where its logit is finite.
        const score = weights[i]! > 0 ? -Math.abs(logits[i]! - maxLogit - mean) : -Infinity;
        scores[i] = score;
        if (score > best) best = score;
      }
      candidates.keepScoring(selector.cutoffScore(candidates, Math.fround(best), p * total));
    },
  };
}
