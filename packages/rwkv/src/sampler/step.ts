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

/** What is known of the tokens that are missing of the candidates, all of which are unlikely. */
export interface Tail {
  /** None of them has a larger logit. */
  readonly maxLogit: number;
  /**
   * The least and the most that their weights can sum to.
   * @param maxLogit - the largest of the candidates, by which weights are measured
   */
  weight(maxLogit: number): { readonly least: number; readonly most: number };
}

/**
 * What a step has made of candidates of which a tail is missing: `all` that remain are there; the same tail is `missing`; or
 * `unknown`, since it may matter.
 */
export type ShortOutcome = "all" | "missing" | "unknown";

/** How a step does its part without the unlikely tokens. */
export interface ShortStep {
  /** Adds the ids that must be among the candidates, since the step may change their logits. */
  readonly addListed?: ((ids: Set<number>, history: History) => void) | undefined;
  /** As the step's own `apply`. Where the outcome is unknown, candidates may be left anyhow, but nothing else has changed. */
  apply(candidates: Candidates, context: SamplerContext, tail: Tail): ShortOutcome;
}

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
  /** Absent where it takes all tokens. Only for a step without a state. */
  readonly short?: ShortStep | undefined;
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

/** A step that changes no other logits than those of the ids that `addListed` adds. */
export function ofListed(
  step: SamplerStep,
  addListed: (ids: Set<number>, history: History) => void,
): SamplerStep {
  return {
    ...step,
    short: {
      addListed,
      apply(candidates, context) {
        step.apply(candidates, context, NO_STATE);
        return "missing";
      },
    },
  };
}

const NO_STATE = new Float64Array(0);

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
