// The generator behind sampling: xoshiro128** 1.1 (Blackman and Vigna, https://prng.di.unimi.it/), 128 bits of state and
// 32-bit integer operations only, so that a seed gives the same draws in every JavaScript engine.

import { UsageError } from "../core/errors.ts";

/** Four unsigned 32-bit numbers that are not all 0. */
export type RandomState = readonly number[];

const GOLDEN_RATIO = 0x9e3779b9;

/** A seeded generator; `fromState(random.state())` goes on where `random` is. */
export class Random {
  #s0: number;
  #s1: number;
  #s2: number;
  #s3: number;

  private constructor([s0, s1, s2, s3]: RandomState) {
    this.#s0 = s0!;
    this.#s1 = s1!;
    this.#s2 = s2!;
    this.#s3 = s3!;
  }

  /**
   * @param seed - a whole number from 0 to 2^53 - 1; different seeds give different states
   * @throws UsageError for any other number
   */
  static fromSeed(seed: number): Random {
    if (!Number.isSafeInteger(seed) || seed < 0) {
      throw new UsageError(`seed is ${seed}; expected a whole number from 0 to ${Number.MAX_SAFE_INTEGER}.`);
    }
    // Each step is one-to-one, so the first two words tell any two seeds apart; they are 0 together for none, since
    // the high part of a seed has only 21 bits.
    const first = splitmix32(seed >>> 0);
    const second = splitmix32(first + Math.floor(seed / 2 ** 32));
    const third = splitmix32(second + first);
    return new Random([first, second, third, splitmix32(third + second)]);
  }

  /** @throws UsageError if these are not the numbers that `state` gives */
  static fromState(state: RandomState): Random {
    const isWord = (word: number): boolean => Number.isInteger(word) && word >= 0 && word < 2 ** 32;
    if (state.length !== 4 || !state.every(isWord) || state.every((word) => word === 0)) {
      throw new UsageError(
        `The state of the generator should be four whole numbers from 0 to ${2 ** 32 - 1}, not all 0; found [${state.join(", ")}].`,
      );
    }
    return new Random(state);
  }

  /** Where the generator is. */
  state(): RandomState {
    return [this.#s0 >>> 0, this.#s1 >>> 0, this.#s2 >>> 0, this.#s3 >>> 0];
  }

  /** The next 32 bits, as an unsigned number. */
  nextU32(): number {
    const result = Math.imul(rotateLeft(Math.imul(this.#s1, 5), 7), 9) >>> 0;
    const t = this.#s1 << 9;
    this.#s2 ^= this.#s0;
    this.#s3 ^= this.#s1;
    this.#s1 ^= this.#s2;
    this.#s0 ^= this.#s3;
    this.#s2 ^= t;
    this.#s3 = rotateLeft(this.#s3, 11);
    return result;
  }

  /** A multiple of 2^-53 in [0, 1), from two draws of 32 bits. */
  nextUnit(): number {
    const high = this.nextU32() >>> 5;
    const low = this.nextU32() >>> 6;
    return (high * 2 ** 26 + low) * 2 ** -53;
  }
}

/** A seed for those who gave none, from the platform's cryptographic generator. */
export function drawSeed(): number {
  const [high, low] = crypto.getRandomValues(new Uint32Array(2));
  return (high! >>> 11) * 2 ** 32 + low!;
}

function rotateLeft(word: number, n: number): number {
  return (word << n) | (word >>> (32 - n));
}

/** One output of splitmix32 for the state `x`; one-to-one on 32 bits. */
function splitmix32(x: number): number {
  let z = (x + GOLDEN_RATIO) | 0;
  z = Math.imul(z ^ (z >>> 16), 0x21f0aaad);
  z = Math.imul(z ^ (z >>> 15), 0x735a2d97);
  return (z ^ (z >>> 15)) >>> 0;
}
