// Questions with one right answer: greedy decoding until a stop, compared character by character.

import { UsageError } from "../../core/errors.ts";
import type { Model } from "../model.ts";
import { overCases, type EvaluationOptions } from "./cases.ts";
import { tokenizerOf } from "./text.ts";

/** A prompt and the one right answer to it. */
export interface ExactCase {
  readonly prompt: string;
  /** Compared without white space at its ends. */
  readonly answer: string;
}

/** What the model wrote. */
export interface ExactAnswer {
  /** Without white space at its ends. */
  readonly text: string;
  readonly isCorrect: boolean;
}

/** How often a model answers exactly right. */
export interface ExactResult {
  readonly nCases: number;
  readonly accuracy: number;
  /** In the order of the cases. */
  readonly cases: readonly ExactAnswer[];
}

export interface ExactOptions extends EvaluationOptions {
  /** Strings that end an answer, beside the end of text. Default: an empty line. */
  readonly stop?: readonly string[] | undefined;
  /** Most tokens of an answer. Default 128. */
  readonly maxTokens?: number | undefined;
}

const DEFAULT_STOP = ["\n\n"];
const DEFAULT_MAX_TOKENS = 128;

/**
 * Lets the model answer each prompt as `session.generate` does, taking the likeliest token at each step.
 * @throws UsageError for a model without a tokenizer, no case, or an empty prompt
 * @throws the signal's reason if aborted
 */
export async function evaluateExact(
  model: Model,
  cases: readonly ExactCase[],
  options: ExactOptions = {},
): Promise<ExactResult> {
  if (cases.length === 0) throw new UsageError("There are no cases to evaluate.");
  tokenizerOf(model);
  const { signal, stop = DEFAULT_STOP, maxTokens = DEFAULT_MAX_TOKENS } = options;
  const answers = await overCases(model, cases, options, 1, async (session, { prompt, answer }) => {
    const result = await session.generate(prompt, { temperature: 0, stop, maxTokens, signal });
    signal?.throwIfAborted();
    const text = result.text.trim();
    return { text, isCorrect: text === answer.trim() };
  });
  return {
    nCases: cases.length,
    accuracy: answers.filter(({ isCorrect }) => isCorrect).length / cases.length,
    cases: answers,
  };
}
