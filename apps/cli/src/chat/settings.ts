// The settings of answers, as data: each is an option of the command line and a command of the chat.

import { InvalidArgumentError, Option, type Command } from "commander";
import { createSampler, UsageError, type SayOptions } from "rwkv";
import { parseCount, parseNumber } from "../options.ts";

/** Options of `conversation.say` that are numbers. */
type SettingKey = {
  [Key in keyof SayOptions]-?: NonNullable<SayOptions[Key]> extends number ? Key : never;
}[keyof SayOptions];

/** One of them. */
export interface Setting {
  /** As in `--top-p` and `/top-p`. */
  readonly name: string;
  /** Another name of the command. */
  readonly alias?: string;
  readonly flags: string;
  readonly key: SettingKey;
  readonly parse: (text: string) => number;
  readonly about: string;
  readonly fallback: number;
}

/** Of the official chat program where they differ from those of `generate`. */
export const SETTINGS: readonly Setting[] = [
  {
    name: "temperature",
    alias: "temp",
    flags: "-t, --temperature <t>",
    key: "temperature",
    parse: parseNumber,
    about: "0 takes the likeliest token",
    fallback: 1,
  },
  {
    name: "top-p",
    flags: "--top-p <p>",
    key: "topP",
    parse: parseNumber,
    about: "sample from the likeliest tokens of this total probability",
    fallback: 0.3,
  },
  {
    name: "top-k",
    flags: "--top-k <k>",
    key: "topK",
    parse: parseCount,
    about: "sample from the k likeliest tokens; 0 from all",
    fallback: 0,
  },
  {
    name: "max-tokens",
    flags: "-n, --max-tokens <n>",
    key: "maxTokens",
    parse: parseCount,
    about: "most tokens of an answer, thoughts included",
    fallback: 1000,
  },
];

/** Values by key; what is absent has its default. */
export type Settings = Readonly<Partial<Record<SettingKey, number>>>;

export function addSettingFlags(command: Command): Command {
  for (const { flags, about, parse, fallback } of SETTINGS) {
    command.addOption(new Option(flags, about).argParser(parse).default(fallback));
  }
  return command;
}

/** The values among the flags of a command that `addSettingFlags` has seen. */
export function settingsOf(flags: object): Settings {
  const values = flags as Settings;
  return Object.fromEntries(SETTINGS.map(({ key }) => [key, values[key]]));
}

/**
 * The settings with another value.
 * @param text - "default" stands for the setting's default
 * @throws UsageError if it is no value, or out of range
 */
export function withSetting(settings: Settings, setting: Setting, text: string): Settings {
  const { name, key, parse, fallback } = setting;
  const changed = { ...settings, [key]: text === "default" ? fallback : parsed(name, text, parse) };
  createSampler(changed);
  return changed;
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
