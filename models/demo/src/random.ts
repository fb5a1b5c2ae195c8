// Where all choices of the corpus come from: a small seeded generator, and the rule that says which cases training never
// sees. The generator is sfc32 (Chris Doty-Humphrey, PractRand): 32-bit integer operations only, so that a seed gives the
// same corpus in every JavaScript engine.

/** A seeded source of choices. Two streams of one seed are independent, so that document n needs none before it. */
export class SeededRandom {
  #a: number;
  #b: number;
  #c = 0x9e3779b9 | 0;
  #counter = 1;

  /** @param seed - and `stream`: whole numbers, of which the low 32 bits count */
  constructor(seed: number, stream: number) {
    this.#a = seed | 0;
    this.#b = stream | 0;
    // Twelve rounds until every bit of the seed has reached all of the state.
    for (let i = 0; i < 12; i++) this.#next();
  }

  /** A whole number from 0 to `n` - 1. */
  below(n: number): number {
    return Math.floor(((this.#next() >>> 0) / 2 ** 32) * n);
  }

  /** A whole number from `low` to `high`, both included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True with this probability. */
  chance(probability: number): boolean {
    return (this.#next() >>> 0) / 2 ** 32 < probability;
  }

  /** One of the items, all equally likely; there must be one. */
  pick<Item>(items: readonly Item[]): Item {
    return items[this.below(items.length)]!;
  }

  /** One of the items, each as likely as its `weight` says. */
  pickWeighted<Item extends { readonly weight: number }>(items: readonly Item[]): Item {
    let rest = ((this.#next() >>> 0) / 2 ** 32) * items.reduce((sum, { weight }) => sum + weight, 0);
    for (const item of items) {
      rest -= item.weight;
      if (rest < 0) return item;
    }
    return items.at(-1)!;
  }

  /** `n` different items in random order. */
  sample<Item>(items: readonly Item[], n: number): Item[] {
    const left = [...items];
    return Array.from(
      { length: Math.min(n, left.length) },
      () => left.splice(this.below(left.length), 1)[0]!,
    );
  }

  #next(): number {
    const sum = (this.#a + this.#b + this.#counter) | 0;
    this.#counter = (this.#counter + 1) | 0;
    this.#a = this.#b ^ (this.#b >>> 9);
    this.#b = (this.#c + (this.#c << 3)) | 0;
    this.#c = (((this.#c << 21) | (this.#c >>> 11)) + sum) | 0;
    return sum;
  }
}

/** One case in this many is kept for the evaluation. */
const HELD_OUT_SHARE = 5;

/**
 * Whether a case belongs to the evaluation. The rule looks at the case alone, so that no seed can bring a held-out case
 * into the training corpus.
 * @param key - what makes the case: kind and operands, the word to spell, or the text of the story
 */
export function isHeldOut(key: string): boolean {
  let hash = 0x811c9dc5;
  for (let i = 0; i < key.length; i++) hash = Math.imul(hash ^ key.charCodeAt(i), 0x01000193);
  hash ^= hash >>> 15; // FNV-1a leaves the low bits of similar keys alike
  hash = Math.imul(hash, 0x2c1b3c6d);
  hash ^= hash >>> 13;
  return (hash >>> 0) % HELD_OUT_SHARE === 0;
}

/** Which side of the rule cases are drawn from. */
export type Split = "train" | "held-out";

/**
 * Draws until a case lies on the wanted side.
 * @param key - of the drawn case, as for `isHeldOut`; null for a case that both sides may use
 */
export function drawFrom<Case>(split: Split, draw: () => Case, key: (drawn: Case) => string | null): Case {
  for (;;) {
    const drawn = draw();
    const name = key(drawn);
    if (name === null || isHeldOut(name) === (split === "held-out")) return drawn;
  }
}
