// Samplers by plain options. The order of the steps: wishes for single tokens, penalties, truncation, and only then the
// temperature, as in the official rwkv package (BlinkDL/ChatRWKV, rwkv_pip_package, utils.py): it changes the odds among
// the tokens kept, but not which ones they are.

import { UsageError } from "../core/errors.ts";
import { ban, bias, force, type LogitBias } from "./bias.ts";
import { createChain, type Sampler } from "./chain.ts";
import { mirostat, mirostat1 } from "./mirostat.ts";
import { parseChain } from "./parse.ts";
import { penalties, repetition } from "./penalties.ts";
import { dry, sequenceRepetition, type DryOptions, type SequenceRepetitionOptions } from "./repeats.ts";
import type { SamplerStep, SamplerSteps } from "./step.ts";
import { greedy, minP, temperature, topK, topP, xtc } from "./steps.ts";
import { tailFree } from "./tail-free.ts";
import { typical } from "./typical.ts";

/** How the next token is drawn. The defaults are those of the official rwkv package. */
export interface SamplingOptions {
  /** At least 0. Below 1 favours likely tokens, above 1 evens out; 0 always takes the likeliest. Default 1. */
  readonly temperature?: number | undefined;
  /** Only the k likeliest tokens are drawn; 0 means all. Default 0. */
  readonly topK?: number | undefined;
  /**
   * Only the likeliest tokens that together have this probability are drawn; 1 or more means all. Default 0.85, or 1 with
   * `minP`, `typical`, `tailFree` or `mirostat`.
   */
  readonly topP?: number | undefined;
  /** Only tokens at least this many times as likely as the likeliest are drawn, 0 to 1; 0 means all. Default 0. */
  readonly minP?: number | undefined;
  /** Locally typical sampling: the probability that is kept; 1 or more means all. Default 1. */
  readonly typical?: number | undefined;
  /** Tail-free sampling: the share of the curve's bends that is kept; 1 or more means all. Default 1. */
  readonly tailFree?: number | undefined;
  /** In place of all truncation: information per token is kept near `tau` bits. Default none. */
  readonly mirostat?: MirostatOptions | undefined;
  /** Excludes top choices. Default none. */
  readonly xtc?: XtcOptions | undefined;
  /** Divides logits of the tokens among the last 64; above 1 disfavours repetition. Default 1. */
  readonly repetitionPenalty?: number | undefined;
  /** Tokens that `repetitionPenalty` looks at, 1 to 1,024. Default 64. */
  readonly repetitionWindow?: number | undefined;
  /** Taken from the logit of each token that the answer has. Default 0. */
  readonly presencePenalty?: number | undefined;
  /** Taken for each time that the answer has the token. Default 0. */
  readonly frequencyPenalty?: number | undefined;
  /** By which each time loses weight with every token after it. Default 0.996. */
  readonly penaltyDecay?: number | undefined;
  /** Penalises going on with sequences that came before, in any form like them. Default none. */
  readonly sequenceRepetition?: SequenceRepetitionOptions | undefined;
  /** Penalises going on with sequences that came before, the more so the longer they are. Default none. */
  readonly dry?: DryOptions | undefined;
  /** What is added to the logits of some tokens. Default none. */
  readonly logitBias?: LogitBias | undefined;
  /** Tokens that are never drawn. Default none. */
  readonly banTokens?: readonly number[] | undefined;
  /** Tokens that the answer begins with. Default none. */
  readonly forceTokens?: readonly number[] | undefined;
  /** A whole chain, as steps and functions or as text, in place of all options above. */
  readonly sampler?: string | SamplerSteps | undefined;
  /** A whole number from 0 to 2^53 - 1 that makes the draws repeatable. Default: a random one, see `Sampler.seed`. */
  readonly seed?: number | undefined;
}

/** Mirostat. */
export interface MirostatOptions {
  /** Bits that tokens shall carry on average, above 0. Default 5. */
  readonly tau?: number | undefined;
  /** How fast the limit follows, above 0. Default 0.1. */
  readonly eta?: number | undefined;
  /** Default 2. */
  readonly version?: 1 | 2 | undefined;
}

/** Exclusion of top choices. */
export interface XtcOptions {
  /** Tokens at least this likely are top choices, 0 to 1. Default 0.1. */
  readonly threshold?: number | undefined;
  /** How often they are excluded, 0 to 1. Default 0.5. */
  readonly probability?: number | undefined;
}

/** @throws UsageError if an option is out of range, naming it, or contradicts another */
export function createSampler(options: SamplingOptions = {}): Sampler {
  return createChain(stepsOf(options), options.seed);
}

