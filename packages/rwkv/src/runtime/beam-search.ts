// Beam search: the likeliest continuations of a sequence, found by going on with the best few of each length. A beam is a fork of
// the sequence; all beams are read in one step.

import { UsageError } from "../core/errors.ts";
import type { Prompt } from "./engine.ts";
import { PhaseTimer, type TokenProgress } from "./progress.ts";
import type { Sequence } from "./sequence.ts";
import { LogprobReader } from "./token-logprobs.ts";

/** Width, limits and ends of a beam search. */
export interface BeamSearchOptions {
  /** Continuations that are followed at the same time, and most that come back. 1 is greedy decoding. Default 4. */
  readonly beams?: number | undefined;
  /** Most tokens of a continuation. Default 256. */
  readonly maxTokens?: number | undefined;
  /** Ids that end a continuation and are not part of it, though their probability is. Default: the tokenizer's end of text. */
  readonly stopTokens?: readonly number[] | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called for each step of the prompt and each token that the beams have grown by; an error in it ends the search. */
  readonly onProgress?: ((progress: TokenProgress) => void) | undefined;
}

/** One continuation. */
export interface Beam {
  /** Empty without a tokenizer. */
  readonly text: string;
  readonly tokens: readonly number[];
  /** Natural logarithm, summed over the tokens and the stop token that ended them. */
  readonly logProbability: number;
  /** `length`, it has maxTokens; `stop`, a stop token came. */
  readonly finishReason: "length" | "stop";
}

/** A continuation that can go on. */
interface Live {
  readonly sequence: Sequence;
  readonly tokens: readonly number[];
  readonly logProbability: number;
  /** Whether each token was the likeliest at its place. */
  readonly isGreedy: boolean;
}

/** A live continuation with one more token. */
interface Step {
  readonly parent: Live;
  readonly token: number;
  readonly logProbability: number;
  readonly isGreedy: boolean;
}

type Found = Omit<Beam, "text">;

const DEFAULT_BEAMS = 4;
const DEFAULT_MAX_TOKENS = 256;

/**
 * The likeliest continuations that the search finds, the likeliest first. The greedy one is never dropped for others, so that
 * the first is at least as likely as that; with as many beams as there are continuations of maxTokens - 1 tokens, it is
 * the likeliest of all.
 * @param sequence - reads the prompt, and is left after it
 * @throws UsageError for an option out of range, or nothing to continue
 * @throws the signal's reason if aborted
 */
export async function searchBeams(
  sequence: Sequence,
  prompt: Prompt | null,
  options: BeamSearchOptions,
): Promise<Beam[]> {
  const { beams: nBeams = DEFAULT_BEAMS, maxTokens = DEFAULT_MAX_TOKENS, signal, onProgress } = options;
  if (!Number.isSafeInteger(nBeams) || nBeams < 1)
    throw new UsageError(`beams is ${nBeams}; expected a whole number of at least 1.`);
  if (!Number.isSafeInteger(maxTokens) || maxTokens < 1)
    throw new UsageError(`maxTokens is ${maxTokens}; expected a whole number of at least 1.`);
  const { engine } = sequence;
  const stopTokens = new Set(options.stopTokens ?? engine.defaultStopTokens);
  if (prompt !== null && prompt.length > 0) await sequence.read(prompt, { signal, onProgress });
  sequence.requireContinuable();
  await sequence.settle();

  const reader = new LogprobReader();
  const timer = new PhaseTimer();
  const found: Found[] = [];
  let live: Live[] = [{ sequence: sequence.fork(), tokens: [], logProbability: 0, isGreedy: true }];
  try {
    for (let nTokens = 1; live.length > 0; nTokens++) {
      signal?.throwIfAborted();
      const rows = await settleAll(live);
      const steps = live.flatMap((parent, i) =>
        // The likeliest beyond those that may all be stop tokens cannot be among the best.
        stepsFrom(parent, reader.top(engine.usedLogits(rows[i]!), nBeams + stopTokens.size)),
      );
      steps.sort((a, b) => b.logProbability - a.logProbability);
      for (const step of steps) {
        if (!stopTokens.has(step.token)) continue;
        const { tokens } = step.parent;
        found.push({ tokens, logProbability: step.logProbability, finishReason: "stop" });
      }
      const chosen = choose(steps, stopTokens, nBeams, boundOf(found, nBeams));
      onProgress?.(timer.progress("decode", nTokens, maxTokens));
      if (nTokens < maxTokens) {
        live = growInto(live, chosen);
        continue;
      }
      for (const { parent, token, logProbability } of chosen) {
        found.push({ tokens: [...parent.tokens, token], logProbability, finishReason: "length" });
      }
      break;
    }
  } finally {
    for (const { sequence: fork } of live) fork.release();
  }
  return best(found, nBeams).map((beam) => ({ text: engine.tokenizer?.decode(beam.tokens) ?? "", ...beam }));
}

/** Logits of all, read in one step; throws once none is being read. */
async function settleAll(live: readonly Live[]): Promise<Float32Array[]> {
  const settled = await Promise.allSettled(live.map(({ sequence }) => sequence.settle()));
  return settled.map((result) => {
    if (result.status === "rejected") throw result.reason;
    return result.value!;
  });
}

/** @param top - the likeliest tokens, the likeliest first */
function stepsFrom(
  parent: Live,
  top: readonly { readonly token: number; readonly logprob: number }[],
): Step[] {
  return top.map(({ token, logprob }, rank) => ({
    parent,
    token,
    logProbability: parent.logProbability + logprob,
    isGreedy: parent.isGreedy && rank === 0,
  }));
}

/** The best that go on: no more than `nBeams`, the greedy one among them, all likelier than what could still come back. */
function choose(
  steps: readonly Step[],
  stopTokens: ReadonlySet<number>,
  nBeams: number,
  bound: number,
): Step[] {
  const open = steps.filter(({ token, logProbability }) => !stopTokens.has(token) && logProbability > bound);
  const chosen = open.slice(0, nBeams);
  const greedy = open.find(({ isGreedy }) => isGreedy);
  if (greedy !== undefined && !chosen.includes(greedy)) chosen[nBeams - 1] = greedy;
  return chosen;
}

/** What a continuation must be likelier than to come back: they only get less likely. */
function boundOf(found: readonly Found[], nBeams: number): number {
  return found.length < nBeams ? -Infinity : best(found, nBeams)[nBeams - 1]!.logProbability;
}

function best(found: readonly Found[], nBeams: number): Found[] {
  return found.toSorted((a, b) => b.logProbability - a.logProbability).slice(0, nBeams);
}

/** The chosen steps as live continuations. The first of a parent goes on with its sequence, others with forks of it. */
function growInto(live: Live[], chosen: readonly Step[]): Live[] {
  const next: Live[] = [];
  const taken = new Set<Live>();
  try {
    // Forks first: they copy what their parent is before it goes on.
    for (const step of chosen) {
      if (!taken.has(step.parent)) {
        taken.add(step.parent);
        continue;
      }
      next.push(grown(step, step.parent.sequence.fork()));
    }
  } catch (error) {
    for (const { sequence } of next) sequence.release();
    throw error;
  }
  const firsts = new Set(taken);
  for (const step of chosen) if (firsts.delete(step.parent)) next.push(grown(step, step.parent.sequence));
  for (const parent of live) if (!taken.has(parent)) parent.sequence.release();
  return next;
}

function grown({ parent, token, logProbability, isGreedy }: Step, sequence: Sequence): Live {
  sequence.accept(token);
  return { sequence, tokens: [...parent.tokens, token], logProbability, isGreedy };
}
