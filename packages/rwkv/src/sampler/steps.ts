// The plain steps: temperature, and those that keep the likeliest. Each narrows or reshapes the candidates and knows nothing
// of the others, so that a chain is a list in any order. Nucleus sampling (top-p): arXiv:1904.09751; the rule for ties is
// that of the rwkv package. Min-p: arXiv:2407.01082. XTC: github.com/oobabooga/text-generation-webui, pull request 6335.

import { UsageError } from "../core/errors.ts";
import type { Candidates } from "./candidates.ts";
import { logOfPositive } from "./exp.ts";
import type { Selector } from "./select.ts";
import { checkCount, checkNumber, type SamplerStep } from "./step.ts";

/** Keeps the candidate with the largest logit; of equal ones, that with the lowest id. It ends a chain. */
export function greedy(): SamplerStep {
  const apply = (candidates: Candidates): void => candidates.keepFrom(candidates.maxLogit, 1);
  return {
    name: "greedy",
    kind: "greedy",
    apply,
    short: {
      apply(candidates, _context, tail) {
        if (candidates.maxLogit <= tail.maxLogit) return "unknown";
        apply(candidates);
        return "all";
      },
    },
  };
}

/**
 * Divides the logits by `temperature`, which is as raising the probabilities to the power of its inverse.
 * @param temperature - above 0
 * @throws UsageError for any other
 */
export function temperature(temperature: number): SamplerStep {
  if (temperature === 0)
    throw new UsageError("temperature is 0; expected a number above 0. The step greedy takes the likeliest.");
  checkNumber("temperature", temperature, 0, false);
  return { name: "temperature", apply: (candidates) => candidates.divideBy(temperature) };
}

/**
 * Keeps the `k` candidates with the largest logits; of those that tie for the last place, the ones with the lowest ids.
 * @param k - at least 1
 * @throws UsageError for any other
 */
export function topK(k: number): SamplerStep {
  checkCount("top-k", k, 1);
  return {
    name: "top-k",
    kind: "truncation",
    apply(candidates, { selector }) {
      keepLikeliest(candidates, selector, k);
    },
    short: {
      apply(candidates, { selector }, tail) {
        if (k > candidates.count || selector.logitOfRank(k, candidates) <= tail.maxLogit) return "unknown";
        keepLikeliest(candidates, selector, k);
        return "all";
      },
    },
  };
}

/** Keeps the `k` likeliest candidates, of equal ones those with the lowest ids; all where there are no more. */
export function keepLikeliest(candidates: Candidates, selector: Selector, k: number): void {
  const { logits, count } = candidates;
  if (k >= count) return;
  const least = selector.logitOfRank(k, candidates);
  let nAbove = 0;
  for (let i = 0; i < count; i++) if (logits[i]! > least) nAbove++;
  candidates.keepFrom(least, k - nAbove);
}

/**
 * Keeps the likeliest candidates whose probabilities sum to at least `p`, and all that are as likely as the last of them.
 * @param p - from 0, which keeps the likeliest and its equals; 1 or more keeps all
 * @throws UsageError for any other
 */
export function topP(p: number): SamplerStep {
  checkNumber("top-p", p, 0);
  return {
    name: "top-p",
    kind: "truncation",
    apply(candidates, { selector }) {
      if (p >= 1) return;
      const total = candidates.weigh();
      // What is lighter than half of an even share of the mass that may be left out cannot be among the tokens kept:
      // all of it together is less than that mass. Mostly this leaves a few hundred of 65,536 candidates.
      candidates.dropLighterThan(((1 - p) * total) / candidates.count / 2);
      candidates.keepFrom(selector.cutoffLogit(candidates, p * total));
    },
    short: {
      apply(candidates, { selector }, tail) {
        const mass = candidates.weigh();
        const { least, most } = tail.weight(candidates.maxLogit);
        if (!(p * (mass + most) < mass)) return "unknown";
        const cutoff = selector.cutoffLogit(candidates, p * (mass + most));
        // Wherever in between the sum of all weights is, the cut is the same.
        if (cutoff <= tail.maxLogit || cutoff !== selector.cutoffLogit(candidates, p * (mass + least)))
          return "unknown";
        candidates.keepFrom(cutoff);
        return "all";
      },
    },
  };
}

/**
 * Keeps the candidates that are at least `p` times as likely as the likeliest.
 * @param p - from 0, which keeps all, to 1
 * @throws UsageError for any other
 */
export function minP(p: number): SamplerStep {
  checkNumber("min-p", p, 0);
  if (p > 1) throw new UsageError(`min-p is ${p}; expected a number from 0 to 1.`);
  const distance = p === 0 ? -Infinity : logOfPositive(p);
  return {
    name: "min-p",
    kind: "truncation",
    apply: (candidates) => candidates.keepFrom(candidates.maxLogit + distance),
    short: {
      apply(candidates, _context, tail) {
        if (candidates.maxLogit + distance <= tail.maxLogit) return "unknown";
        candidates.keepFrom(candidates.maxLogit + distance);
        return "all";
      },
    },
  };
}

/**
 * Excludes top choices: with a probability of `probability`, where two or more candidates are at least as likely as
 * `threshold`, all of these but the least likely go. Of equal ones that with the highest id stays.
 * @param threshold - from 0 to 1; above 0.5 never two are there
 * @param probability - from 0 to 1
 * @throws UsageError for any other
 */
export function xtc(threshold = 0.1, probability = 0.5): SamplerStep {
  for (const [name, value] of [
    ["threshold", threshold],
    ["probability", probability],
  ] as const) {
    if (!(value >= 0 && value <= 1))
      throw new UsageError(`The ${name} of xtc is ${value}; expected a number from 0 to 1.`);
  }
  return {
    name: "xtc",
    kind: "truncation",
    apply(candidates, { random }) {
      if (random.nextUnit() >= probability) return;
      const least = threshold * candidates.weigh();
      const { weights, count } = candidates;
      let last = -1;
      for (let i = 0; i < count; i++) {
        const weight = weights[i]!;
        if (weight > 0 && weight >= least && (last < 0 || weight <= weights[last]!)) last = i;
      }
      for (let i = 0; i < count; i++)
        if (i !== last && weights[i]! > 0 && weights[i]! >= least) candidates.set(i, -Infinity);
    },
  };
}
