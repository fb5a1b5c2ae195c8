// Where to cut a distribution, without sorting it: a radix selection over the bits of the logits, from the top. Three
// rounds of 11, 11 and 10 bits find the cut exactly, ties included, in a time that no input can make quadratic.

import type { Candidates } from "./candidates.ts";

const MAX_BUCKETS = 2048;

/** Finds cuts; holds the buffers for it, which are reused from token to token. */
export class Selector {
  /** `[MAX_BUCKETS]`: weight of the candidates in each bucket of a round. */
  readonly #mass = new Float64Array(MAX_BUCKETS);
  /** A whole number for each candidate that can still be the cut, in the order of the logits, and its weight. */
  #keys = new Uint32Array(0);
  #keyWeights = new Float32Array(0);
  /** The bits of `#logits`, which are those of the candidates last seen. */
  #bits = new Uint32Array(0);
  #logits: Float32Array | null = null;
  /** Results of `#findBucket`. */
  #bucket = 0;
  #massAbove = 0;

  /**
   * The largest logit L such that the weights of all candidates with a logit of at least L sum to `target` or more. If
   * rounding keeps all of them below `target`: the smallest logit with a positive weight.
   * @param target - from 0, for which the largest logit qualifies, to the sum of the weights
   */
  cutoffLogit(candidates: Candidates, target: number): number {
    this.#makeKeys(candidates);
    let n = candidates.count;
    let key = 0;
    let rest = target;
    for (const [shift, mask] of ROUNDS) {
      this.#findBucket(n, shift, mask, rest);
      const bucket = this.#bucket;
      rest -= this.#massAbove;
      key += bucket * 2 ** shift;
      n = this.#narrow(n, shift, mask, bucket);
    }
    return logitOfKey(key);
  }

  #makeKeys({ logits, weights, count }: Candidates): void {
    if (this.#logits !== logits) {
      this.#logits = logits;
      this.#bits = new Uint32Array(logits.buffer, logits.byteOffset, logits.length);
      this.#keys = new Uint32Array(logits.length);
      this.#keyWeights = new Float32Array(logits.length);
    }
    const keys = this.#keys;
    const keyWeights = this.#keyWeights;
    const bits = this.#bits;
    for (let i = 0; i < count; i++) {
      // The bits of negative floats count downwards: flip them all, and only the sign of the others.
      const word = bits[i]! | 0;
      keys[i] = word ^ ((word >> 31) | 0x80000000);
      keyWeights[i] = weights[i]!;
    }
  }

  /** The bucket in which the mass, summed from the top, reaches `target`, and the mass above it. */
  #findBucket(n: number, shift: number, mask: number, target: number): void {
    const mass = this.#mass.fill(0);
    const keys = this.#keys;
    const keyWeights = this.#keyWeights;
    for (let i = 0; i < n; i++) mass[(keys[i]! >>> shift) & mask]! += keyWeights[i]!;
    let sum = 0;
    for (let bucket = mask; bucket >= 0; bucket--) {
      const weight = mass[bucket]!;
      if (weight === 0) continue;
      this.#bucket = bucket;
      this.#massAbove = sum;
      sum += weight;
      if (sum >= target) return;
    }
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

const word = new Uint32Array(1);
const float = new Float32Array(word.buffer);

function logitOfKey(key: number): number {
  word[0] = key >= 2 ** 31 ? key - 2 ** 31 : ~key;
  return float[0]!;
}
