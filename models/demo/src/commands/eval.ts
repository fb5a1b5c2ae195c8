// Measures a model on the suites, prints a table or JSON, and says whether the promised shares were reached.

import { loadModel, UsageError } from "rwkv";
import { evaluate, meetsFloor, type SuiteResult } from "../evaluate.ts";
import { MODEL_FILE, RESULTS_FILE, VOCABULARY_FILE, writeWhole } from "../paths.ts";
import { EVAL_SEED } from "../recipe.ts";
import { SUITES } from "../suites.ts";
import { percent, resultTable } from "../tables.ts";

export interface EvalFlags {
  /** Weights to measure; default the shipped ones. */
  readonly model?: string | undefined;
  readonly json?: boolean | undefined;
  /** Part of the names of the suites to run; default all. */
  readonly only?: string | undefined;
  /** Print some wrong answers. */
  readonly misses?: boolean | undefined;
}

/**
 * @returns whether every floor was reached
 * @throws UsageError if no suite has such a name
 */
export async function runEval(flags: EvalFlags, signal: AbortSignal): Promise<boolean> {
  const { only = "" } = flags;
  const suites = SUITES.filter(({ name }) => name.includes(only));
  if (suites.length === 0) {
    throw new UsageError(
      `No suite is called "${only}". There are: ${SUITES.map(({ name }) => name).join(", ")}.`,
    );
  }
  await using model = await loadModel(flags.model ?? MODEL_FILE, { tokenizer: VOCABULARY_FILE, signal });
  const results = await evaluate(model, suites, {
    seed: EVAL_SEED,
    signal,
    onSuite: ({ name, nRight, nCases }) => process.stderr.write(`${name}: ${percent(nRight / nCases)}\n`),
  });
  const json = `${JSON.stringify({ seed: EVAL_SEED, results }, null, 2)}\n`;
  // The card is filled in from the whole evaluation of the shipped weights alone.
  if (flags.model === undefined && only === "") await writeWhole(RESULTS_FILE, json);
  process.stdout.write(flags.json === true ? json : resultTable(results));
  if (flags.misses === true) process.stderr.write(results.map(shownMisses).join(""));
  return results.every(meetsFloor);
}

function shownMisses({ name, misses }: SuiteResult): string {
  return misses
    .map(
      ({ prompt, answer, expected }) =>
        `\n[${name}]\n${prompt} ${answer}\n(expected: ${expected ?? "another"})\n`,
    )
    .join("");
}
