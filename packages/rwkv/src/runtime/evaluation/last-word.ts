// The last word of a passage, as in LAMBADA: whether greedy decoding writes it, and how likely it is. Tokens are cut before
// the space that precedes the word, as in the official evaluation (BlinkDL/RWKV-LM, run_lm_eval.py).

import { UsageError } from "../../core/errors.ts";
import type { Model } from "../model.ts";
import { overCases, startOf, type ScoreOptions } from "./cases.ts";
import { readContext, scoreContinuation, type ContinuationScore } from "./score.ts";
import { tokenizerOf } from "./text.ts";

/** A passage whose last word is to be found. */
export interface LastWordCase {
  readonly text: string;
}

/** How well a model finds the last words. */
export interface LastWordResult {
  readonly nCases: number;
  /** Share of the words that greedy decoding writes in full. */
  readonly accuracy: number;
  /** exp of the mean negative log-likelihood of a word. */
  readonly perplexity: number;
  /** In the order of the cases. */
  readonly cases: readonly ContinuationScore[];
}

/**
 * @throws UsageError for a model without a tokenizer, no case, or a case of one word
 * @throws the signal's reason if aborted
 */
export async function evaluateLastWords(
  model: Model,
  cases: readonly LastWordCase[],
  options: ScoreOptions = {},
): Promise<LastWordResult> {
  if (cases.length === 0) throw new UsageError("There are no cases to evaluate.");
  const parts = cases.map(({ text }, i) => cut(text, i));
  const tokenizer = tokenizerOf(model);
  const start = startOf(model, options);
  const { signal } = options;
  const scores = await overCases(model, parts, options, 1, async (session, { context, word }, index) => {
    const tokens = [...start, ...tokenizer.encode(context)];
    const before = await readContext(session, tokens, `Case ${index + 1}`, signal);
    return scoreContinuation(before, tokenizer.encode(word), (rest) =>
      session.forward(rest, { logits: "all", signal }),
    );
  });
  const nats = scores.reduce((sum, { logProbability }) => sum - logProbability, 0);
  return {
    nCases: cases.length,
    accuracy: scores.filter(({ isGreedy }) => isGreedy).length / cases.length,
    perplexity: Math.exp(nats / cases.length),
    cases: scores,
  };
}

/** The passage without white space at its end, cut before the space in front of its last word. */
function cut(text: string, index: number): { readonly context: string; readonly word: string } {
  const trimmed = text.trimEnd();
  const at = trimmed.search(/\s\S+$/u);
  if (at > 0) return { context: trimmed.slice(0, at), word: trimmed.slice(at) };
  throw new UsageError(`Case ${index + 1} has fewer than two words, so that there is no last one to find.`);
}
