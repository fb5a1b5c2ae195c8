// A chain as text, for command lines and files: steps joined by "|", each a name with arguments in parentheses.
//
//   chain     = step { "|" step }
//   step      = name [ "(" [ argument { "," argument } ] ")" ]
//   argument  = [ name "=" ] value        in the order of the step's parameters, or by name
//   value     = number | "[" [ number { "," number } ] "]"

import { UsageError } from "../core/errors.ts";
import { ban, bias, force } from "./bias.ts";
import { mirostat, mirostat1 } from "./mirostat.ts";
import type { MirostatOptions, XtcOptions } from "./options.ts";
import { penalties, repetition, type PenaltyOptions } from "./penalties.ts";
import { dry, sequenceRepetition, type DryOptions, type SequenceRepetitionOptions } from "./repeats.ts";
import type { SamplerStep } from "./step.ts";
import { greedy, minP, temperature, topK, topP, xtc } from "./steps.ts";
import { tailFree } from "./tail-free.ts";
import { typical } from "./typical.ts";

type Value = number | readonly number[];

interface Argument {
  readonly name: string | null;
  readonly value: Value;
}

/** Arguments by name, checked; those that may be left out can be undefined. */
type Values = Readonly<Record<"t" | "k" | "p" | "z" | "penalty", number>> &
  Pick<MirostatOptions, "tau" | "eta"> &
  XtcOptions &
  PenaltyOptions &
  SequenceRepetitionOptions &
  DryOptions & { readonly tokens: readonly number[] };

interface Entry {
  /** Names in their order. "?" marks what may be left out, [] a list. */
  readonly parameters: string;
  readonly make: (values: Values) => SamplerStep;
}

const STEPS: Readonly<Record<string, Entry>> = {
  greedy: { parameters: "", make: () => greedy() },
  temperature: { parameters: "t", make: ({ t }) => temperature(t) },
  "top-k": { parameters: "k", make: ({ k }) => topK(k) },
  "top-p": { parameters: "p", make: ({ p }) => topP(p) },
  "min-p": { parameters: "p", make: ({ p }) => minP(p) },
  typical: { parameters: "p", make: ({ p }) => typical(p) },
  "tail-free": { parameters: "z", make: ({ z }) => tailFree(z) },
  mirostat: { parameters: "tau? eta?", make: ({ tau, eta }) => mirostat(tau, eta) },
  "mirostat-1": { parameters: "tau? eta?", make: ({ tau, eta }) => mirostat1(tau, eta) },
  xtc: {
    parameters: "threshold? probability?",
    make: ({ threshold, probability }) => xtc(threshold, probability),
  },
  repetition: { parameters: "penalty window?", make: ({ penalty, window }) => repetition(penalty, window) },
  penalties: { parameters: "presence? frequency? decay?", make: penalties },
  "sequence-repetition": {
    parameters: "flat? stacking? minLength? tolerance? maxMerge? window?",
    make: sequenceRepetition,
  },
  dry: { parameters: "multiplier? base? allowedLength? window? breakers?[]", make: dry },
  ban: { parameters: "tokens[]", make: ({ tokens }) => ban(tokens) },
  force: { parameters: "tokens[]", make: ({ tokens }) => force(tokens) },
};

/** The one step whose arguments are named by ids. */
const BIAS = "bias";

/** The names of the steps, in the order of the documentation. */
export const STEP_NAMES: readonly string[] = [...Object.keys(STEPS), BIAS];

/**
 * The steps that a text names, such as `penalties(presence=0.4) | typical(0.9) | temperature(0.8)`. An empty text has none.
 * @throws UsageError for an unknown step, a wrong argument, or what is no chain, saying where
 */
export function parseChain(text: string): SamplerStep[] {
  if (text.trim() === "") return [];
  return text.split("|").map((part) => {
    const [, name, list] = /^\s*([\w-]+)\s*(?:\(([^()]*)\))?\s*$/.exec(part) ?? [];
    if (name === undefined) {
      throw new UsageError(
        `"${part.trim()}" is no step of a sampler; expected a name with arguments in parentheses, such as top-p(0.9), and "|" between steps.`,
      );
    }
    return makeStep(name, parseArguments(name, list ?? ""));
  });
}

function makeStep(name: string, list: readonly Argument[]): SamplerStep {
  if (name === BIAS) return biasOf(list);
  const entry = Object.hasOwn(STEPS, name) ? STEPS[name] : undefined;
  if (entry === undefined) {
    throw new UsageError(`There is no step "${name}"; the steps are ${STEP_NAMES.join(", ")}.`);
  }
  const parameters = entry.parameters.split(" ").filter((word) => word !== "");
  const names = parameters.map((word) => word.replace(/[^\w].*$/, ""));
  const values: Record<string, Value> = {};
  list.forEach((argument, i) => {
    const key = argument.name ?? names[i] ?? "";
    const parameter = parameters[names.indexOf(key)];
    const known = names.length === 0 ? "it takes none" : `it takes ${names.join(", ")}`;
    if (parameter === undefined)
      throw new UsageError(`${name} has no argument ${argument.name ?? i + 1}; ${known}.`);
    if (key in values) throw new UsageError(`${name} has the argument ${key} twice.`);
    const { value } = argument;
    if (parameter.endsWith("[]")) values[key] = typeof value === "number" ? [value] : value;
    else if (typeof value === "number") values[key] = value;
    else throw new UsageError(`The argument ${key} of ${name} should be a number, not a list.`);
  });
  const missing = names.find((key, i) => !parameters[i]!.includes("?") && !(key in values));
  if (missing !== undefined) throw new UsageError(`${name} needs the argument ${missing}.`);
  return entry.make(values as unknown as Values);
}

function biasOf(list: readonly Argument[]): SamplerStep {
  const entries = list.map(({ name, value }): [number, number] => {
    if (name === null || !/^\d+$/.test(name) || typeof value !== "number") {
      throw new UsageError("The arguments of bias are ids with their bias, such as bias(261=-2, 11=0.5).");
    }
    return [Number(name), value];
  });
  return bias(new Map(entries));
}

function parseArguments(step: string, text: string): Argument[] {
  if (text.trim() === "") return [];
  const parts = text.match(/[^,[\]]*\[[^[\]]*\][^,]*|[^,]+/g) ?? [];
  if (parts.join(",").length !== text.length) throw wrongArguments(step, text);
  return parts.map((part) => {
    const [, name, list, number] = /^\s*(?:([\w]+)\s*=)?\s*(?:\[([^[\]]*)\]|(\S+))\s*$/.exec(part) ?? [];
    if (list === undefined && number === undefined) throw wrongArguments(step, part);
    const value =
      list === undefined
        ? numberOf(step, number!)
        : list
            .split(",")
            .filter((item) => list.trim() !== "" || item.trim() !== "")
            .map((item) => numberOf(step, item));
    return { name: name ?? null, value };
  });
}

function numberOf(step: string, text: string): number {
  const trimmed = text.trim();
  const value = Number(trimmed);
  if (trimmed === "" || Number.isNaN(value)) throw wrongArguments(step, text);
  return value;
}

function wrongArguments(step: string, text: string): UsageError {
  return new UsageError(
    `"${text.trim()}" is no argument of ${step}; expected numbers or lists in brackets, by name or in order, with commas between.`,
  );
}
