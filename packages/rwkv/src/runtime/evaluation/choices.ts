// Multiple choice: which of several continuations a model finds likeliest. The context is read once; its state is forked for
// each choice, and the choices are read together.

import { UsageError } from "../../core/errors.ts";
import type { Model } from "../model.ts";
import type { Session } from "../session.ts";
import { overCases, startOf, type ScoreOptions } from "./cases.ts";
import { readContext, scoreContinuations } from "./score.ts";
import { tokenizerOf } from "./text.ts";

/** A context and what may follow it. */
export interface ChoiceCase {
  readonly context: string;
  /** At least two, none empty. */
  readonly choices: readonly string[];
  /** Index of the right one; left out where the choices are only ranked. */
  readonly answer?: number | undefined;
}

/** What the model makes of a case; lists are in the order of its choices. */
export interface ChoiceScore {
  /** Of each choice after the context, natural logarithm, summed over its tokens. */
  readonly logProbabilities: readonly number[];
  /** The same divided by the bytes of the choice, so that long ones are not at a disadvantage. */
  readonly normalized: readonly number[];
  /** Indices of the choices, the likeliest first. */
  readonly ranking: readonly number[];
  /** The same by `normalized`. */
  readonly normalizedRanking: readonly number[];
}

/** How often a model finds the right choice likeliest. */
export interface ChoiceResult {
  readonly nCases: number;
  /** Cases that say which choice is right; the accuracies are shares of these. */
  readonly nAnswered: number;
  /** By the sum of log-probabilities; null if no case has an answer. */
  readonly accuracy: number | null;
  /** By the sum divided by the bytes of the choice. */
  readonly normalizedAccuracy: number | null;
  readonly cases: readonly ChoiceScore[];
}

export interface ChoiceOptions extends ScoreOptions {
  /** What stands between context and choice where neither has white space there. Default: a space. */
  readonly separator?: string | undefined;
}

/**
 * Ranks the choices of each case.
 * @throws UsageError for a model without a tokenizer, or a case that is no choice
 * @throws the signal's reason if aborted
 */
export async function evaluateChoices(
  model: Model,
  cases: readonly ChoiceCase[],
  options: ChoiceOptions = {},
): Promise<ChoiceResult> {
  cases.forEach(checkCase);
  const tokenizer = tokenizerOf(model);
  const { signal, separator = " " } = options;
  const start = startOf(model, options);
  const mostChoices = cases.reduce((most, { choices }) => Math.max(most, choices.length), 1);
  const scores = await overCases(model, cases, options, mostChoices, async (session, item, index) => {
    const context = [...start, ...tokenizer.encode(item.context)];
    const before = await readContext(session, context, `Case ${index + 1}`, signal);
    const texts = item.choices.map((choice) => joined(item.context, choice, separator));
    const logProbabilities = await scoreForks(
      session,
      before,
      texts.map((text) => tokenizer.encode(text)),
      signal,
    );
    return scoreOf(logProbabilities, item.choices);
  });
  const answered = cases.flatMap(({ answer }, i) =>
    answer === undefined ? [] : [{ answer, score: scores[i]! }],
  );
  const share = (isRight: (item: (typeof answered)[number]) => boolean): number | null =>
    answered.length === 0 ? null : answered.filter(isRight).length / answered.length;
  return {
    nCases: cases.length,
    nAnswered: answered.length,
    accuracy: share(({ answer, score }) => score.ranking[0] === answer),
    normalizedAccuracy: share(({ answer, score }) => score.normalizedRanking[0] === answer),
    cases: scores,
  };
}

function checkCase({ choices, answer }: ChoiceCase, index: number): void {
  const where = `Case ${index + 1}`;
  if (choices.length < 2)
    throw new UsageError(`${where} has ${choices.length} choices; at least two are needed.`);
  if (choices.includes("")) throw new UsageError(`${where} has an empty choice, which has no probability.`);
  if (answer === undefined || (Number.isInteger(answer) && answer >= 0 && answer < choices.length)) return;
  throw new UsageError(
    `${where} has the answer ${answer}; expected an index from 0 to ${choices.length - 1}.`,
  );
}

/** What is read after the context. */
function joined(context: string, choice: string, separator: string): string {
  return context === "" || /\s$/u.test(context) || /^\s/u.test(choice) ? choice : separator + choice;
}

function scoreForks(
  session: Session,
  before: Float32Array,
  continuations: readonly (readonly number[])[],
  signal: AbortSignal | undefined,
): Promise<number[]> {
  return scoreContinuations(before, continuations, async () => {
    const fork = await session.fork();
    return {
      readAll: (tokens) => fork.forward(tokens, { logits: "all", signal }),
      release: () => fork.dispose(),
    };
  });
}

function scoreOf(logProbabilities: readonly number[], choices: readonly string[]): ChoiceScore {
  const encoder = new TextEncoder();
  const normalized = logProbabilities.map((sum, i) => sum / encoder.encode(choices[i]).length);
  return {
    logProbabilities,
    normalized,
    ranking: rankingOf(logProbabilities),
    normalizedRanking: rankingOf(normalized),
  };
}

/** Indices by falling value, equal ones in their order. */
function rankingOf(values: readonly number[]): number[] {
  return [...values.keys()].sort((a, b) => values[b]! - values[a]!);
}
