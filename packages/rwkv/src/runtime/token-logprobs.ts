// Log-probabilities of single tokens, and the likeliest few in order, without sorting the vocabulary.

import { Candidates } from "../sampler/candidates.ts";
import { Selector } from "../sampler/select.ts";
import { keepLikeliest } from "../sampler/steps.ts";

/** A token and the natural logarithm of its probability. */
export interface TokenLogprob {
  readonly token: number;
  readonly logprob: number;
}

/** A token that was drawn, and what the model would have found likeliest in its place. */
export interface DrawnLogprob extends TokenLogprob {
  /** The likeliest tokens, the likeliest first; of equal ones the lowest id first. */
  readonly top: readonly TokenLogprob[];
}

/** Reads log-probabilities off rows of logits; holds the buffers for it. */
export class LogprobReader {
  readonly #candidates = new Candidates();
  readonly #selector = new Selector();
  /** Logarithm of the sum of the exponentials of the last row. */
  #logSum = 0;

  /**
   * The `n` likeliest tokens, the likeliest first.
   * @param logits - `[V]`
   * @throws UsageError if one is NaN or +Infinity
   */
  top(logits: Float32Array, n: number): TokenLogprob[] {
    const candidates = this.#candidates;
    candidates.load(logits);
    this.#logSum = candidates.maxLogit + Math.log(candidates.weigh());
    if (n === 0) return [];
    keepLikeliest(candidates, this.#selector, n);
    const ids = Array.from(candidates.ids.subarray(0, candidates.count));
    ids.sort((a, b) => logits[b]! - logits[a]! || a - b);
    return ids.map((token) => ({ token, logprob: logits[token]! - this.#logSum }));
  }

  /** The token that was drawn from these logits, and the `n` likeliest. */
  drawn(logits: Float32Array, token: number, n: number): DrawnLogprob {
    const top = this.top(logits, n);
    return { token, logprob: logits[token]! - this.#logSum, top };
  }
}
