// The tokens still in play while the steps of a sampler narrow them down, with the logits as the steps left them. Ids stay
// in ascending order whatever is removed, so that ties are always settled the same way, and no vocabulary is ever sorted.

import { UsageError } from "../core/errors.ts";
import { WEIGHT_ERROR, type Shortlist } from "../core/shortlist.ts";
import { expOfNonPositive } from "./exp.ts";
import type { Tail } from "./step.ts";

/** More than a shortlist has elements, of either kind: places in it are told beside ids. */
const PLACES = 2 ** 12;

/** A reusable list of at least one candidate. Only the first `count` entries of the arrays count. */
export class Candidates {
  count = 0;
  /** Ascending. */
  ids = new Int32Array(0);
  /** Finite, or -Infinity for what must not be drawn; at least one is finite. Written by `set`, or followed by `refresh`. */
  logits = new Float32Array(0);
  /** After `weigh`, exp(logit - largest logit), which is proportional to the probability. */
  weights = new Float32Array(0);
  /** Scratch of the steps. */
  scores = new Float32Array(0);
  #maxLogit = 0;
  #isMaxKnown = false;
  /** Sum of `weights`; null where the logits have changed since. */
  #totalWeight: number | null = null;
  #allIds = new Int32Array(0);
  /** Of a shortlist: id * PLACES + place, which sorts by ids. */
  #keys = new Float64Array(0);

  /**
   * Starts over with every token of the vocabulary.
   * @param logits - `[V]`, copied; V may change from call to call
   * @throws UsageError if one is NaN or +Infinity, naming the token, or none is above -Infinity
   */
  load(logits: Float32Array): void {
    const nVocab = logits.length;
    const max = maxOf(logits, nVocab, modelLogitError);
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
    this.#maxLogit = max;
    this.#isMaxKnown = true;
    this.#totalWeight = null;
  }

