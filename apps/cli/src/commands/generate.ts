// rwkv generate: continue a prompt.

import type { Command } from "commander";
import { UsageError, type Generation, type Session } from "rwkv";
import { withInterrupt } from "../interrupt.ts";
import {
  addModelFlags,
  collect,
  loadFromFlags,
  parseCount,
  parseIds,
  parseNumber,
  parsePositiveCount,
  type ModelFlags,
} from "../options.ts";
import { readStdin, writeLine, writeOut } from "../output.ts";
import { createProgressBar } from "../progress.ts";
import { addSamplingFlags, samplingOf, type SamplingFlags } from "../sampling-options.ts";
import { addStateFlags, saveFromFlags, sessionFromFlags, type StateFlags } from "../state-flags.ts";

interface GenerateFlags extends ModelFlags, SamplingFlags, StateFlags {
  readonly maxTokens?: number;
  readonly beams?: number;
  readonly guidance?: number;
  readonly negative?: string;
  readonly logprobs?: number;
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
    .option(
      "--beams <n>",
      "search for the likeliest text with n beams, in place of sampling",
      parsePositiveCount,
    )
    .option("--guidance <scale>", "steer away from the text of --negative; 1 changes nothing", parseNumber)
    .option("--negative <text>", "what stands in place of the prompt for --guidance")
    .option("--logprobs <n>", "with --json, tell log-probabilities and the n likeliest tokens", parseCount)
    .option("--stop <text>", "end before this text; may be given more than once", collect)
    .option("--stop-tokens <ids>", "ids that end the text, joined by commas (default: end of text)", parseIds)
    .option("--echo", "print the prompt too")
    .option("--json", "print text, tokens, finishReason, usage and timings as JSON")
    .action((prompt: string, flags: GenerateFlags) => run(prompt, flags));
  addStateFlags(command, "at the end, also when interrupted");
  addModelFlags(addSamplingFlags(command)).addHelpText(
    "after",
    `
Examples:
  $ rwkv generate "Once upon a time" --model model.pth --max-tokens 100 --temperature 0.8
  $ rwkv generate "User: hi\\n\\nAssistant:" --model model.gguf --max-tokens 200 --stop "\\n\\nUser:"
  $ rwkv generate "A long story" --model model.pth --max-tokens 50 --save-state s.state
  $ rwkv generate "" --model model.pth --max-tokens 50 --state s.state
  $ rwkv generate "A poem" --model model.pth --max-tokens 50 --sampler "penalties(0.4, 0.4) | min-p(0.05)"
  $ rwkv generate "The capital of France is" --model model.pth --max-tokens 8 --beams 4`,
  );
}

async function run(prompt: string, flags: GenerateFlags): Promise<void> {
  // Not commander's requiredOption: that is checked before unknown flags, and a mistyped one would not be named.
  if (flags.maxTokens === undefined) throw new UsageError("Say how many tokens to produce: --max-tokens N.");
  checkFlags(flags);
  const text = prompt === "-" ? new TextDecoder().decode(await readStdin()) : prompt;
  await withInterrupt(async ({ signal, check }) => {
    await using model = await loadFromFlags(flags, signal);
    const session = await sessionFromFlags(model, flags);
    await (flags.beams === undefined
      ? sample(session, text, flags, signal)
      : search(session, text, flags, signal));
    await saveFromFlags(session, flags);
    check();
  });
}

/** @throws UsageError for flags that belong to others, or contradict them */
function checkFlags(flags: GenerateFlags): void {
  if ((flags.guidance === undefined) !== (flags.negative === undefined)) {
    throw new UsageError("--guidance SCALE and --negative TEXT belong together: give both, or neither.");
  }
  if (flags.logprobs !== undefined && flags.json !== true) {
    throw new UsageError("--logprobs N tells its numbers in the JSON result: give --json too.");
  }
  if (flags.beams === undefined) return;
  const { stop, logprobs, guidance } = flags;
  const other = Object.entries({ ...samplingOf(flags), stop, logprobs, guidance }).find(
    ([, value]) => value !== undefined,
  )?.[0];
  if (other === undefined) return;
  const flag = other.replace("Tokens", "").replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
  throw new UsageError(
    `--beams finds the likeliest text, in which nothing is drawn, and ends it at stop tokens alone: leave out --${flag}.`,
  );
}

async function sample(
  session: Session,
  text: string,
  flags: GenerateFlags,
  signal: AbortSignal,
): Promise<void> {
  const { guidance: scale, negative } = flags;
  const bar = createProgressBar("reading", flags.quiet === true);
  const generation = session.generate(text, {
    ...samplingOf(flags),
    maxTokens: flags.maxTokens,
    stop: flags.stop,
    stopTokens: flags.stopTokens,
    echo: flags.echo,
    guidance: scale === undefined || negative === undefined ? undefined : { scale, negative },
    logprobs: flags.logprobs,
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
}

/** Prints the likeliest text, or all beams as JSON; the session goes on with the likeliest. */
async function search(
  session: Session,
  text: string,
  flags: GenerateFlags,
  signal: AbortSignal,
): Promise<void> {
  const bar = createProgressBar("searching", flags.quiet === true);
  const { beams: nBeams, maxTokens, stopTokens } = flags;
  const beams = await session.beamSearch(text, {
    beams: nBeams,
    maxTokens,
    stopTokens,
    signal,
    onProgress: ({ tokensDone, tokensTotal, tokensPerSecond }) =>
      bar.update(tokensDone, tokensTotal, `${tokensPerSecond.toFixed(0)} tokens/s`),
  });
  bar.clear();
  const [best] = beams;
  if (best !== undefined) await session.append(best.tokens);
  const echo = flags.echo === true ? text : "";
  await writeLine(flags.json === true ? JSON.stringify({ beams }) : echo + (best?.text ?? ""));
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
