// Where to cut a distribution, without sorting it. Scores are counted into buckets of 1/128, by their distance from the
// largest; in the bucket of the cut, a radix selection over the bits of the scores, three rounds of 11, 11 and 10, finds it
// exactly, ties included, in a time that no input can make quadratic.

import type { Candidates } from "./candidates.ts";
import { expStepsOf, N_EXP_STEPS } from "./exp.ts";

const MAX_BUCKETS = 2048;

/** Finds cuts; holds the buffers for it, which are reused from token to token. */
export class Selector {
  /** `[N_EXP_STEPS]`: weight of the scores in each bucket, then in each of a round. */
  readonly #mass = new Float64Array(N_EXP_STEPS);
  /** The bucket of each score. */
  #steps = new Uint16Array(0);
  /** Of the scores that can still be the cut: a whole number in their order, and their weight. */
  #keys = new Uint32Array(0);
  #keyWeights = new Float32Array(0);
  /** The bits of `#scores`, which are those last seen. */
  #bits: Uint32Array = new Uint32Array(0);
  #scores: Float32Array | null = null;
  /** Results of `#findBucket`: the bucket, the mass above it. */
  #bucket = 0;
  #massAbove = 0;
  /** Result of `#collect`. */
  #areAllEqual = false;

  /**
   * The largest logit L such that the weights of all candidates with a logit of at least L sum to `target` or more. If
   * rounding keeps all of them below `target`: the smallest logit with a positive weight.
   * @param candidates - weighed
   * @param target - from 0, for which the largest logit qualifies, to the sum of the weights
   */
  cutoffLogit({ logits, weights, count, maxLogit }: Candidates, target: number): number {
    return this.#cutoff(logits, weights, count, maxLogit, target);
  }

  /** The `k`-th largest logit, from the first on, where there are as many. */
  logitOfRank(k: number, { logits, count, maxLogit }: Candidates): number {
    return this.#cutoff(logits, null, count, maxLogit, k);
  }

  /** As `cutoffLogit`, by other scores than the logits; `max` is the largest of them. */
  cutoffScore({ scores, weights, count }: Candidates, max: number, target: number): number {
    return this.#cutoff(scores, weights, count, max, target);
  }

  /** @param weights - null counts every entry as 1 */
  #cutoff(
    scores: Float32Array,
    weights: Float32Array | null,
    count: number,
    max: number,
    target: number,
  ): number {
    if (this.#steps.length < count) this.#steps = new Uint16Array(scores.length);
    const steps = this.#steps;
    const mass = this.#mass.fill(0);
    expStepsOf(scores, count, max, steps);
    if (weights === null) addOnes(mass, steps, count);
    else addWeights(mass, steps, weights, count);
    this.#findBucket(0, N_EXP_STEPS, 1, target);
    let rest = target - this.#massAbove;
    let n = this.#collect(scores, weights, count, this.#bucket);
    if (this.#areAllEqual) return scoreOfKey(this.#keys[0]!);
    let key = 0;
    for (const [shift, mask] of ROUNDS) {
      mass.fill(0, 0, mask + 1);
      for (let i = 0; i < n; i++) mass[(this.#keys[i]! >>> shift) & mask]! += this.#keyWeights[i]!;
      this.#findBucket(mask, -1, -1, rest);
      rest -= this.#massAbove;
      key += this.#bucket * 2 ** shift;
      n = this.#narrow(n, shift, mask, this.#bucket);
    }
    return scoreOfKey(key);
  }

  /** The bucket in which the mass, summed from `first` on, reaches `target`, and the mass before it. */
  #findBucket(first: number, end: number, step: 1 | -1, target: number): void {
    const mass = this.#mass;
    let sum = 0;
    for (let bucket = first; bucket !== end; bucket += step) {
      const weight = mass[bucket]!;
      if (weight === 0) continue;
      this.#bucket = bucket;
      this.#massAbove = sum;
      sum += weight;
      if (sum >= target) return;
    }
  }

  /** Takes the entries of one bucket up. Returns their number. */
  #collect(scores: Float32Array, weights: Float32Array | null, count: number, bucket: number): number {
    if (this.#scores !== scores) {
      this.#scores = scores;
      this.#bits = new Uint32Array(scores.buffer, scores.byteOffset, scores.length);
      if (this.#keys.length < scores.length) {
        this.#keys = new Uint32Array(scores.length);
        this.#keyWeights = new Float32Array(scores.length);
      }
    }
    const bits = this.#bits;
    const steps = this.#steps;
    const keys = this.#keys;
    const keyWeights = this.#keyWeights;
    let n = 0;
    let areEqual = true;
    for (let i = 0; i < count; i++) {
      if (steps[i] !== bucket) continue;
      // The bits of negative floats count downwards: flip them all, and only the sign of the others. -0 is taken for 0.
      const word = scores[i] === 0 ? 0 : bits[i]! | 0;
      const key = (word ^ ((word >> 31) | 0x80000000)) >>> 0;
      keys[n] = key;
      keyWeights[n] = weights === null ? 1 : weights[i]!;
      if (key !== keys[0]) areEqual = false;
      n++;
    }
    this.#areAllEqual = areEqual;
    return n;
  }

  #narrow(n: number, shift: number, mask: number, bucket: number): number {
    const keys = this.#keys;
    const keyWeights = this.#keyWeights;
    let kept = 0;
    for (let i = 0; i < n; i++) {
      const key = keys[i]!;
      if (((key >>> shift) & mask) !== bucket) continue;
      keys[kept] = key;
      keyWeights[kept] = keyWeights[i]!;
      kept++;
    }
    return kept;
  }
}

/** Lowest bit and mask of each round: together the 32 bits of a key. */
const ROUNDS: readonly (readonly [number, number])[] = [
  [21, MAX_BUCKETS - 1],
  [10, MAX_BUCKETS - 1],
  [0, 1023],
];

function addWeights(mass: Float64Array, steps: Uint16Array, weights: Float32Array, count: number): void {
  for (let i = 0; i < count; i++) mass[steps[i]!]! += weights[i]!;
}

function addOnes(mass: Float64Array, steps: Uint16Array, count: number): void {
  for (let i = 0; i < count; i++) mass[steps[i]!]! += 1;
}

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

function scoreOfKey(key: number): number {
  word[0] = key >= 2 ** 31 ? key - 2 ** 31 : ~key;
  return float[0]!;
}
