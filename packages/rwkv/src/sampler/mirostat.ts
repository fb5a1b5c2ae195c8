// Mirostat (arXiv:2007.14966): keeps the information per token near a target by a limit on it, mu, which moves after each draw
// by how far the token drawn was from the target. Information is in bits, under the distribution before the limit, as in
// the paper.

import type { Candidates } from "./candidates.ts";
import { expOfNonPositive, LN2, logOfPositive } from "./exp.ts";
import { Sorter } from "./sorter.ts";
import { checkNumber, type SamplerStep } from "./step.ts";
import { keepLikeliest } from "./steps.ts";

/** How many of the likeliest tell version 1 how fast probabilities fall. */
const ZIPF_TOKENS = 100;

/** `[ZIPF_TOKENS - 1]`: log((i + 2) / (i + 1)) */
const RANK_RATIOS = Float64Array.from({ length: ZIPF_TOKENS - 1 }, (_, i) =>
  logOfPositive((i + 2) / (i + 1)),
);

/** State of the step: mu, and the logit whose information would be 0 bits. */
const MU = 0;
const ZERO_BITS = 1;

/**
 * Version 2: keeps the candidates that carry at most mu bits, at least the likeliest. It ends a chain, and takes the place
 * of truncation.
 * @param tau - bits that tokens shall carry on average; mu begins at twice that
 * @param eta - how much of the difference is taken off mu
 * @throws UsageError for numbers not above 0
 */
export function mirostat(tau = 5, eta = 0.1): SamplerStep {
  return mirostatStep("mirostat", tau, eta, (candidates, { [MU]: mu, [ZERO_BITS]: zeroBits }) => {
    candidates.keepFrom(Math.min(candidates.maxLogit, zeroBits! - mu! * LN2));
  });
}

/**
 * Version 1: keeps the k likeliest candidates, where k is what mu means if probabilities fall with rank as Zipf's law says;
 * its exponent is fitted to the 100 likeliest. It ends a chain, and takes the place of truncation.
 * @param tau - bits that tokens shall carry on average; mu begins at twice that
 * @param eta - how much of the difference is taken off mu
 * @throws UsageError for numbers not above 0
 */
export function mirostat1(tau = 5, eta = 0.1): SamplerStep {
  return mirostatStep("mirostat-1", tau, eta, (candidates, { [MU]: mu }, { selector, sorter }) => {
    const { count } = candidates;
    if (count < 2) return;
    const head = sorter.head(candidates, selector, Sorter.tierOf(ZIPF_TOKENS));
    const exponent = zipfExponent(head, Math.min(count, ZIPF_TOKENS));
    keepLikeliest(candidates, selector, likeliestOf(exponent, count, mu!));
  });
}

function mirostatStep(
  name: string,
  tau: number,
  eta: number,
  limit: (candidates: Candidates, state: Float64Array, context: Parameters<SamplerStep["apply"]>[1]) => void,
): SamplerStep {
  checkNumber(`tau of ${name}`, tau, 0, false);
  checkNumber(`eta of ${name}`, eta, 0, false);
  return {
    name,
    kind: "mirostat",
    initialState: [2 * tau, 0],
    apply(candidates, context, state) {
      state[ZERO_BITS] = candidates.maxLogit + logOfPositive(candidates.weigh());
      limit(candidates, state, context);
    },
    drawn({ logits }, index, state) {
      const bits = (state[ZERO_BITS]! - logits[index]!) / LN2;
      state[MU]! -= eta * (bits - tau);
    },
  };
}

/** @param head - logits, smallest first, of which the last `n` count, at least 2; those that cannot be drawn are left out */
function zipfExponent(head: Float32Array, n: number): number {
  let product = 0;
  let square = 0;
  for (let i = 0; i + 1 < n; i++) {
    const logit = head[head.length - 1 - i]!;
    const next = head[head.length - 2 - i]!;
    if (next === -Infinity) break;
    product += RANK_RATIOS[i]! * (logit - next);
    square += RANK_RATIOS[i]! ** 2;
  }
  return square === 0 ? Infinity : product / square;
}

/** k = (e 2^mu / (1 - n^-e))^(1 / s) with e = s - 1, at least 1; its limits where a divisor is 0. */
function likeliestOf(exponent: number, n: number, mu: number): number {
  if (exponent === 0) return n;
  const excess = exponent - 1;
  if (!(excess < Infinity)) return 1;
  const logN = logOfPositive(n);
  const spread = excess * logN;
  // (1 - n^-e) / e goes to log n as e goes to 0.
  const share = Math.abs(spread) < 1e-6 ? logN : (1 - exp(-spread)) / excess;
  const k = exp((mu * LN2 - logOfPositive(share)) / exponent);
  return k < n ? Math.max(1, Math.round(k)) : n;
}

function exp(x: number): number {
  return x <= 0 ? expOfNonPositive(x) : 1 / expOfNonPositive(-x);
}
