// What tests of samplers share.

import { N_LIKELIEST, type ShortlistWanted } from "../core/shortlist.ts";
import { History, TokenValues } from "./history.ts";
import { Random } from "./random.ts";
import { Selector } from "./select.ts";
import { Sorter } from "./sorter.ts";
import type { SamplerContext } from "./step.ts";

export const DRAWS = 100_000;

/** A context as a chain has it, after some tokens, the last of them drawn. */
export function newContext(tokens: readonly number[] = [], nGenerated = tokens.length): SamplerContext {
  const history = new History();
  history.begin(tokens, nGenerated);
  return {
    history,
    random: Random.fromSeed(7),
    selector: new Selector(),
    sorter: new Sorter(),
    values: new TokenValues(),
  };
}

/** `[nVocab]`, even in an interval of this length around 0; the same in each run. */
export function someLogits(nVocab: number, spread: number): Float32Array {
  const random = Random.fromSeed(7);
  return Float32Array.from({ length: nVocab }, () => (random.nextUnit() - 0.5) * spread);
}

/** Probabilities in f64. */
export function softmax(logits: ArrayLike<number>): number[] {
  const list = Array.from(logits);
  const max = Math.max(...list);
  const weights = list.map((logit) => Math.exp(logit - max));
  const total = weights.reduce((a, b) => a + b);
  return weights.map((weight) => weight / total);
}

/** Pearson's statistic of the draws; its mean is the degrees of freedom, its variance twice that. */
export function expectDrawsFrom(probs: readonly number[], counts: readonly number[]): void {
  const nDraws = counts.reduce((a, b) => a + b);
  let statistic = 0;
  let freedom = -1;
  probs.forEach((prob, id) => {
    const expected = prob * nDraws;
    if (prob === 0) {
      if (counts[id] !== 0)
        throw new Error(`token ${id}, which has no probability, was drawn ${counts[id]} times`);
    } else if (expected >= 5) {
      statistic += (counts[id]! - expected) ** 2 / expected;
      freedom++;
    }
  });
  const limit = freedom + 4 * Math.sqrt(2 * freedom);
  if (freedom > 0 && !(statistic < limit)) {
    throw new Error(
      `chi-square of ${nDraws} draws is ${statistic}, limit ${limit}, ${freedom} degrees of freedom`,
    );
  }
}

/** How often each token is drawn in `DRAWS` draws from the same logits. */
export function countDraws(logits: Float32Array, sample: (logits: Float32Array) => number): number[] {
  const counts = new Array<number>(logits.length).fill(0);
  for (let i = 0; i < DRAWS; i++) counts[sample(logits)]!++;
  return counts;
}

/** A shortlist of the logits, as a step returns it, found by sorting. */
export function sortedShortlist(logits: Float32Array, { listed, nIds }: ShortlistWanted): Float32Array {
  const asked = new Set(listed);
  const others = Array.from({ length: nIds }, (_, id) => id).filter((id) => !asked.has(id));
  const orderOf = (id: number): number => (Number.isNaN(logits[id]!) ? Infinity : logits[id]!);
  const byLogit = (a: number, b: number): number =>
    orderOf(a) === orderOf(b) ? a - b : orderOf(b) - orderOf(a);
  const likeliest = [...others].sort(byLogit).slice(0, N_LIKELIEST);
  const max = logits[likeliest[0]!]!;
  return Float32Array.of(
    ...likeliest,
    ...likeliest.map((id) => logits[id]!),
    others.reduce((sum, id) => sum + Math.exp(logits[id]! - max), 0),
    ...Array.from(listed, (id) => logits[id]!),
  );
}
