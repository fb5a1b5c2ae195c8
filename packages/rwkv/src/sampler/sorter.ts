// The likeliest few in order, for the steps whose rule speaks of neighbours in rank. Only they are sorted.

import type { Candidates } from "./candidates.ts";
import type { Selector } from "./select.ts";

const SMALLEST_TIER = 128;
const TIER_FACTOR = 4;

/** Sorts heads of distributions; holds the buffers for it, which are reused from token to token. */
export class Sorter {
  /** Of 128, 512, 2,048 ... logits: sorting a whole array makes no garbage, sorting a part would. */
  readonly #tiers: Float32Array[] = [];

  /** How many logits `head` gives at best where `least` are needed: the next of its steps. */
  static tierOf(least: number): number {
    let length = SMALLEST_TIER;
    while (length < least) length *= TIER_FACTOR;
    return length;
  }

  /**
   * The largest logits, smallest first, at the end of an array that is filled up with -Infinity; ties with the last one
   * count up to the wanted number.
   * @param n - one of the lengths that `tierOf` gives
   * @returns `[n]`, valid until the next call
   */
  head(candidates: Candidates, selector: Selector, n: number): Float32Array {
    const { logits, count } = candidates;
    const tier = this.#tier(n).fill(-Infinity);
    if (count <= n) {
      for (let i = 0; i < count; i++) tier[i] = logits[i]!;
      return tier.sort();
    }
    const cutoff = selector.logitOfRank(n, candidates);
    let taken = 0;
    for (let i = 0; i < count; i++) if (logits[i]! > cutoff) tier[taken++] = logits[i]!;
    return tier.fill(cutoff, taken).sort();
  }

  #tier(n: number): Float32Array {
    const found = this.#tiers.find(({ length }) => length === n);
    if (found !== undefined) return found;
    const tier = new Float32Array(n);
    this.#tiers.push(tier);
    return tier;
  }
}
