// Runs the suites on a model: many sessions at once, so that the answers of a suite share the steps of the model.

import type { Model, Session } from "rwkv";
import { casesOf, isRight, STOP, type EvalCase, type Suite } from "./suites.ts";

/** A wrong answer, to be looked at. */
export interface Miss {
  readonly prompt: string;
  readonly answer: string;
  /** Null where a judge decides. */
  readonly expected: string | null;
}

export interface SuiteResult {
  readonly name: string;
  readonly nCases: number;
  readonly nRight: number;
  readonly floor: number | null;
  readonly isHeldOut: boolean;
  readonly temperature: number;
  /** The first few. */
  readonly misses: readonly Miss[];
}

export interface EvaluateOptions {
  /** Of the cases; training uses none of them, whatever the seed. */
  readonly seed: number;
  readonly signal?: AbortSignal | undefined;
  readonly onSuite?: ((result: SuiteResult) => void) | undefined;
}

/** Answers generated in one step. */
const N_SESSIONS = 32;
const MAX_MISSES = 5;

/**
 * Measures the suites one after another.
 * @throws the signal's reason if aborted
 */
export async function evaluate(
  model: Model,
  suites: readonly Suite[],
  { seed, signal, onSuite }: EvaluateOptions,
): Promise<SuiteResult[]> {
  const sessions = await Promise.all(Array.from({ length: N_SESSIONS }, () => model.createSession()));
  try {
    const results: SuiteResult[] = [];
    for (const suite of suites) {
      const result = await runSuite(sessions, suite, seed, signal);
      results.push(result);
      onSuite?.(result);
    }
    return results;
  } finally {
    for (const session of sessions) session.dispose();
  }
}

/** Whether every promised share was reached. */
export function meetsFloor({ nRight, nCases, floor }: SuiteResult): boolean {
  return floor === null || nRight >= floor * nCases;
}

async function runSuite(
  sessions: readonly Session[],
  suite: Suite,
  seed: number,
  signal: AbortSignal | undefined,
): Promise<SuiteResult> {
  const cases = casesOf(suite, seed);
  const answers = new Array<string>(cases.length);
  let next = 0;
  // Each session takes the next case when it is free; answers are kept in the order of the cases.
  const work = async (session: Session): Promise<void> => {
    for (let i = next++; i < cases.length; i = next++) {
      signal?.throwIfAborted();
      answers[i] = await answerOf(session, suite, cases[i]!, i, signal);
    }
  };
  await Promise.all(sessions.map(work));
  signal?.throwIfAborted();
  const misses: Miss[] = [];
  let nRight = 0;
  cases.forEach((evalCase, i) => {
    if (isRight(evalCase, answers[i]!)) nRight++;
    else if (misses.length < MAX_MISSES) misses.push(missOf(evalCase, answers[i]!));
  });
  const { name, nCases, floor, isHeldOut, temperature } = suite;
  return { name, nCases, nRight, floor, isHeldOut, temperature, misses };
}

/** What the model writes after the prompt, from an empty state; sampling is repeatable, case by case. */
async function answerOf(
  session: Session,
  { temperature, maxTokens }: Suite,
  { prompt }: EvalCase,
  seed: number,
  signal: AbortSignal | undefined,
): Promise<string> {
  await session.reset();
  const options = { temperature, topP: 1, maxTokens, seed, stop: [STOP], signal };
  return (await session.generate(prompt, options)).text;
}

function missOf({ prompt, expected }: EvalCase, answer: string): Miss {
  return { prompt, answer: answer.trim(), expected: typeof expected === "string" ? expected : null };
}
