// Writes the cases that have one right answer as JSONL, `{"prompt": ..., "answer": ...}` a line, for other programs:
// `rwkv eval --exact` reads them.

import { join } from "node:path";
import { writeWhole } from "../paths.ts";
import { EVAL_SEED } from "../recipe.ts";
import { casesOf, SUITES } from "../suites.ts";

/** One file per suite, named after it. */
export async function writeCases(folder: string): Promise<void> {
  for (const suite of SUITES) {
    const lines = casesOf(suite, EVAL_SEED).flatMap(({ prompt, expected }) =>
      typeof expected === "string" ? [`${JSON.stringify({ prompt, answer: expected })}\n`] : [],
    );
    if (lines.length === 0) continue;
    const path = join(folder, `${suite.name.replaceAll(" ", "-")}.jsonl`);
    await writeWhole(path, lines);
    process.stderr.write(`${path}: ${lines.length} cases\n`);
  }
}
