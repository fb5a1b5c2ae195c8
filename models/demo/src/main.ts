// The commands behind `npm run train:demo` and `npm run eval:demo`. Results go to stdout, everything else to stderr.

import { parseArgs } from "node:util";
import { RwkvError, UsageError } from "rwkv";
import { updateCard } from "./commands/card.ts";
import { writeCases } from "./commands/cases.ts";
import { ensureVocabulary, writeCorpus } from "./commands/corpus.ts";
import { runEval } from "./commands/eval.ts";
import { publishRun } from "./commands/publish.ts";
import { writeTuning } from "./commands/tuning.ts";

const HELP = `Usage: node models/demo/dist/main.js <command>

  corpus         write the training corpus, and the vocabulary if there is none
  eval           measure the abilities of the demo model; exit code 1 if one is below its floor
    --model FILE   measure other weights with the same vocabulary
    --only TEXT    only the suites whose name contains this
    --misses       print some wrong answers
    --json         print JSON
  publish        take the weights and the loss curve of a finished training into the package
  card           write the measured numbers into the model card
  cases FOLDER   write the cases of the evaluation as JSONL, for rwkv eval --exact
  tuning FOLDER  write examples, cases and configurations of a task to tune the model for
`;

const EXIT = { ok: 0, failure: 1, usage: 2, interrupted: 130 } as const;

async function run([command, ...rest]: readonly string[], signal: AbortSignal): Promise<number> {
  switch (command) {
    case "corpus":
      parseArgs({ args: rest });
      await ensureVocabulary();
      await writeCorpus();
      return EXIT.ok;
    case "eval": {
      const { values } = parseArgs({
        args: rest,
        options: {
          model: { type: "string" },
          only: { type: "string" },
          misses: { type: "boolean" },
          json: { type: "boolean" },
        },
      });
      return (await runEval(values, signal)) ? EXIT.ok : EXIT.failure;
    }
    case "publish":
      parseArgs({ args: rest });
      await publishRun();
      return EXIT.ok;
    case "card":
      parseArgs({ args: rest });
      await updateCard();
      return EXIT.ok;
    case "cases":
    case "tuning":
      await (command === "cases" ? writeCases : writeTuning)(folderOf(command, rest));
      return EXIT.ok;
    case "--help":
      process.stdout.write(HELP);
      return EXIT.ok;
    default:
      throw new UsageError(`Unknown command "${command ?? ""}".\n\n${HELP}`);
  }
}

function folderOf(command: string, args: readonly string[]): string {
  const [folder, ...more] = parseArgs({ args: [...args], allowPositionals: true }).positionals;
  if (folder === undefined || more.length > 0)
    throw new UsageError(`${command} takes one folder to write to.`);
  return folder;
}

function isUsageError(error: unknown): error is Error {
  if (error instanceof UsageError) return true;
  return error instanceof Error && "code" in error && String(error.code).startsWith("ERR_PARSE_ARGS");
}

const interrupt = new AbortController();
process.once("SIGINT", () => interrupt.abort());
try {
  process.exitCode = await run(process.argv.slice(2), interrupt.signal);
} catch (error) {
  if (interrupt.signal.aborted) {
    process.exitCode = EXIT.interrupted;
  } else {
    const isForeseen = isUsageError(error) || error instanceof RwkvError;
    process.stderr.write(`${isForeseen ? error.message : String((error as Error).stack ?? error)}\n`);
    process.exitCode = isUsageError(error) ? EXIT.usage : EXIT.failure;
  }
}
