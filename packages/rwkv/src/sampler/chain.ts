// From logits to a token: the default chain of steps and the draw that ends every chain. The order is that of the official
// rwkv package (BlinkDL/ChatRWKV, rwkv_pip_package, utils.py): top-p, top-k, and only then the temperature, which
// therefore changes the odds among the tokens kept but not which ones they are.

import { UsageError } from "../core/errors.ts";
import { Candidates } from "./candidates.ts";
import { drawSeed, Random } from "./random.ts";
import { Selector } from "./select.ts";
import { greedy, temperature, topK, topP, type SamplerStep } from "./steps.ts";

/** What `Sampler.state` gives: plain numbers, at least 0 and below 2^32, that JSON keeps exactly. */
export type SamplerState = readonly number[];

/** How the next token is drawn. The defaults are those of the official rwkv package. */
export interface SamplingOptions {
  /** At least 0. Below 1 favours likely tokens, above 1 evens out; 0 always takes the likeliest. Default 1. */
  readonly temperature?: number | undefined;
  /** Only the k likeliest tokens are drawn; 0 means all. Default 0. */
  readonly topK?: number | undefined;
  /** Only the likeliest tokens that together have this probability are drawn; 1 or more means all. Default 0.85. */
  readonly topP?: number | undefined;
  /** A whole number from 0 to 2^53 - 1 that makes the draws repeatable. Default: a random one, see `Sampler.seed`. */
  readonly seed?: number | undefined;
}

/** Draws tokens. One sampler serves one sequence, since its generator advances with each draw. */
export interface Sampler {
  /** The seed it was created with, given or drawn. */
  readonly seed: number;
  /**
   * Draws the next token.
   * @param logits - `[V]`; not kept and not changed
   * @throws UsageError if one is NaN or +Infinity, or all are -Infinity; the generator has not advanced then
   */
  sample(logits: Float32Array): number;
  /** Where the generator is; `restore` continues from there. */
  state(): SamplerState;
  /** @throws UsageError if these are not the numbers that `state` gives */
  restore(state: SamplerState): void;
}

/** @throws UsageError if an option is out of range, naming it */
export function createSampler(options: SamplingOptions = {}): Sampler {
  return createChain(officialSteps(options), options.seed);
}

/**
 * A sampler of any steps in any order; what they leave is drawn from by its softmax.
 * @param seed - a whole number from 0 to 2^53 - 1; without it a random one
 * @throws UsageError for any other seed
 */
export function createChain(steps: readonly SamplerStep[], seed: number = drawSeed()): Sampler {
  const candidates = new Candidates();
  const context = { selector: new Selector() };
  let random = Random.fromSeed(seed);
  return {
    seed,
    sample(logits) {
      candidates.load(logits);
      for (const step of steps) step.apply(candidates, context);
      return draw(candidates, random);
    },
    state: () => random.state(),
    restore(state) {
      random = Random.fromState(state);
    },
  };
}

/** The steps of the official sampler; those that would change nothing are left out. */
function officialSteps(options: SamplingOptions): SamplerStep[] {
  const t = options.temperature ?? 1;
  const k = options.topK ?? 0;
  const p = options.topP ?? 0.85;
  if (!(t >= 0 && t < Infinity))
    throw new UsageError(`temperature is ${t}; expected a number of at least 0.`);
  if (!(Number.isSafeInteger(k) && k >= 0)) {
    throw new UsageError(`topK is ${k}; expected a whole number of at least 0 (0 switches it off).`);
  }
  if (!(p >= 0 && p < Infinity)) {
    throw new UsageError(`topP is ${p}; expected a number of at least 0 (1 or more switches it off).`);
  }
  if (t === 0) return [greedy()];
  const steps: SamplerStep[] = [];
  if (p < 1) steps.push(topP(p));
  if (k > 0) steps.push(topK(k));
  if (t !== 1) steps.push(temperature(t));
  return steps;
}

/** One draw from the softmax of the candidates. */
function draw(candidates: Candidates, random: Random): number {
  const { ids, weights, count } = candidates;
  if (count === 1) return ids[0]!;
  const point = random.nextUnit() * candidates.weigh();
  let drawn = 0;
  for (let i = 0, sum = 0; i < count && sum <= point; i++) {
    const weight = weights[i]!;
    sum += weight;
    // A weight of 0 is never drawn, not even where rounding keeps the sum from reaching the point.
    if (weight > 0) drawn = i;
  }
  return ids[drawn]!;
}
