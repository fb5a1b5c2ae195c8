// rwkv bench: how fast a model loads, reads and decodes here, as medians with their spread, and what that can be held
// against: bytes read per token and memory used. What cannot be measured is null.

import { readFile } from "node:fs/promises";
import type { Command } from "commander";
import { createSampler, readBandwidth, type Model, type Session } from "rwkv";
import { withInterrupt } from "../interrupt.ts";
import { addModelFlags, loadFromFlags, parsePositiveCount, type ModelFlags } from "../options.ts";
import { writeLine } from "../output.ts";
import { megabytes } from "../progress.ts";
import { version } from "../version.ts";

interface BenchFlags extends ModelFlags {
  readonly promptTokens: number;
  readonly decodeTokens: number;
  readonly batch: number;
  readonly repeat: number;
  readonly json?: boolean;
}

/** Over the repeats. */
interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** The JSON that is printed; its fields are fixed. */
interface BenchReport {
  readonly load: { readonly ms: Spread };
  readonly prefill: { readonly tokensPerSecond: Spread };
  /** Of all sessions of the batch together. */
  readonly decode: { readonly tokensPerSecond: Spread };
  /** From the prompt to the first token drawn from its logits; the model is loaded before. */
  readonly timeToFirstTokenMs: Spread;
  /** The most the process ever held in memory, up to the end of the first load's measurements. */
  readonly peakRssBytes: number;
  /** By as many threads as the model has; null without the addon, which alone reads fast enough to measure it. */
  readonly memoryBandwidthBytesPerSecond: number | null;
  /** Of one session, if each token reads all weights and nothing else takes time; null without the bandwidth. */
  readonly decodeBoundTokensPerSecond: number | null;
  readonly weightBytes: number;
  readonly bytesReadPerToken: number;
  /** Of the inputs of `ffn.value` in decode; null where none are skipped. */
  readonly ffnZeroShare: number | null;
  readonly kernels: string | null;
}

/** Enough for the engine to compile its kernels for speed. */
const WARM_UP = { promptTokens: 64, decodeTokens: 8 } as const;

export function addBench(program: Command): void {
  const command = program
    .command("bench")
    .description(
      "Measure load, prefill, decode, time to first token and memory; sampling is not part of decode.",
    )
    .option("-p, --prompt-tokens <n>", "tokens of the prompt", parsePositiveCount, 512)
    .option("-g, --decode-tokens <n>", "tokens decoded by each session", parsePositiveCount, 128)
    .option("-b, --batch <n>", "sessions decoded together", parsePositiveCount, 1)
    .option("-r, --repeat <n>", "measurements of each, after a warm-up", parsePositiveCount, 5)
    .option(
      "--skip-zeros",
      "skip inputs of ffn.value that are zero, also where that takes most of them to pay",
    )
    .option("--no-skip-zeros", "read ffn.value whole, also where its inputs are zero")
    .option("--json", "print the report as JSON")
    .action((flags: BenchFlags) => run(flags));
  addModelFlags(command).addHelpText(
    "after",
    "\nExample:\n  $ rwkv bench --model model.gguf --prompt-tokens 512 --decode-tokens 64 --repeat 3",
  );
}

async function run(flags: BenchFlags): Promise<void> {
  await withInterrupt(async ({ signal }) => {
    const loadMs: number[] = [];
    const load = async (): Promise<Model> => {
      const start = performance.now();
      const model = await loadFromFlags(flags, signal);
      loadMs.push(performance.now() - start);
      return model;
    };
    await using model = await load();
    const measured = await measure(model, flags, signal);
    // Before the next load, which may overlap with what the first one leaves to the garbage collector.
    const peakRssBytes = await peakMemory();
    const { weightByteLength, bytesReadPerToken, kernels, nThreads } = model.info;
    const bandwidth = await readBandwidth(nThreads, signal);
    await model[Symbol.asyncDispose]();
    while (loadMs.length < flags.repeat) await (await load())[Symbol.asyncDispose]();

    const report: BenchReport = {
      load: { ms: spreadOf(loadMs) },
      prefill: { tokensPerSecond: spreadOf(measured.prefillMs.map((ms) => rate(flags.promptTokens, ms))) },
      decode: {
        tokensPerSecond: spreadOf(measured.decodeMs.map((ms) => rate(flags.batch * flags.decodeTokens, ms))),
      },
      timeToFirstTokenMs: spreadOf(measured.firstTokenMs),
      peakRssBytes,
      memoryBandwidthBytesPerSecond: bandwidth,
      decodeBoundTokensPerSecond: bandwidth === null ? null : bandwidth / bytesReadPerToken,
      weightBytes: weightByteLength,
      bytesReadPerToken,
      ffnZeroShare: zeroShare(measured),
      kernels,
    };
    await writeLine(flags.json === true ? JSON.stringify(report) : toText(report, model, flags));
  });
}

interface Measured {
  readonly prefillMs: number[];
  readonly firstTokenMs: number[];
  readonly decodeMs: number[];
  /** In all of `decodeMs` together. */
  nInputs: number;
  nZeros: number;
}

