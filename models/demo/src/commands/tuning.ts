// Writes all that a tuning of the demo model needs: examples of a task that it does not know, cases that are held out, and
// a configuration of `rwkv train` for each way of tuning.

import { join, resolve } from "node:path";
import { promptOf } from "../chat.ts";
import { MODEL_FILE, VOCABULARY_FILE, writeWhole } from "../paths.ts";
import { SeededRandom } from "../random.ts";
import { CORPUS_SEED, EVAL_SEED } from "../recipe.ts";
import { mirrorTurn } from "../tasks/mirror.ts";

const N_EXAMPLES = 20_000;
const N_CASES = 500;

const FILES = { examples: "examples.jsonl", cases: "cases.jsonl" } as const;

const SHARED = {
  model: MODEL_FILE,
  tokenizer: VOCABULARY_FILE,
  // Conversations of their own, without a token before them: a tuned state stands where a session begins.
  data: {
    files: [FILES.examples],
    packing: "documents",
    context: 64,
    batch: 32,
    endOfText: null,
    answersOnly: true,
  },
  seed: 1,
  threads: 2,
} as const;

/** What `rwkv train` reads, by the name of its file. */
export const TUNINGS = {
  state: { mode: "state", out: "state", ...SHARED, tokens: 300_000, rate: { from: 0.1, to: 0.01 } },
  lora: {
    mode: "lora",
    out: "lora",
    ...SHARED,
    lora: { rank: 8, alpha: 16 },
    tokens: 300_000,
    rate: { from: 0.003, to: 0.0003 },
  },
} as const;

const lineOf = (value: unknown): string => `${JSON.stringify(value)}\n`;

function* exampleLines(): Generator<string, void, void> {
  for (let i = 0; i < N_EXAMPLES; i++) {
    const { user, assistant } = mirrorTurn(new SeededRandom(CORPUS_SEED, i), "train");
    yield lineOf({
      messages: [
        { role: "user", content: user },
        { role: "assistant", content: assistant },
      ],
    });
  }
}

function* caseLines(): Generator<string, void, void> {
  for (let i = 0; i < N_CASES; i++) {
    const { user, assistant } = mirrorTurn(new SeededRandom(EVAL_SEED, i), "held-out");
    yield lineOf({ prompt: promptOf(user), answer: assistant });
  }
}

/** Into a folder, which is made if it is not there. */
export async function writeTuning(folder: string): Promise<void> {
  await writeWhole(join(folder, FILES.examples), exampleLines());
  await writeWhole(join(folder, FILES.cases), caseLines());
  for (const [name, config] of Object.entries(TUNINGS)) {
    await writeWhole(join(folder, `${name}.json`), `${JSON.stringify(config, null, 2)}\n`);
  }
  process.stderr.write(`${resolve(folder)}: ${N_EXAMPLES} examples, ${N_CASES} cases, `);
  process.stderr.write(`${Object.keys(TUNINGS).length} configurations\n`);
}
