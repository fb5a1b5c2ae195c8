// Penalties for going on with a sequence that came before: the token that followed it then is made less likely now, the more so
// the longer the sequence. DRY ("don't repeat yourself"): github.com/oobabooga/text-generation-webui, pull request 5677. The
// fuzzy penalty follows the idea of the sequence repetition sampler of KerfuffleV2/llm-samplers, which smolrwkv uses.

import { MAX_HISTORY, type History } from "./history.ts";
import { lowerAll } from "./penalties.ts";
import { checkCount, checkNumber, checkTokens, ofListed, type SamplerStep } from "./step.ts";

/** How DRY penalises. */
export interface DryOptions {
  /** The penalty of a sequence just longer than allowed. Default 0.8. */
  readonly multiplier?: number | undefined;
  /** By which the penalty grows with each further token, at least 1. Default 1.75. */
  readonly base?: number | undefined;
  /** Tokens that a repeated sequence may have, at least 1. Default 2. */
  readonly allowedLength?: number | undefined;
  /** Tokens, read or drawn, that are looked at, up to 1,024. Default 1,024. */
  readonly window?: number | undefined;
  /** Tokens that no sequence goes across, such as those of a line's end. Default none. */
  readonly breakers?: readonly number[] | undefined;
}

/** Longer sequences are penalised no more, which keeps the power finite. */
const MAX_DRY_LENGTH = 64;

/**
 * From the logit of each token that would make a repeated sequence longer, multiplier * base^(n - allowedLength) is taken,
 * where n is the length of the longest sequence that ends the text, stood in it before, and was followed by the token.
 * Sequences shorter than `allowedLength` are free.
 * @throws UsageError for options out of range
 */
export function dry(options: DryOptions = {}): SamplerStep {
  const { multiplier = 0.8, base = 1.75, allowedLength = 2, window = MAX_HISTORY, breakers = [] } = options;
  checkNumber("multiplier of dry", multiplier, 0, false);
  checkNumber("base of dry", base, 1);
  checkCount("allowedLength of dry", allowedLength, 1);
  checkCount("window of dry", window, 1);
  checkTokens("breakers of dry", breakers);
  const breakerSet = new Set(breakers);
  const penalties = Float64Array.from(
    { length: MAX_DRY_LENGTH + 1 },
    (_, n) => multiplier * power(base, n - allowedLength),
  );
  const lengths = new Int32Array(MAX_HISTORY);
  const step: SamplerStep = {
    name: "dry",
    apply(candidates, { history, values }) {
      const n = Math.min(window, history.count);
      let longest = 0;
      while (longest < n && longest < MAX_DRY_LENGTH && !breakerSet.has(history.recent(longest))) longest++;
      if (longest < allowedLength) return;
      matchEnd(history, n, lengths);
      for (let age = 1; age < n; age++) {
        const length = Math.min(lengths[age]!, longest);
        if (length < allowedLength) continue;
        const next = history.recent(age - 1);
        const penalty = penalties[length]!;
        if (penalty > values.get(next)) values.set(next, penalty);
      }
      lowerAll(candidates, values);
    },
  };
  return ofListed(step, (ids, history) => history.addRecent(ids, window));
}

/**
 * For each age the number of tokens up to there that are the same as the last ones of the text. This is the Z-algorithm on the
 * text read backwards: it looks at each token at most twice, however often they repeat.
 * @param lengths - `[n]` or longer
 */
function matchEnd(history: History, n: number, lengths: Int32Array): void {
  let left = 0;
  let right = 0;
  for (let age = 1; age < n; age++) {
    let length = age < right ? Math.min(right - age, lengths[age - left]!) : 0;
    while (age + length < n && history.recent(length) === history.recent(age + length)) length++;
    lengths[age] = length;
    if (age + length > right) {
      left = age;
      right = age + length;
    }
  }
}

/** How repeated sequences are penalised. */
export interface SequenceRepetitionOptions {
  /** Taken from the logit of a token that goes on with a repeated sequence. Default 0. */
  readonly flat?: number | undefined;
  /** Taken for each token of the sequence. Default 0. */
  readonly stacking?: number | undefined;
  /** Tokens from which on a sequence counts, at least 2. Default 4. */
  readonly minLength?: number | undefined;
  /** Tokens of the sequence that may have been others before, but for its last and its first. Default 0. */
  readonly tolerance?: number | undefined;
  /** Most tokens that may have stood before in place of one such token, at least 1. Default 1. */
  readonly maxMerge?: number | undefined;
  /** Tokens, read or drawn, that are looked at, up to 1,024. Default 64. */
  readonly window?: number | undefined;
}

/**
 * From the logit of each token that followed an earlier sequence like the one that ends the text, flat + stacking * (its
 * longest length) is taken. Sequences are compared from their ends: where tokens differ, one of the recent sequence may
 * stand for up to `maxMerge` of the earlier one, at most `tolerance` times; the fewest that let the next tokens agree are
 * taken.
 * @throws UsageError for options out of range
 */
export function sequenceRepetition(options: SequenceRepetitionOptions): SamplerStep {
  const { flat = 0, stacking = 0, minLength = 4, tolerance = 0, maxMerge = 1, window = 64 } = options;
  checkNumber("flat", flat, 0);
  checkNumber("stacking", stacking, 0);
  checkCount("minLength", minLength, 2);
  checkCount("tolerance", tolerance, 0);
  checkCount("maxMerge", maxMerge, 1);
  checkCount("window of the sequence repetition penalty", window, 1);
  const step: SamplerStep = {
    name: "sequence-repetition",
    apply(candidates, { history, values }) {
      const n = Math.min(window, history.count);
      for (let age = 1; age < n; age++) {
        const length = fuzzyLength(history, n, age, tolerance, maxMerge);
        if (length < minLength) continue;
        const penalty = flat + stacking * length;
        const next = history.recent(age - 1);
        if (penalty > values.get(next)) values.set(next, penalty);
      }
      lowerAll(candidates, values);
    },
  };
  return ofListed(step, (ids, history) => history.addRecent(ids, window));
}

/** Tokens at the text's end that are like those before and at `age`, from the last that agrees to the first. */
function fuzzyLength(history: History, n: number, age: number, tolerance: number, maxMerge: number): number {
  let recent = 0;
  let earlier = age;
  let length = 0;
  let toleranceLeft = tolerance;
  while (earlier < n) {
    if (history.recent(recent) === history.recent(earlier)) {
      recent++;
      earlier++;
      length = recent;
      continue;
    }
    if (length === 0 || toleranceLeft === 0) break;
    toleranceLeft--;
    recent++;
    let merged = 1;
    while (
      merged < maxMerge &&
      earlier + merged < n &&
      history.recent(recent) !== history.recent(earlier + merged)
    ) {
      merged++;
    }
    earlier += merged;
  }
  return length;
}

/** base^n by multiplication and division, which give the same bits everywhere. */
function power(base: number, n: number): number {
  let result = 1;
  for (let i = 0; i < Math.abs(n); i++) result *= base;
  return n < 0 ? 1 / result : result;
}
