// Many cases on one model: a few sessions take one case after the other, so that what they wait for shares steps. Hides where
// each case begins, and that one failure ends all.

import { UsageError } from "../../core/errors.ts";
import type { Model } from "../model.ts";
import type { Session } from "../session.ts";
import type { FileSource } from "../source.ts";

/** What all evaluations have in common. */
export interface EvaluationOptions {
  /** A saved session or a tuned state that every case begins with. Default: the empty state. */
  readonly state?: FileSource | undefined;
  /** Sequences that are read at the same time; results do not depend on it. Default 16. */
  readonly batch?: number | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called as cases, or tokens of a text, are done; an error in it ends the evaluation. */
  readonly onProgress?: ((progress: EvaluationProgress) => void) | undefined;
}

/** How far an evaluation has come. */
export interface EvaluationProgress {
  readonly done: number;
  readonly total: number;
}

/** Options of evaluations that measure probabilities. */
export interface ScoreOptions extends EvaluationOptions {
  /**
   * The id read before each case, by which its first token is predicted; null for none. Default: the tokenizer's end of
   * text, which stands between texts in training; none with a `state`.
   */
  readonly startToken?: number | null | undefined;
}

const DEFAULT_BATCH = 16;

/** The ids to begin a case with: one, or none. */
export function startOf(model: Model, { state, startToken }: ScoreOptions): readonly number[] {
  const fallback = state === undefined ? (model.tokenizer?.endOfText ?? null) : null;
  const start = startToken === undefined ? fallback : startToken;
  return start === null ? [] : [start];
}

/** A session at the place where every case begins; the caller disposes of it. */
export function originOf(model: Model, { state, signal }: EvaluationOptions): Promise<Session> {
  return state === undefined ? model.createSession() : model.restore(state, { signal });
}

/**
 * Runs `work` on each case with a session of its own.
 * @param sequencesPerCase - sequences that one case reads at the same time
 * @returns in the order of the cases
 * @throws what `work` throws first, once no other case is running; the signal's reason if aborted
 */
export async function overCases<Case, Result>(
  model: Model,
  cases: readonly Case[],
  options: EvaluationOptions,
  sequencesPerCase: number,
  work: (session: Session, item: Case, index: number) => Promise<Result>,
): Promise<Result[]> {
  const { batch = DEFAULT_BATCH, signal, onProgress } = options;
  if (!Number.isSafeInteger(batch) || batch < 1) {
    throw new UsageError(`batch is ${batch}; expected a whole number of at least 1.`);
  }
  const nWorkers = Math.min(cases.length, Math.max(1, Math.floor(batch / sequencesPerCase)));
  const results = new Array<Result>(cases.length);
  const origins: Session[] = [];
  let next = 0;
  let done = 0;
  let failure: { readonly error: unknown } | null = null;
  const takeCases = async (origin: Session): Promise<void> => {
    while (next < cases.length && failure === null) {
      const index = next++;
      try {
        signal?.throwIfAborted();
        const session = await origin.fork();
        try {
          results[index] = await work(session, cases[index]!, index);
        } finally {
          session.dispose();
        }
        onProgress?.({ done: ++done, total: cases.length });
      } catch (error) {
        failure ??= { error };
      }
    }
  };
  try {
    for (let i = 0; i < nWorkers; i++) {
      origins.push(i === 0 ? await originOf(model, options) : await origins[0]!.fork());
    }
    await Promise.all(origins.map(takeCases));
  } finally {
    for (const origin of origins) origin.dispose();
  }
  throwIfFailed(failure);
  return results;
}

/** A function of its own, because the compiler believes that the variable is still null where it was set by others. */
function throwIfFailed(failure: { readonly error: unknown } | null): void {
  if (failure !== null) throw failure.error;
}
