// What the benchmark scripts share: their options, where results go, and how they end.

import { mkdirSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, loadavg } from "node:os";
import { join } from "node:path";
import { RwkvError, UsageError } from "rwkv";
import { RESULTS_FOLDER } from "./engines.ts";

/** What a reader must know to compare numbers. */
export function describeMachine(): object {
  return {
    cpu: cpus()[0]?.model ?? "unknown",
    cores: availableParallelism(),
    platform: `${process.platform} ${process.arch}`,
    node: process.version,
    date: new Date().toISOString(),
    /** Of the last minute, before the run: more than a little means that something else was running. */
    load: loadavg()[0],
  };
}

/** @throws UsageError if `text` is no whole number of at least 1 */
export function parseCount(flag: string, text: string): number {
  const value = Number(text);
  if (Number.isSafeInteger(value) && value >= 1) return value;
  throw new UsageError(`--${flag} is "${text}"; expected a whole number of at least 1.`);
}

/**
 * The members of `choices` that a comma-separated list names.
 * @throws UsageError for a name that is none of them
 */
export function parseChoices<Choice>(
  flag: string,
  text: string,
  choices: readonly Choice[],
  nameOf: (choice: Choice) => string,
): Choice[] {
  return text.split(",").map((name) => {
    const found = choices.find((choice) => nameOf(choice) === name);
    if (found !== undefined) return found;
    throw new UsageError(
      `--${flag} names "${name}"; expected a list of ${choices.map(nameOf).join(", ")}, joined by commas.`,
    );
  });
}

/** Writes a file of results and says where. */
export function writeResult(name: string, content: string): void {
  mkdirSync(RESULTS_FOLDER, { recursive: true });
  const path = join(RESULTS_FOLDER, name);
  writeFileSync(path, content);
  progress(`wrote ${path}`);
}

export function print(text: string): void {
  process.stdout.write(`${text}\n`);
}

export function progress(text: string): void {
  process.stderr.write(`${text}\n`);
}

/** Runs a script; what was foreseen ends in one line. */
export async function runScript(main: () => Promise<void>): Promise<void> {
  try {
    await main();
  } catch (error) {
    const isUsage = error instanceof UsageError || isParseArgsError(error);
    if (!isUsage && !(error instanceof RwkvError)) throw error;
    progress(error.message);
    process.exitCode = isUsage ? 2 : 1;
  }
}

/** Whether Node's `parseArgs` met a flag that it does not know, or one without its value. */
function isParseArgsError(error: unknown): error is Error {
  return error instanceof Error && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS");
}
