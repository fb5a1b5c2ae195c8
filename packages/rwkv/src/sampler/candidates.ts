// The tokens still in play while the steps of a sampler narrow them down, with the logits as the steps left them. Ids stay
// in ascending order whatever is removed, so that ties are always settled the same way, and nothing is ever sorted.

import { UsageError } from "../core/errors.ts";
import { expOfNonPositive } from "./exp.ts";

/** A reusable list of at least one candidate. Only the first `count` entries of the arrays count. */
export class Candidates {
  count = 0;
  /** Ascending. */
  ids = new Int32Array(0);
  /** Finite, or -Infinity for what must not be drawn; at least one is finite. */
  logits = new Float32Array(0);
  /** Scratch of the steps; after `weigh`, exp(logit - largest logit), which is proportional to the probability. */
  weights = new Float32Array(0);
  /** The largest logit. */
  maxLogit = 0;
  #allIds = new Int32Array(0);

  /**
   * Starts over with every token of the vocabulary.
   * @param logits - `[V]`, copied; V may change from call to call
   * @throws UsageError if one is NaN or +Infinity, naming the token, or none is above -Infinity
   */
  load(logits: Float32Array): void {
    const nVocab = logits.length;
    // Four maxima at a time: with one, each comparison would have to wait for the one before.
    let max0 = -Infinity;
    let max1 = -Infinity;
    let max2 = -Infinity;
    let max3 = -Infinity;
    let i = 0;
    for (; i + 3 < nVocab; i += 4) {
      if (!(logits[i]! <= max0)) max0 = checkLogit(logits, i);
      if (!(logits[i + 1]! <= max1)) max1 = checkLogit(logits, i + 1);
      if (!(logits[i + 2]! <= max2)) max2 = checkLogit(logits, i + 2);
      if (!(logits[i + 3]! <= max3)) max3 = checkLogit(logits, i + 3);
    }
    for (; i < nVocab; i++) if (!(logits[i]! <= max0)) max0 = checkLogit(logits, i);
    const max = Math.max(max0, max1, max2, max3);
    if (max === -Infinity) {
      throw new UsageError(
        `None of ${nVocab} tokens can be drawn: ` +
          (nVocab === 0
            ? "there are no logits."
            : "every logit is -Infinity. Leave at least one token unmasked."),
      );
    }
    if (this.#allIds.length < nVocab) this.#grow(nVocab);
    this.ids.set(this.#allIds.length === nVocab ? this.#allIds : this.#allIds.subarray(0, nVocab));
    this.logits.set(logits);
    this.count = nVocab;
    this.maxLogit = max;
  }

  /** Fills `weights` and returns their sum. */
  weigh(): number {
    const { logits, weights, count, maxLogit } = this;
    let total = 0;
    for (let i = 0; i < count; i++) {
      const weight = expOfNonPositive(logits[i]! - maxLogit);
      weights[i] = weight;
      total += weight;
    }
    return total;
  }

  /**
   * Keeps the candidates with at least this logit, and of those with exactly this one only the first `maxTies`. Their
   * weights move along.
   * @param logit - no larger than the largest
   * @param maxTies - at least 1
   */
  keepFrom(logit: number, maxTies = Infinity): void {
    const { ids, logits, weights, count } = this;
    let ties = 0;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const value = logits[i]!;
      if (value < logit || (value === logit && ++ties > maxTies)) continue;
      ids[kept] = ids[i]!;
      logits[kept] = value;
      weights[kept] = weights[i]!;
      kept++;
    }
    this.count = kept;
  }

  /** Drops the candidates whose weight is below `minWeight`, which is no larger than the largest weight. */
  dropLighterThan(minWeight: number): void {
    const { ids, logits, weights, count } = this;
    let kept = 0;
    for (let i = 0; i < count; i++) {
      const weight = weights[i]!;
      if (weight < minWeight) continue;
      ids[kept] = ids[i]!;
      logits[kept] = logits[i]!;
      weights[kept] = weight;
      kept++;
    }
    this.count = kept;
  }

  #grow(nVocab: number): void {
    this.ids = new Int32Array(nVocab);
    this.logits = new Float32Array(nVocab);
    this.weights = new Float32Array(nVocab);
    this.#allIds = Int32Array.from({ length: nVocab }, (_, id) => id);
  }
}

/** @returns the logit, which is a number below Infinity */
function checkLogit(logits: Float32Array, token: number): number {
  const logit = logits[token]!;
  if (logit < Infinity) return logit;
  throw new UsageError(
    `The logit of token ${token} is ${logit}; expected a finite number or -Infinity. The model's weights or its ` +
      `state are damaged, or its computation overflowed: check them, or use a wider dtype.`,
  );
}
