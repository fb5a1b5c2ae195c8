// Perplexity of a text, read in pieces with the state carried on, so that its length does not matter.

import { UsageError } from "../../core/errors.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import { logSumExp, peakOf } from "../log-probabilities.ts";
import type { Model } from "../model.ts";
import { originOf, startOf, type ScoreOptions } from "./cases.ts";

/** How well a model predicts a text. */
export interface TextScore {
  /** Tokens that were predicted: all, or all but the first where nothing stands before it. */
  readonly nTokens: number;
  /** Bytes that they stand for; null without a tokenizer. */
  readonly nBytes: number | null;
  /** Mean negative log-likelihood, natural logarithm. */
  readonly natsPerToken: number;
  /** The same for each byte, which compares models of different vocabularies; null without a tokenizer. */
  readonly natsPerByte: number | null;
  /** exp(natsPerToken) */
  readonly perplexity: number;
}

/** Most tokens read at once, and most logits kept at once. */
const MAX_ROWS = 256;
const MAX_LOGITS = 2 ** 22;

/**
 * Measures how well the model predicts a text.
 * @param prompt - a text, or ids
 * @throws UsageError for a text without a tokenizer, or one with nothing to predict
 * @throws the signal's reason if aborted
 */
export async function evaluateText(
  model: Model,
  prompt: string | readonly number[],
  options: ScoreOptions = {},
): Promise<TextScore> {
  const { signal, onProgress } = options;
  const { nVocab } = model.config;
  const text = typeof prompt === "string" ? tokenizerOf(model).encode(prompt) : prompt;
  const tokens = [...startOf(model, options), ...text];
  const nTokens = tokens.length - 1;
  if (nTokens < 1) {
    throw new UsageError(
      `The text has ${text.length} tokens; at least ${2 - tokens.length + text.length} are needed.`,
    );
  }
  const nRows = Math.max(1, Math.min(MAX_ROWS, Math.floor(MAX_LOGITS / nVocab)));
  await using session = await originOf(model, options);
  let nats = 0;
  for (let start = 0; start < nTokens; start += nRows) {
    const piece = tokens.slice(start, Math.min(start + nRows, nTokens));
    const logits = await session.forward(piece, { logits: "all", signal });
    for (let i = 0; i < piece.length; i++) {
      const row = logits.subarray(i * nVocab, (i + 1) * nVocab);
      nats += logSumExp(row, row[peakOf(row)]!) - row[tokens[start + i + 1]!]!;
    }
    onProgress?.({ done: start + piece.length, total: nTokens });
  }
  const { tokenizer } = model;
  const nBytes =
    tokenizer === null ? null : tokens.slice(1).reduce((sum, id) => sum + tokenizer.tokenBytes(id).length, 0);
  const natsPerToken = nats / nTokens;
  return {
    nTokens,
    nBytes,
    natsPerToken,
    natsPerByte: nBytes === null || nBytes === 0 ? null : nats / nBytes,
    perplexity: Math.exp(natsPerToken),
  };
}

/** @throws UsageError for a model without one */
export function tokenizerOf({ tokenizer, info }: Model): Tokenizer {
  if (tokenizer !== null) return tokenizer;
  throw new UsageError(
    `No tokenizer is inside or beside ${info.name}. Evaluations of text need one: give it with the option "tokenizer".`,
  );
}