  /**
   * Starts over with the tokens of a shortlist.
   * @param listed - the ids that were asked for
   * @returns what is missing of the vocabulary; null where it takes all logits to say
   * @throws UsageError if a logit is NaN or +Infinity, naming the token
   */
  loadShort({ ids, logits, weight, listedLogits }: Shortlist, listed: Uint32Array): Tail | null {
    const nLikeliest = ids.length;
    const count = nLikeliest + listed.length;
    if (this.ids.length < count) this.#grow(count);
    if (this.#keys.length < count) this.#keys = new Float64Array(2 * count);
    const keys = this.#keys.subarray(0, count);
    for (let i = 0; i < nLikeliest; i++) keys[i] = ids[i]! * PLACES + i;
    for (let i = 0; i < listed.length; i++) keys[nLikeliest + i] = listed[i]! * PLACES + nLikeliest + i;
    keys.sort();
    for (let i = 0; i < count; i++) {
      const place = keys[i]! % PLACES;
      this.ids[i] = (keys[i]! - place) / PLACES;
      this.logits[i] = place < nLikeliest ? logits[place]! : listedLogits[place - nLikeliest]!;
    }
    this.count = count;
    this.#maxLogit = maxOf(this.logits, count, (logit, i) => modelLogitError(logit, this.ids[i]!));
    this.#isMaxKnown = true;
    this.#totalWeight = null;
    let [maxLogit, minLogit, ownWeight] = [-Infinity, Infinity, 0];
    for (let i = 0; i < nLikeliest; i++) {
      maxLogit = Math.max(maxLogit, logits[i]!);
      minLogit = Math.min(minLogit, logits[i]!);
    }
    if (maxLogit === -Infinity) return null;
    for (let i = 0; i < nLikeliest; i++) ownWeight += expOfNonPositive(logits[i]! - maxLogit);
    return {
      maxLogit: minLogit,
      weight(max) {
        const scale = expOfNonPositive(maxLogit - max);
        const [rest, error] = [weight - ownWeight, WEIGHT_ERROR * weight];
        return { least: scale * Math.max(0, rest - error), most: scale * Math.max(0, rest + error) };
      },
    };
  }

  /**
   * The largest logit.
   * @throws UsageError if the steps so far have left no token that can be drawn
   */
  get maxLogit(): number {
    if (!this.#isMaxKnown) this.#setMax(maxOf(this.logits, this.count, stepLogitError));
    return this.#maxLogit;
  }

  /** Fills `weights`, unless they are up to date, and returns their sum. */
  weigh(): number {
    if (this.#totalWeight !== null) return this.#totalWeight;
    const { logits, weights, count, maxLogit } = this;
    let total = 0;
    for (let i = 0; i < count; i++) {
      const weight = expOfNonPositive(logits[i]! - maxLogit);
      weights[i] = weight;
      total += weight;
    }
    this.#totalWeight = total;
    return total;
  }

  /** Where the token stands in the list; -1 if it is not there. */
  indexOf(id: number): number {
    const { ids, count } = this;
    if (id < count && ids[id] === id) return id;
    let low = 0;
    let high = Math.min(id, count) - 1; // before the place it has in the whole vocabulary
    while (low <= high) {
      const middle = (low + high) >> 1;
      const found = ids[middle]!;
      if (found === id) return middle;
      if (found < id) low = middle + 1;
      else high = middle - 1;
    }
    return -1;
  }

  /** Gives the candidate at `index` another logit: below Infinity, -Infinity if it must not be drawn. */
  set(index: number, logit: number): void {
    const before = this.logits[index]!;
    this.logits[index] = logit;
    const after = this.logits[index];
    this.#totalWeight = null;
    if (!this.#isMaxKnown) return;
    if (after >= this.#maxLogit && after < Infinity) this.#maxLogit = after;
    else if (before === this.#maxLogit || !(after < Infinity)) this.#isMaxKnown = false; // found, or refused, when asked for
  }

  /**
   * Checks what a function of the user's has left, and takes it over: `ids`, `logits` and `count` may have changed.
   * @param name - of the step, for messages
   * @throws UsageError if a logit is NaN or +Infinity, or no token is left
   */
  refresh(name: string): void {
    this.#totalWeight = null;
    const isValid = Number.isInteger(this.count) && this.count >= 1 && this.count <= this.ids.length;
    if (!isValid)
      throw new UsageError(`The step ${name} left ${this.count} candidates; expected at least one.`);
    this.#setMax(
      maxOf(this.logits, this.count, (logit, index) => {
        const token = this.ids[index]!;
        return `The step ${name} gave token ${token} the logit ${logit}; expected a finite number or -Infinity.`;
      }),
    );
  }

  /** Divides the distances from the largest logit, which becomes 0: nothing overflows, however small the divisor. */
  divideBy(divisor: number): void {
    const { logits, count, maxLogit } = this;
    for (let i = 0; i < count; i++) logits[i] = (logits[i]! - maxLogit) / divisor;
    this.#maxLogit = 0;
    this.#totalWeight = null;
  }

  /**
   * Keeps the candidates with at least this logit, and of those with exactly this one only the first `maxTies`. Their
   * weights move along.
   * @param logit - no larger than the largest
   * @param maxTies - at least 1
   */
  keepFrom(logit: number, maxTies = Infinity): void {
    this.#keep(this.logits, logit, maxTies);
  }

  /**
   * Keeps the candidates whose entry of `scores` is at least this one.
   * @param score - no larger than the largest
   */
  keepScoring(score: number): void {
    this.#keep(this.scores, score, Infinity);
    // The likeliest may be gone, by which the weights are measured.
    this.#isMaxKnown = false;
    this.#totalWeight = null;
  }

  /**
   * Drops the candidates whose weight is below `minWeight`, if they are most of them: else it would cost more than it saves.
   * @param minWeight - no larger than the largest weight, which is up to date
   */
  dropLighterThan(minWeight: number): void {
    const { weights, count } = this;
    let nHeavy = 0;
    for (let i = 0; i < count; i++) if (weights[i]! >= minWeight) nHeavy++;
    if (2 * nHeavy <= count) this.#keep(weights, minWeight, Infinity);
  }

  /** Keeps the candidate at `index` alone. */
  keepOnly(index: number): void {
    this.ids[0] = this.ids[index]!;
    this.logits[0] = this.logits[index]!;
    this.count = 1;
    this.#isMaxKnown = false;
    this.#totalWeight = null;
  }

  #keep(values: Float32Array, least: number, maxTies: number): void {
    const { ids, logits, weights, count } = this;
    let ties = 0;
    let kept = 0;
    let total = 0;
    for (let i = 0; i < count; i++) {
      const value = values[i]!;
      if (value < least || (value === least && ++ties > maxTies)) continue;
      const weight = weights[i]!;
      ids[kept] = ids[i]!;
      logits[kept] = logits[i]!;
      weights[kept] = weight;
      total += weight;
      kept++;
    }
    this.count = kept;
    if (this.#totalWeight !== null) this.#totalWeight = total;
  }

  #setMax(max: number): void {
    if (max === -Infinity) {
      throw new UsageError(
        "The steps of the sampler left no token that can be drawn: every one is banned or has a bias of -Infinity. " +
          "Ban fewer.",
      );
    }
    this.#maxLogit = max;
    this.#isMaxKnown = true;
  }

  #grow(nVocab: number): void {
    this.ids = new Int32Array(nVocab);
    this.logits = new Float32Array(nVocab);
    this.weights = new Float32Array(nVocab);
    this.scores = new Float32Array(nVocab);
    this.#allIds = Int32Array.from({ length: nVocab }, (_, id) => id);
  }
}

type DescribeError = (logit: number, index: number) => string;

const modelLogitError: DescribeError = (logit, token) =>
  `The logit of token ${token} is ${logit}; expected a finite number or -Infinity. The model's weights or its ` +
  `state are damaged, or its computation overflowed: check them, or use a wider dtype.`;

const stepLogitError: DescribeError = (logit) =>
  `A bias or a penalty made a logit ${logit}; expected a finite number or -Infinity. Use smaller ones.`;

/**
 * The largest of the first `count`.
 * @throws UsageError if one is NaN or +Infinity
 */
function maxOf(logits: Float32Array, count: number, describe: DescribeError): number {
  // Four maxima at a time: with one, each comparison would have to wait for the one before.
  let max0 = -Infinity;
  let max1 = -Infinity;
  let max2 = -Infinity;
  let max3 = -Infinity;
  let i = 0;
  for (; i + 3 < count; i += 4) {
    if (!(logits[i]! <= max0)) max0 = checked(logits, i, describe);
    if (!(logits[i + 1]! <= max1)) max1 = checked(logits, i + 1, describe);
    if (!(logits[i + 2]! <= max2)) max2 = checked(logits, i + 2, describe);
    if (!(logits[i + 3]! <= max3)) max3 = checked(logits, i + 3, describe);
  }
  for (; i < count; i++) if (!(logits[i]! <= max0)) max0 = checked(logits, i, describe);
  return Math.max(max0, max1, max2, max3);
}

function checked(logits: Float32Array, index: number, describe: DescribeError): number {
  const logit = logits[index]!;
  if (logit < Infinity) return logit;
  throw new UsageError(describe(logit, index));
}
