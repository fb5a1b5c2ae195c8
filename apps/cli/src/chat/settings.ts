// The settings of answers, as data: each is an option of the command line and a command of the chat.

import { InvalidArgumentError, Option, type Command } from "commander";
import { createSampler, UsageError, type SayOptions } from "rwkv";
import { parseCount, parseNumber } from "../options.ts";

/** Options of `conversation.say` that are numbers or a text. */
type SettingKey =
  | "temperature"
  | "topP"
  | "topK"
  | "minP"
  | "typical"
  | "tailFree"
  | "presencePenalty"
  | "frequencyPenalty"
  | "penaltyDecay"
  | "repetitionPenalty"
  | "repetitionWindow"
  | "sampler"
  | "maxTokens";

/** One of them. */
export interface Setting {
  readonly key: SettingKey;
  /** As in `--top-p` and `/top-p`. */
  readonly name: string;
  /** Another name of the command. */
  readonly alias?: string;
  /** Of the option, if it has one. */
  readonly letter?: string;
  readonly parse: (text: string) => number | string;
  readonly about: string;
  /** What it is at first; where there is none, what that means stands in `about`. */
  readonly fallback?: number;
}

const asText = (text: string): string => text;

/** Defaults are those of the official chat program where they differ from those of `generate`. */
export const SETTINGS: readonly Setting[] = [
  {
    key: "temperature",
    name: "temperature",
    alias: "temp",
    letter: "t",
    parse: parseNumber,
    about: "0 takes the likeliest token",
    fallback: 1,
  },
  {
    key: "topP",
    name: "top-p",
    parse: parseNumber,
    about: "sample from the likeliest tokens of this total probability",
    fallback: 0.3,
  },
  { key: "topK", name: "top-k", parse: parseCount, about: "sample from the k likeliest tokens" },
  { key: "minP", name: "min-p", parse: parseNumber, about: "least share of the likeliest's probability" },
  { key: "typical", name: "typical", parse: parseNumber, about: "sample from the most typical tokens" },
  { key: "tailFree", name: "tail-free", parse: parseNumber, about: "cut the tail of unlikely tokens" },
  {
    key: "presencePenalty",
    name: "presence-penalty",
    parse: parseNumber,
    about: "taken from the logit of each token that the answer has",
  },
  {
    key: "frequencyPenalty",
    name: "frequency-penalty",
    parse: parseNumber,
    about: "taken for each time that the answer has it",
  },
  {
    key: "penaltyDecay",
    name: "penalty-decay",
    parse: parseNumber,
    about: "by which each time fades with every token",
  },
  {
    key: "repetitionPenalty",
    name: "repetition-penalty",
    parse: parseNumber,
    about: "divides the logits of recent tokens",
  },
  {
    key: "repetitionWindow",
    name: "repetition-window",
    parse: parseCount,
    about: "how many tokens are recent",
  },
  { key: "sampler", name: "sampler", parse: asText, about: "a whole chain, in place of all of the above" },
  {
    key: "maxTokens",
    name: "max-tokens",
    letter: "n",
    parse: parseCount,
    about: "most tokens of an answer, thoughts included",
    fallback: 1000,
  },
];

/** Values by key. */
export type Settings = Readonly<Pick<SayOptions, Exclude<SettingKey, "sampler">>> & {
  readonly sampler?: string | undefined;
};

export function addSettingFlags(command: Command): Command {
  for (const { name, letter, about, parse, fallback } of SETTINGS) {
    const flags = `${letter === undefined ? "" : `-${letter}, `}--${name} <value>`;
    const text = fallback === undefined ? about : `${about} (default: ${fallback})`;
    command.addOption(new Option(flags, text).argParser(parse));
  }
  return command;
}

/**
 * The settings that a command line asks for.
 * @param flags - of a command that `addSettingFlags` has seen
 * @throws UsageError if a value is out of range, or contradicts another
 */
export function settingsOf(flags: object): Settings {
  const given = flags as Settings;
  const values = SETTINGS.map((setting) => [setting.key, given[setting.key] ?? firstValue(setting, given)]);
  return checked(Object.fromEntries(values) as Settings);
}

/**
 * The settings with another value.
 * @param text - "default" stands for what it is at first
 * @throws UsageError if it is no value, out of range, or contradicts another
 */
export function withSetting(settings: Settings, setting: Setting, text: string): Settings {
  const { key, name, parse } = setting;
  if (key === "sampler") {
    // A chain and single settings exclude each other, so that one begins where the others end.
    const { maxTokens } = settings;
    return settingsOf(text === "default" ? { maxTokens } : { maxTokens, sampler: text });
  }
  const value = text === "default" ? firstValue(setting, settings) : parsed(name, text, parse);
  return checked({ ...settings, [key]: value });
}

/** A value behind a command. @throws UsageError if it is none */
export function parsed<Value>(command: string, text: string, parse: (text: string) => Value): Value {
  try {
    return parse(text);
  } catch (error) {
    if (!(error instanceof InvalidArgumentError)) throw error;
    throw new UsageError(`/${command} ${text}: ${error.message}`, { cause: error });
  }
}

/** Single settings have no values beside a whole chain. */
function firstValue({ key, fallback }: Setting, { sampler }: Settings): number | undefined {
  return sampler === undefined || key === "maxTokens" ? fallback : undefined;
}

function checked(settings: Settings): Settings {
  createSampler(settings);
  return settings;
}
