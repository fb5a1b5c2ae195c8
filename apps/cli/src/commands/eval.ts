// rwkv eval: what a model is worth, by a text, by choices, by last words and by exact answers.

import type { Command } from "commander";
import {
  evaluateChoices,
  evaluateExact,
  evaluateLastWords,
  evaluateText,
  UsageError,
  type ChoiceCase,
  type ChoiceResult,
  type EvaluationOptions,
  type ExactCase,
  type ExactResult,
  type LastWordCase,
  type LastWordResult,
  type Model,
  type ScoreOptions,
  type TextScore,
} from "rwkv";
import { withInterrupt } from "../interrupt.ts";
import { readCases, readText, shown, type JsonRecord } from "../jsonl.ts";
import { addModelFlags, collect, loadFromFlags, parsePositiveCount, type ModelFlags } from "../options.ts";
import { writeLine } from "../output.ts";
import { createProgressBar } from "../progress.ts";

interface EvalFlags extends ModelFlags {
  readonly text?: string;
  readonly choices?: string;
  readonly lastWord?: string;
  readonly exact?: string;
  readonly state?: string;
  readonly separator?: string;
  /** False with `--no-start-token`. */
  readonly startToken: boolean;
  readonly stop?: string[];
  readonly maxTokens?: number;
  readonly limit?: number;
  readonly batch?: number;
  readonly json?: boolean;
}

/** What is printed as JSON: what was asked for. */
interface EvalResults {
  text?: TextScore;
  choices?: ChoiceResult;
  lastWord?: LastWordResult;
  exact?: ExactResult;
}

export function addEval(program: Command): void {
  const command = program
    .command("eval")
    .description("Measure a model: perplexity of a text, multiple choice, last words, exact answers.")
    .option("--text <file>", "text in UTF-8: its perplexity")
    .option(
      "--choices <file>",
      'JSONL {"context" or "question", "choices", "answer": index}: accuracy, ranking',
    )
    .option("--last-word <file>", 'JSONL {"text"}, as LAMBADA: accuracy and perplexity of the last word')
    .option("--exact <file>", 'JSONL {"prompt", "answer"}: share of greedy answers that are exactly right')
    .option("--limit <n>", "only the first n cases of each file, or tokens of the text", parsePositiveCount)
    .option("--batch <n>", "sequences read at the same time (default: 16)", parsePositiveCount)
    .option("--state <file>", "begin each case with a saved session or a tuned time_state")
    .option("--no-start-token", "no end-of-text token before texts, choices and last words")
    .option("--separator <text>", "between context and choice without white space (default: a space)")
    .option(
      "--stop <text>",
      "end an exact answer here; may be given more than once (default: empty line)",
      collect,
    )
    .option("--max-tokens <n>", "most tokens of an exact answer (default: 128)", parsePositiveCount)
    .option("--json", "print everything as JSON, each case with its scores")
    .action((flags: EvalFlags) => run(flags));
  addModelFlags(command).addHelpText(
    "after",
    `
Examples:
  $ rwkv eval --model model.pth --text book.txt
  $ rwkv eval --model model.pth --last-word lambada_test.jsonl --limit 500
  $ rwkv eval --model model.pth --choices questions.jsonl --exact sums.jsonl --json`,
  );
}

async function run(flags: EvalFlags): Promise<void> {
  const { text, choices, lastWord, exact, limit = Infinity } = flags;
  if ((text ?? choices ?? lastWord ?? exact) === undefined) {
    throw new UsageError("Say what to measure: --text, --choices, --last-word or --exact, each with a FILE.");
  }
  // Files are read before the model, so that a mistake in one shows at once.
  const files = {
    text: text === undefined ? null : await readText(text),
    choices: choices === undefined ? null : await readCases(choices, limit, parseChoiceCase),
    lastWord: lastWord === undefined ? null : await readCases(lastWord, limit, parseLastWordCase),
    exact: exact === undefined ? null : await readCases(exact, limit, parseExactCase),
  };
  await withInterrupt(async ({ signal }) => {
    await using model = await loadFromFlags(flags, signal);
    const results = await evaluate(model, files, flags, signal);
    await writeLine(flags.json === true ? JSON.stringify(results) : toText(results));
  });
}

interface EvalFiles {
  readonly text: string | null;
  readonly choices: readonly ChoiceCase[] | null;
  readonly lastWord: readonly LastWordCase[] | null;
  readonly exact: readonly ExactCase[] | null;
}

