// rwkv compare: how far one model is from another, weight by weight and in what they predict for a text.

import { readFile } from "node:fs/promises";
import { Option, type Command } from "commander";
import { BACKEND_NAMES, compare, UsageError, type Comparison, type LoadOptions } from "rwkv";
import { withInterrupt } from "../interrupt.ts";
import { parseIds, parseNumber, parsePositiveCount } from "../options.ts";
import { writeLine } from "../output.ts";
import { createProgressBar } from "../progress.ts";

interface CompareFlags {
  readonly text?: string;
  readonly tokens?: number[];
  readonly tokenizer?: string;
  readonly backend?: LoadOptions["backend"];
  readonly activations?: LoadOptions["activations"];
  readonly threads?: number;
  readonly groupNormEps?: number;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export function addCompare(program: Command): void {
  program
    .command("compare")
    .description("Compare two models with one vocabulary: error of each weight, perplexity, KL divergence.")
    .argument("<a>", "model file or address, taken for exact")
    .argument("<b>", "model file or address")
    .option("--text <file>", "text that both models read, in UTF-8")
    .option("--tokens <ids>", "ids joined by commas, instead of a text", parseIds)
    .option("--tokenizer <file>", "vocabulary of both (default: found inside or beside the models)")
    .addOption(new Option("--backend <name>", "what computes").choices(BACKEND_NAMES).default("cpu"))
    .addOption(
      new Option("--activations <type>", "precision of activations in quantised products").choices([
        "f32",
        "int8",
      ]),
    )
    .option("--threads <n>", "threads to compute with (default: one per core, up to 4)", parsePositiveCount)
    .option("--group-norm-eps <e>", "epsilon of the group norm of v5 to v7", parseNumber)
    .option("--json", "print everything as JSON")
    .option("-q, --quiet", "no progress bar")
    .addHelpText(
      "after",
      `
Examples:
  $ rwkv compare model.pth model-q4.safetensors --text book.txt
  $ rwkv compare model.pth model-q4.safetensors --text book.txt --json | jq .meanKl`,
    )
    .action((a: string, b: string, flags: CompareFlags) => run(a, b, flags));
}

async function run(a: string, b: string, flags: CompareFlags): Promise<void> {
  const prompt = await promptOf(flags);
  const { tokenizer, backend, activations, threads, groupNormEps } = flags;
  await withInterrupt(async ({ signal }) => {
    const bar = createProgressBar("comparing", flags.quiet === true);
    let result: Comparison;
    try {
      result = await compare(a, b, {
        prompt,
        tokenizer,
        backend,
        activations,
        threads,
        groupNormEps,
        signal,
        onProgress: ({ phase, done, total }) => bar.update(done, total, phase),
      });
    } finally {
      bar.clear();
    }
    await writeLine(flags.json === true ? JSON.stringify(result) : toText(result));
  });
}

async function promptOf({ text, tokens }: CompareFlags): Promise<string | number[]> {
  if ((text === undefined) === (tokens === undefined)) {
    throw new UsageError("Say what both models read: --text FILE, or --tokens 34,105,110.");
  }
  if (tokens !== undefined) return tokens;
  try {
    return await readFile(text!, "utf8");
  } catch (cause) {
    throw new UsageError(`The text ${text!} cannot be read: ${(cause as Error).message}.`, { cause });
  }
}

function toText({
  weights,
  nPredicted,
  perplexity,
  perplexityChange,
  meanKl,
  topAgreement,
}: Comparison): string {
  const percent = (share: number): string => `${(100 * share).toFixed(3)} %`;
  const rows = [
    ["tokens predicted", String(nPredicted)],
    [
      "perplexity",
      `${perplexity[0].toFixed(4)} and ${perplexity[1].toFixed(4)}, ${percent(perplexityChange)} more`,
    ],
    ["mean KL", `${meanKl.toPrecision(4)} nats`],
    ["same first choice", percent(topAgreement)],
  ];
  const summary = rows.map(([label, value]) => `${label!.padEnd(19)}${value!}`);
  if (weights === null)
    return [...summary, "", "The models have different sizes: no weights are compared."].join("\n");
  const width = Math.max(...weights.map(({ name }) => name.length));
  return [
    ...summary,
    "",
    `${"weight".padEnd(width)} ${"relative error".padStart(14)} ${"largest error".padStart(14)}`,
    ...weights.map(
      ({ name, relativeError, maxError }) =>
        `${name.padEnd(width)} ${percent(relativeError).padStart(14)} ${maxError.toPrecision(3).padStart(14)}`,
    ),
  ].join("\n");
}