/** Options that the text or list of a chain takes the place of. */
const SHAPING = [
  "temperature",
  "topK",
  "topP",
  "minP",
  "typical",
  "tailFree",
  "mirostat",
  "xtc",
  "repetitionPenalty",
  "repetitionWindow",
  "presencePenalty",
  "frequencyPenalty",
  "penaltyDecay",
  "sequenceRepetition",
  "dry",
  "logitBias",
  "banTokens",
  "forceTokens",
] as const satisfies readonly (keyof SamplingOptions)[];

function stepsOf(options: SamplingOptions): SamplerSteps {
  const { sampler } = options;
  if (sampler === undefined) return [...wishes(options), ...choice(options)];
  const other = SHAPING.find((name) => options[name] !== undefined);
  if (other !== undefined) {
    throw new UsageError(
      `sampler is a whole chain, so that ${other} has no place: make it a step of the chain.`,
    );
  }
  return typeof sampler === "string" ? parseChain(sampler) : sampler;
}

/** Steps that change logits; those that would change nothing are left out. */
function wishes(options: SamplingOptions): SamplerStep[] {
  const {
    logitBias,
    banTokens = [],
    forceTokens = [],
    sequenceRepetition: sequence,
    dry: dryOptions,
  } = options;
  const { repetitionPenalty = 1, repetitionWindow, penaltyDecay } = options;
  const { presencePenalty = 0, frequencyPenalty = 0 } = options;
  if (repetitionWindow !== undefined && repetitionPenalty === 1)
    throw new UsageError("repetitionWindow belongs to repetitionPenalty: give that too.");
  if (penaltyDecay !== undefined && presencePenalty === 0 && frequencyPenalty === 0)
    throw new UsageError(
      "penaltyDecay belongs to presencePenalty and frequencyPenalty: give one of them too.",
    );
  const steps: SamplerStep[] = [];
  if (logitBias !== undefined) steps.push(bias(logitBias));
  if (banTokens.length > 0) steps.push(ban(banTokens));
  if (forceTokens.length > 0) steps.push(force(forceTokens));
  if (repetitionPenalty !== 1) steps.push(repetition(repetitionPenalty, repetitionWindow));
  if (presencePenalty !== 0 || frequencyPenalty !== 0) {
    const { presencePenalty: presence, frequencyPenalty: frequency } = options;
    steps.push(penalties({ presence, frequency, decay: penaltyDecay }));
  }
  if (sequence !== undefined) steps.push(sequenceRepetition(sequence));
  if (dryOptions !== undefined) steps.push(dry(dryOptions));
  return steps;
}

/** Steps that choose among the tokens; those that would change nothing are left out. */
function choice(options: SamplingOptions): SamplerStep[] {
  const {
    temperature: t = 1,
    topK: k = 0,
    minP: least = 0,
    typical: mass = 1,
    tailFree: share = 1,
  } = options;
  const { mirostat: miro, xtc: exclusion } = options;
  const hasOther = least > 0 || mass < 1 || share < 1 || miro !== undefined;
  const p = options.topP ?? (hasOther ? 1 : 0.85);
  if (!(t >= 0 && t < Infinity))
    throw new UsageError(`temperature is ${t}; expected a number of at least 0.`);
  if (!(Number.isSafeInteger(k) && k >= 0)) {
    throw new UsageError(`topK is ${k}; expected a whole number of at least 0 (0 switches it off).`);
  }
  if (!(p >= 0 && p < Infinity)) {
    throw new UsageError(`topP is ${p}; expected a number of at least 0 (1 or more switches it off).`);
  }
  // Even where temperature 0 leaves them out, they must be right.
  const truncation: SamplerStep[] = [];
  if (share !== 1) truncation.push(tailFree(share));
  if (mass !== 1) truncation.push(typical(mass));
  if (p < 1) truncation.push(topP(p));
  if (k > 0) truncation.push(topK(k));
  if (least !== 0) truncation.push(minP(least));
  if (exclusion !== undefined) truncation.push(xtc(exclusion.threshold, exclusion.probability));
  if (t === 0) {
    // The others never remove the likeliest token, and change nothing.
    const contrary = (["typical", "mirostat", "xtc"] as const).find((name) => options[name] !== undefined);
    if (contrary === undefined) return [greedy()];
    throw new UsageError(
      `temperature 0 always takes the likeliest token, which ${contrary} is there to avoid: leave one of them out.`,
    );
  }
  const heat = t === 1 ? [] : [temperature(t)];
  if (miro === undefined) return [...truncation, ...heat];
  const version = miro.version ?? 2;
  // From JavaScript any number may come.
  if (![1, 2].includes(version)) throw new UsageError(`mirostat has the versions 1 and 2; found ${version}.`);
  const step = version === 1 ? mirostat1 : mirostat;
  return [...truncation, ...heat, step(miro.tau, miro.eta)];
}
