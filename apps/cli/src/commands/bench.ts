// rwkv bench: tokens per second of prefill and decode, as medians with their spread.

import type { Command } from "commander";
import type { Model } from "rwkv";
import { withInterrupt } from "../interrupt.ts";
import { addModelFlags, loadFromFlags, parsePositiveCount, type ModelFlags } from "../options.ts";
import { writeLine } from "../output.ts";
import { megabytes } from "../progress.ts";
import { version } from "../version.ts";

interface BenchFlags extends ModelFlags {
  readonly prefill: number;
  readonly decode: number;
  readonly repeats: number;
  readonly json?: boolean;
}

interface BenchRow {
  readonly test: string;
  readonly tokens: number;
  /** Over the repeats. */
  readonly tokensPerSecond: { readonly median: number; readonly min: number; readonly max: number };
}

export function addBench(program: Command): void {
  const command = program
    .command("bench")
    .description("Measure prefill (pp) and decode (tg) in tokens per second; sampling is not included.")
    .option("-p, --prefill <n>", "tokens of the prompt", parsePositiveCount, 512)
    .option("-g, --decode <n>", "tokens produced", parsePositiveCount, 64)
    .option("-r, --repeats <n>", "measurements of each, after one that is not counted", parsePositiveCount, 5)
    .option("--json", "print rows as JSON")
    .action((flags: BenchFlags) => run(flags));
  addModelFlags(command).addHelpText(
    "after",
    "\nExample:\n  $ rwkv bench --model model.gguf --prefill 512 --decode 64",
  );
}

async function run(flags: BenchFlags): Promise<void> {
  await withInterrupt(async ({ signal }) => {
    await using model = await loadFromFlags(flags, signal);
    const rows = [
      await measure(model, `pp${flags.prefill}`, flags.prefill, flags.repeats, signal, readPrompt),
      await measure(model, `tg${flags.decode}`, flags.decode, flags.repeats, signal, decodeTokens),
    ];
    const { name, backend, device, weightByteLength } = model.info;
    if (flags.json === true) {
      await writeLine(JSON.stringify({ version, model: name, backend, device, weightByteLength, rows }));
      return;
    }
    await writeLine(`${name}, ${megabytes(weightByteLength)} of weights, ${device}, rwkv ${version}`);
    await writeLine("| test | tokens/s, median of repeats | min | max |\n| --- | ---: | ---: | ---: |");
    for (const { test, tokensPerSecond } of rows) {
      const [median, min, max] = [tokensPerSecond.median, tokensPerSecond.min, tokensPerSecond.max].map((n) =>
        n.toFixed(1),
      );
      await writeLine(`| ${test} | ${median} | ${min} | ${max} |`);
    }
  });
}

type Work = (model: Model, nTokens: number, signal: AbortSignal) => Promise<void>;

async function measure(
  model: Model,
  test: string,
  nTokens: number,
  repeats: number,
  signal: AbortSignal,
  work: Work,
): Promise<BenchRow> {
  const rates: number[] = [];
  for (let i = -1; i < repeats; i++) {
    const start = performance.now();
    await work(model, nTokens, signal);
    if (i >= 0) rates.push((nTokens * 1000) / (performance.now() - start));
  }
  rates.sort((a, b) => a - b);
  const middle = rates.length >> 1;
  const median = rates.length % 2 === 1 ? rates[middle]! : (rates[middle - 1]! + rates[middle]!) / 2;
  return { test, tokens: nTokens, tokensPerSecond: { median, min: rates[0]!, max: rates.at(-1)! } };
}

/** Ids spread over the vocabulary, the same in every run. */
function benchToken(model: Model, i: number): number {
  return (i * 7919 + 1) % model.config.nVocab;
}

async function readPrompt(model: Model, nTokens: number, signal: AbortSignal): Promise<void> {
  await using session = await model.createSession();
  const tokens = Array.from({ length: nTokens }, (_, i) => benchToken(model, i));
  await session.forward(tokens, { signal });
}

async function decodeTokens(model: Model, nTokens: number, signal: AbortSignal): Promise<void> {
  await using session = await model.createSession();
  for (let i = 0; i < nTokens; i++) {
    signal.throwIfAborted();
    await session.forward([benchToken(model, i)]);
  }
}
