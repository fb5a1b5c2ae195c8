// The flags of sampling, which every subcommand that writes text has.

import type { Command } from "commander";
import type { SamplingOptions } from "rwkv";
import { parseBias, parseCount, parseIds, parseNumber } from "./options.ts";

export interface SamplingFlags {
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly minP?: number;
  readonly typical?: number;
  readonly tailFree?: number;
  readonly presencePenalty?: number;
  readonly frequencyPenalty?: number;
  readonly penaltyDecay?: number;
  readonly repetitionPenalty?: number;
  readonly repetitionWindow?: number;
  readonly logitBias?: ReadonlyMap<number, number>;
  readonly ban?: readonly number[];
  readonly force?: readonly number[];
  readonly sampler?: string;
  readonly seed?: number;
}

export function addSamplingFlags(command: Command): Command {
  return command
    .option("-t, --temperature <t>", "0 takes the likeliest token (default: 1)", parseNumber)
    .option(
      "--top-p <p>",
      "sample from the likeliest tokens of this total probability (default: 0.85)",
      parseNumber,
    )
    .option("--top-k <k>", "sample from the k likeliest tokens (default: off)", parseCount)
    .option("--min-p <p>", "sample from tokens at least p times as likely as the likeliest", parseNumber)
    .option("--typical <p>", "sample from the tokens of most typical information, p in all", parseNumber)
    .option("--tail-free <z>", "cut the tail where the curve of probabilities stops bending", parseNumber)
    .option("--presence-penalty <x>", "taken from the logit of each token of the answer", parseNumber)
    .option("--frequency-penalty <x>", "taken for each time that the answer has the token", parseNumber)
    .option("--penalty-decay <d>", "by which each time fades with every token (default: 0.996)", parseNumber)
    .option("--repetition-penalty <x>", "divides the logits of recent tokens (default: 1)", parseNumber)
    .option("--repetition-window <n>", "how many tokens are recent (default: 64)", parseCount)
    .option("--logit-bias <id=x,...>", "add to the logits of these tokens", parseBias)
    .option("--ban <ids>", "never draw these ids, joined by commas", parseIds)
    .option("--force <ids>", "begin the answer with these ids, joined by commas", parseIds)
    .option(
      "--sampler <chain>",
      'a whole chain, such as "penalties(0.4, 0.4) | typical(0.9) | temperature(0.8)"',
    )
    .option("-s, --seed <n>", "the same seed gives the same text (default: random)", parseCount);
}

export function samplingOf(flags: SamplingFlags): SamplingOptions {
  const { temperature, topP, topK, minP, typical, tailFree, sampler, seed } = flags;
  const { presencePenalty, frequencyPenalty, penaltyDecay, repetitionPenalty, repetitionWindow } = flags;
  return {
    temperature,
    topP,
    topK,
    minP,
    typical,
    tailFree,
    presencePenalty,
    frequencyPenalty,
    penaltyDecay,
    repetitionPenalty,
    repetitionWindow,
    logitBias: flags.logitBias,
    banTokens: flags.ban,
    forceTokens: flags.force,
    sampler,
    seed,
  };
}