async function evaluate(
  model: Model,
  files: EvalFiles,
  flags: EvalFlags,
  signal: AbortSignal,
): Promise<EvalResults> {
  const { state, batch, limit } = flags;
  const common: EvaluationOptions = { state, batch, signal };
  const scored: ScoreOptions = { ...common, ...(!flags.startToken && { startToken: null }) };
  const measure = async <Result>(
    label: string,
    work: (options: Pick<EvaluationOptions, "onProgress">) => Promise<Result>,
  ): Promise<Result> => {
    const bar = createProgressBar(label, flags.quiet === true);
    try {
      return await work({ onProgress: ({ done, total }) => bar.update(done, total, `${done} of ${total}`) });
    } finally {
      bar.clear();
    }
  };
  const { text, choices, lastWord, exact } = files;
  const results: EvalResults = {};
  if (text !== null) {
    const prompt =
      limit === undefined || model.tokenizer === null ? text : model.tokenizer.encode(text).slice(0, limit);
    results.text = await measure("text", (report) => evaluateText(model, prompt, { ...scored, ...report }));
  }
  if (choices !== null) {
    const { separator } = flags;
    results.choices = await measure("choices", (report) =>
      evaluateChoices(model, choices, { ...scored, separator, ...report }),
    );
  }
  if (lastWord !== null) {
    results.lastWord = await measure("last words", (report) =>
      evaluateLastWords(model, lastWord, { ...scored, ...report }),
    );
  }
  if (exact !== null) {
    const { stop, maxTokens } = flags;
    results.exact = await measure("exact answers", (report) =>
      evaluateExact(model, exact, { ...common, stop, maxTokens, ...report }),
    );
  }
  return results;
}

function parseChoiceCase({ context, question, choices, answer }: JsonRecord): ChoiceCase | string {
  const before = context ?? question;
  if (typeof before !== "string" || (context !== undefined && question !== undefined)) {
    return `expected one of "context" and "question", a text, found ${shown(context)} and ${shown(question)}.`;
  }
  const isList = Array.isArray(choices) && choices.length >= 2;
  if (!isList || !choices.every((choice) => typeof choice === "string" && choice !== "")) {
    return `expected "choices", a list of at least two texts, found ${shown(choices)}.`;
  }
  const list = choices as string[];
  if (answer === undefined) return { context: before, choices: list };
  if (typeof answer === "number" && Number.isInteger(answer) && answer >= 0 && answer < list.length) {
    return { context: before, choices: list, answer };
  }
  return `expected "answer", an index from 0 to ${list.length - 1}, or none, found ${shown(answer)}.`;
}

function parseLastWordCase({ text }: JsonRecord): LastWordCase | string {
  if (typeof text === "string" && /\S\s+\S/.test(text)) return { text };
  return `expected "text" of at least two words, found ${shown(text)}.`;
}

function parseExactCase({ prompt, answer }: JsonRecord): ExactCase | string {
  if (typeof prompt !== "string" || prompt === "")
    return `expected "prompt", a text, found ${shown(prompt)}.`;
  if (typeof answer !== "string") return `expected "answer", a text, found ${shown(answer)}.`;
  return { prompt, answer };
}

function toText({ text, choices, lastWord, exact }: EvalResults): string {
  const rows: [string, string][] = [];
  const percent = (share: number | null): string =>
    share === null ? "no answers given" : `${(100 * share).toFixed(2)} %`;
  if (text !== undefined) {
    rows.push(["text: tokens predicted", String(text.nTokens)]);
    rows.push(["text: nats per token", text.natsPerToken.toFixed(4)]);
    if (text.natsPerByte !== null) rows.push(["text: nats per byte", text.natsPerByte.toFixed(4)]);
    rows.push(["text: perplexity", text.perplexity.toFixed(4)]);
  }
  if (choices !== undefined) {
    rows.push(["choices: cases", `${choices.nCases}, ${choices.nAnswered} with an answer`]);
    rows.push(["choices: accuracy", percent(choices.accuracy)]);
    rows.push(["choices: accuracy per byte", percent(choices.normalizedAccuracy)]);
  }
  if (lastWord !== undefined) {
    rows.push(["last words: cases", String(lastWord.nCases)]);
    rows.push(["last words: accuracy", percent(lastWord.accuracy)]);
    rows.push(["last words: perplexity", lastWord.perplexity.toFixed(4)]);
  }
  if (exact !== undefined) {
    rows.push(["exact answers: cases", String(exact.nCases)]);
    rows.push(["exact answers: accuracy", percent(exact.accuracy)]);
  }
  const width = Math.max(...rows.map(([label]) => label.length)) + 2;
  return rows.map(([label, value]) => label.padEnd(width) + value).join("\n");
}
