// What a model makes of a given continuation: its log-probability, and whether greedy decoding would write it.

import { UsageError } from "../../core/errors.ts";
import { logSumExp, peakOf } from "../log-probabilities.ts";
import type { Session } from "../session.ts";

/** Natural logarithms, summed over the tokens. */
export interface ContinuationScore {
  readonly logProbability: number;
  /** Whether each token is the likeliest at its place. */
  readonly isGreedy: boolean;
}

/**
 * Reads the context, at least one token.
 * @returns `[V]`, the logits by which the next token is predicted
 * @throws UsageError if nothing stands before the text to be scored
 */
export async function readContext(
  session: Session,
  tokens: readonly number[],
  where: string,
  signal: AbortSignal | undefined,
): Promise<Float32Array> {
  if (tokens.length > 0) return session.forward(tokens, { signal });
  throw new UsageError(
    `${where}: nothing stands before the text to be scored, so that its first token cannot be predicted. Give a context, or ` +
      `a start token.`,
  );
}

/**
 * @param before - `[V]`, logits by which the first token is predicted
 * @param tokens - at least one
 * @param readAll - reads tokens and returns the logits after each, `[T, V]`; called for all but the last, if there are more
 */
export async function scoreContinuation(
  before: Float32Array,
  tokens: readonly number[],
  readAll: (tokens: readonly number[]) => Promise<Float32Array>,
): Promise<ContinuationScore> {
  const nVocab = before.length;
  const rest = tokens.slice(0, -1);
  const rows = rest.length === 0 ? before : await readAll(rest);
  let logProbability = 0;
  let isGreedy = true;
  tokens.forEach((token, i) => {
    const row = i === 0 ? before : rows.subarray((i - 1) * nVocab, i * nVocab);
    const peak = peakOf(row);
    logProbability += row[token]! - logSumExp(row, row[peak]!);
    if (peak !== token) isGreedy = false;
  });
  return { logProbability, isGreedy };
}

/** A fork of what all continuations follow, for one of them. */
export interface ContinuationReader {
  /** As `readAll` of `scoreContinuation`. */
  readonly readAll: (tokens: readonly number[]) => Promise<Float32Array>;
  readonly release: () => void;
}

/**
 * Scores continuations of one context, all together.
 * @param before - `[V]`, logits after the context
 * @param fork - called once for each of them
 * @returns log-probabilities, in the order of the continuations
 * @throws what reading throws first, once none is being read any more
 */
export async function scoreContinuations(
  before: Float32Array,
  continuations: readonly (readonly number[])[],
  fork: () => ContinuationReader | Promise<ContinuationReader>,
): Promise<number[]> {
  const readers: ContinuationReader[] = [];
  try {
    while (readers.length < continuations.length) readers.push(await fork());
    const scores = await Promise.allSettled(
      continuations.map((tokens, i) => scoreContinuation(before, tokens, readers[i]!.readAll)),
    );
    return scores.map((score) => {
      if (score.status === "rejected") throw score.reason;
      return score.value.logProbability;
    });
  } finally {
    for (const { release } of readers) release();
  }
}
