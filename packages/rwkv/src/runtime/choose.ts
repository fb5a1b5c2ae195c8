// Which of several texts a model would go on with: each is read in a fork of the sequence, all of them together. Calibrated scores
// leave out how likely a text is anywhere (arXiv:2104.08315): its log-probability after a neutral context is taken off.

import { UsageError } from "../core/errors.ts";
import type { Engine } from "./engine.ts";
import { scoreContinuations } from "./evaluation/score.ts";
import { Sequence } from "./sequence.ts";

/** A text, or its ids. */
export type Choice = string | readonly number[];

/** How choices are ranked. */
export interface ChooseOptions {
  /**
   * What stands in place of all that the session has read, for the probability that is taken off; true for the tokenizer's end
   * of text, as if the choice began a text. Default: nothing is taken off.
   */
  readonly calibration?: Choice | boolean | undefined;
  readonly signal?: AbortSignal | undefined;
}

/** A choice at its place in the ranking. */
export interface RankedChoice {
  /** Its place in the list that was given. */
  readonly index: number;
  /** After what the session has read: natural logarithm, summed over its tokens. */
  readonly logProbability: number;
  /** By which it is ranked: `logProbability`, less that after the neutral context where calibrated. */
  readonly score: number;
  /** Its share if one of the choices must be: the softmax of the scores. */
  readonly share: number;
}

/** @throws UsageError for what is no choice, or nothing read before it; the signal's reason if aborted */
export async function rankChoices(
  sequence: Sequence,
  choices: readonly Choice[],
  { calibration = false, signal }: ChooseOptions,
): Promise<RankedChoice[]> {
  const { engine } = sequence;
  const continuations = choices.map((choice) => idsOf(engine, choice));
  if (continuations.length === 0) throw new UsageError("There are no choices; give at least one.");
  const empty = continuations.findIndex((tokens) => tokens.length === 0);
  if (empty >= 0) throw new UsageError(`Choice ${empty} is empty, which has no probability.`);
  sequence.requireContinuable();
  const own = await scoreForks(sequence, continuations, signal);
  const neutral =
    calibration === false
      ? null
      : await scoreAfter(
          engine,
          idsOf(engine, calibration === true ? endOfText(engine) : calibration),
          continuations,
          signal,
        );
  const scores = own.map((logProbability, i) => logProbability - (neutral?.[i] ?? 0));
  const highest = Math.max(...scores);
  const total = scores.reduce((sum, score) => sum + Math.exp(score - highest), 0);
  return scores
    .map((score, index) => ({
      index,
      logProbability: own[index]!,
      score,
      share: Math.exp(score - highest) / total,
    }))
    .sort((a, b) => b.score - a.score);
}

function idsOf(engine: Engine, choice: Choice): readonly number[] {
  return engine.prepare(choice).tokens!;
}

/** @throws UsageError where the tokenizer has none */
function endOfText(engine: Engine): readonly number[] {
  const id = engine.tokenizer?.endOfText ?? null;
  if (id !== null) return [id];
  throw new UsageError(
    `${engine.name} has no token that ends a text: give a neutral text as the calibration, such as "Answer:".`,
  );
}

/** Log-probabilities after a context that is read from the model's first state. */
async function scoreAfter(
  engine: Engine,
  context: readonly number[],
  continuations: readonly (readonly number[])[],
  signal: AbortSignal | undefined,
): Promise<number[]> {
  if (context.length === 0) {
    throw new UsageError('The calibration is empty: give a neutral text, such as "Answer:", or true.');
  }
  const sequence = await Sequence.create(engine, engine.initialState);
  try {
    await sequence.read(context, { signal });
    return await scoreForks(sequence, continuations, signal);
  } finally {
    sequence.release();
  }
}

async function scoreForks(
  sequence: Sequence,
  continuations: readonly (readonly number[])[],
  signal: AbortSignal | undefined,
): Promise<number[]> {
  return scoreContinuations((await sequence.settle())!, continuations, () => {
    const fork = sequence.fork();
    return {
      readAll: (tokens) => fork.forward(tokens, "all", { signal }),
      release: () => fork.release(),
    };
  });
}
