// What a step of a sampler is, and what it may use. A step is an immutable description: what it remembers from token to token
// is numbers that the chain holds for it, so that one step serves any number of chains, and saving a chain saves its steps.

import { UsageError } from "../core/errors.ts";
import type { Candidates } from "./candidates.ts";
import type { History, TokenValues } from "./history.ts";
import type { Random } from "./random.ts";
import type { Selector } from "./select.ts";
import type { Sorter } from "./sorter.ts";

/** What the steps of a chain share. */
export interface SamplerContext {
  readonly history: History;
  /** Advances with each number taken: a step must take as many for each token, whatever the logits are. */
  readonly random: Random;
  readonly selector: Selector;
  readonly sorter: Sorter;
  readonly values: TokenValues;
}

/**
 * What a step does to the choice, by which a chain finds steps that contradict each other: `truncation` removes unlikely
 * candidates, `mirostat` does so by what was drawn before, `greedy` leaves nothing to chance. Others have none.
 */
export type StepKind = "truncation" | "mirostat" | "greedy";

/** One step. It leaves at least one candidate, keeps them in order, and allocates nothing. */
export interface SamplerStep {
  /** As in the text of a chain. */
  readonly name: string;
  readonly kind?: StepKind | undefined;
  /** What `state` begins with, for a step that remembers something. */
  readonly initialState?: readonly number[] | undefined;
  /**
   * Does its part before a token is drawn.
   * @param state - the step's own numbers, saved with the chain; empty without `initialState`
   */
  apply(candidates: Candidates, context: SamplerContext, state: Float64Array): void;
  /** Called after the draw, with the place of the token drawn among the candidates that the last step left. */
  readonly drawn?: ((candidates: Candidates, index: number, state: Float64Array) => void) | undefined;
}

/**
 * A step as a function: it may change `logits`, or move what it keeps to the front of `ids` and `logits` in their order
 * and lower `count`. NaN, +Infinity and an empty list are refused after it.
 */
export type SamplerFunction = (candidates: Candidates, context: SamplerContext) => void;

/** The steps of a chain, in their order. */
export type SamplerSteps = readonly (SamplerStep | SamplerFunction)[];

/** The step that a function stands for. */
export function stepOf(step: SamplerStep | SamplerFunction): SamplerStep {
  if (typeof step !== "function") return step;
  const name = step.name === "" ? "(function)" : step.name;
  return {
    name,
    apply(candidates, context) {
      step(candidates, context);
      candidates.refresh(name);
    },
  };
}

/** @throws UsageError unless the value is a number from `least`, or above it, to below Infinity */
export function checkNumber(name: string, value: number, least: number, isLeastIncluded = true): void {
  if (value < Infinity && (isLeastIncluded ? value >= least : value > least)) return;
  throw new UsageError(
    `${name} is ${value}; expected a number ${isLeastIncluded ? "of at least" : "above"} ${least}.`,
  );
}

/** @throws UsageError unless the value is a whole number of at least `least` */
export function checkCount(name: string, value: number, least: number): void {
  if (Number.isSafeInteger(value) && value >= least) return;
  throw new UsageError(`${name} is ${value}; expected a whole number of at least ${least}.`);
}

/** @throws UsageError unless each is a token id */
export function checkTokens(name: string, tokens: readonly number[]): void {
  for (const token of tokens) {
    if (Number.isInteger(token) && token >= 0 && token < 2 ** 31) continue;
    throw new UsageError(`${name} has the token ${token}; expected ids of at least 0.`);
  }
}