async function measure(model: Model, flags: BenchFlags, signal: AbortSignal): Promise<Measured> {
  const { promptTokens, decodeTokens, batch, repeat } = flags;
  const measured: Measured = { prefillMs: [], firstTokenMs: [], decodeMs: [], nInputs: 0, nZeros: 0 };
  await readPrompt(model, Math.min(promptTokens, WARM_UP.promptTokens), signal);
  await decode(model, batch, Math.min(decodeTokens, WARM_UP.decodeTokens), signal);
  for (let i = 0; i < repeat; i++) {
    const { prefillMs, firstTokenMs } = await readPrompt(model, promptTokens, signal);
    measured.prefillMs.push(prefillMs);
    measured.firstTokenMs.push(firstTokenMs);
    const before = model.zeroInputs();
    measured.decodeMs.push(await decode(model, batch, decodeTokens, signal));
    const after = model.zeroInputs();
    if (before === null || after === null) continue;
    measured.nInputs += after.nInputs - before.nInputs;
    measured.nZeros += after.nZeros - before.nZeros;
  }
  return measured;
}

/** The most bytes that this process held. Linux's `maxRSS` would begin with what the parent held when it started this one. */
async function peakMemory(): Promise<number> {
  const status = process.platform === "linux" ? await readFile("/proc/self/status", "utf8") : "";
  const kilobytes = /^VmHWM:\s*(\d+) kB$/m.exec(status)?.[1];
  return 1024 * (kilobytes === undefined ? process.resourceUsage().maxRSS : Number(kilobytes));
}

/** Null where no decode step skipped zeros. */
function zeroShare({ nInputs, nZeros }: Measured): number | null {
  return nInputs === 0 ? null : nZeros / nInputs;
}

/** Ids spread over the vocabulary, the same in every run. */
function benchToken(model: Model, i: number): number {
  return (i * 7919 + 1) % model.config.nVocab;
}

async function readPrompt(
  model: Model,
  nTokens: number,
  signal: AbortSignal,
): Promise<{ prefillMs: number; firstTokenMs: number }> {
  await using session = await model.createSession();
  const sampler = createSampler({ temperature: 0 });
  const tokens = Array.from({ length: nTokens }, (_, i) => benchToken(model, i));
  const start = performance.now();
  const logits = await session.forward(tokens, { signal });
  const prefillMs = performance.now() - start;
  sampler.sample(logits);
  return { prefillMs, firstTokenMs: performance.now() - start };
}

/** Milliseconds in which each of `batch` sessions reads `nTokens` one at a time, with logits after each. */
async function decode(model: Model, batch: number, nTokens: number, signal: AbortSignal): Promise<number> {
  const sessions: Session[] = [];
  try {
    for (let i = 0; i < batch; i++) sessions.push(await model.createSession());
    const targets = sessions.map(() => new Float32Array(model.config.nVocab));
    const start = performance.now();
    for (let i = 0; i < nTokens; i++) {
      signal.throwIfAborted();
      await Promise.all(
        sessions.map((session, j) => session.forward([benchToken(model, i + j)], { target: targets[j] })),
      );
    }
    return performance.now() - start;
  } finally {
    for (const session of sessions) session.dispose();
  }
}

function rate(nTokens: number, ms: number): number {
  return (nTokens * 1000) / ms;
}

function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

function toText(report: BenchReport, model: Model, flags: BenchFlags): string {
  const { promptTokens, decodeTokens, batch } = flags;
  const sessions = batch === 1 ? "" : ` in each of ${batch} sessions`;
  const rows: readonly (readonly [string, Spread])[] = [
    ["load, ms", report.load.ms],
    [`prefill of ${promptTokens}, tokens/s`, report.prefill.tokensPerSecond],
    [`decode of ${decodeTokens}${sessions}, tokens/s`, report.decode.tokensPerSecond],
    ["time to first token, ms", report.timeToFirstTokenMs],
  ];
  const { memoryBandwidthBytesPerSecond: bandwidth, decodeBoundTokensPerSecond: bound } = report;
  return [
    `${model.info.name}, ${model.info.device}, rwkv ${version}`,
    `| measured | median of ${flags.repeat} | min | max |`,
    "| --- | ---: | ---: | ---: |",
    ...rows.map(
      ([label, { median, min, max }]) =>
        `| ${label} | ${median.toFixed(1)} | ${min.toFixed(1)} | ${max.toFixed(1)} |`,
    ),
    ...(report.ffnZeroShare === null
      ? []
      : [`inputs of ffn.value that were zero: ${(100 * report.ffnZeroShare).toFixed(1)} %`]),
    `weights ${megabytes(report.weightBytes)}, of which a decode step reads ${megabytes(report.bytesReadPerToken)}; ` +
      `peak memory ${megabytes(report.peakRssBytes)}`,
    bandwidth === null || bound === null
      ? "the read bandwidth of memory is not known: the native addon, which measures it, was not built"
      : `memory is read at ${(bandwidth / 1e9).toFixed(1)} GB/s, which bounds one session to ${bound.toFixed(1)} tokens/s`,
  ].join("\n");
}
