// rwkv generate: continue a prompt.

import type { Command } from "commander";
import { UsageError, type Generation } from "rwkv";
import { withInterrupt } from "../interrupt.ts";
import {
  addModelFlags,
  collect,
  loadFromFlags,
  parseCount,
  parseIds,
  parseNumber,
  type ModelFlags,
} from "../options.ts";
import { readStdin, writeLine, writeOut } from "../output.ts";
import { createProgressBar } from "../progress.ts";
import { addStateFlags, saveFromFlags, sessionFromFlags, type StateFlags } from "../state-flags.ts";

interface GenerateFlags extends ModelFlags, StateFlags {
  readonly maxTokens?: number;
  readonly temperature?: number;
  readonly topP?: number;
  readonly topK?: number;
  readonly seed?: number;
  readonly stop?: string[];
  readonly stopTokens?: number[];
  readonly echo?: boolean;
  readonly json?: boolean;
}

export function addGenerate(program: Command): void {
  const command = program
    .command("generate")
    .description("Continue a prompt. The text streams to stdout; with --json the result comes at the end.")
    .argument("<prompt>", 'text to continue; "-" reads stdin, "" continues --state')
    .option("-n, --max-tokens <n>", "most tokens to produce", parseCount)
    .option("-t, --temperature <t>", "0 takes the likeliest token (default: 1)", parseNumber)
    .option(
      "--top-p <p>",
      "sample from the likeliest tokens of this total probability (default: 0.85)",
      parseNumber,
    )
    .option("--top-k <k>", "sample from the k likeliest tokens (default: off)", parseCount)
    .option("-s, --seed <n>", "the same seed gives the same text (default: random)", parseCount)
    .option("--stop <text>", "end before this text; may be given more than once", collect)
    .option("--stop-tokens <ids>", "ids that end the text, joined by commas (default: end of text)", parseIds)
    .option("--echo", "print the prompt too")
    .option("--json", "print text, tokens, finishReason, usage and timings as JSON")
    .action((prompt: string, flags: GenerateFlags) => run(prompt, flags));
  addStateFlags(command, "at the end, also when interrupted");
  addModelFlags(command).addHelpText(
    "after",
    `
Examples:
  $ rwkv generate "Once upon a time" --model model.pth --max-tokens 100 --temperature 0.8
  $ rwkv generate "User: hi\\n\\nAssistant:" --model model.gguf --max-tokens 200 --stop "\\n\\nUser:"
  $ rwkv generate "A long story" --model model.pth --max-tokens 50 --save-state s.state
  $ rwkv generate "" --model model.pth --max-tokens 50 --state s.state`,
  );
}

async function run(prompt: string, flags: GenerateFlags): Promise<void> {
  // Not commander's requiredOption: that is checked before unknown flags, and a mistyped one would not be named.
  if (flags.maxTokens === undefined) throw new UsageError("Say how many tokens to produce: --max-tokens N.");
  const text = prompt === "-" ? new TextDecoder().decode(await readStdin()) : prompt;
  await withInterrupt(async ({ signal, check }) => {
    await using model = await loadFromFlags(flags, signal);
    const session = await sessionFromFlags(model, flags);
    const bar = createProgressBar("reading", flags.quiet === true);
    const generation = session.generate(text, {
      maxTokens: flags.maxTokens,
      temperature: flags.temperature,
      topP: flags.topP,
      topK: flags.topK,
      seed: flags.seed,
      stop: flags.stop,
      stopTokens: flags.stopTokens,
      echo: flags.echo,
      signal,
      onProgress: (progress) => {
        if (progress.phase === "decode") return;
        const rate = `${progress.tokensPerSecond.toFixed(0)} tokens/s`;
        bar.update(progress.tokensDone, progress.tokensTotal, rate);
        if (progress.tokensDone === progress.tokensTotal) bar.clear();
      },
    });
    if (flags.json === true) await printResult(generation);
    else await stream(generation);
    await saveFromFlags(session, flags);
    check();
  });
}

async function stream(generation: Generation): Promise<void> {
  for await (const { text } of generation) await writeOut(text);
  await writeOut("\n");
  if (!process.stderr.isTTY) return;
  const { usage, timings } = generation.result!;
  process.stderr.write(
    `${usage.promptTokens} tokens read at ${timings.prefillTokensPerSecond.toFixed(1)}/s, ` +
      `${usage.completionTokens} produced at ${timings.decodeTokensPerSecond.toFixed(1)}/s\n`,
  );
}

async function printResult(generation: Generation): Promise<void> {
  await writeLine(JSON.stringify(await generation));
}
