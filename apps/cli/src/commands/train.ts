// rwkv train: trains as a configuration file says. Results stay in the folder that it names; Ctrl-C saves a checkpoint,
// and the same command goes on from it.

import { readFile } from "node:fs/promises";
import { dirname, resolve } from "node:path";
import type { Command } from "commander";
import { UsageError } from "rwkv";
import type { TrainStart, TrainStep } from "rwkv-train";
import { withInterrupt } from "../interrupt.ts";
import { writeLine } from "../output.ts";

interface TrainFlags {
  readonly quiet?: boolean;
}

/** Time between two lines of progress, so that a training of an hour leaves a log that can be read. */
const LINE_MS = 5000;

export function addTrain(program: Command): void {
  program
    .command("train")
    .description("Train a model, adapters (LoRA) or an initial state, as a JSON file says.")
    .argument("<config>", "configuration file; paths in it are relative to its folder")
    .option("-q, --quiet", "no progress")
    .addHelpText(
      "after",
      `
Example of a configuration, for a fresh model:
  {
    "mode": "full", "out": "run", "tokenizer": "vocab.txt",
    "model": { "layers": 6, "embedding": 128, "headSize": 32 },
    "data": { "files": ["corpus.jsonl"], "context": 256, "batch": 32 },
    "tokens": 25000000, "rate": { "from": 0.002, "to": 0.0002 }, "threads": 2
  }
docs/training.md has all keys. Ctrl-C saves a checkpoint; the same command goes on from it.`,
    )
    .action((path: string, flags: TrainFlags) => run(path, flags));
}

async function run(path: string, flags: TrainFlags): Promise<void> {
  // loaded here, so that no other command pays for it
  const { readTrainConfig, train } = await import("rwkv-train");
  const config = readTrainConfig(await readJson(path), dirname(resolve(path)));
  await withInterrupt(async ({ signal }) => {
    const isQuiet = flags.quiet === true;
    const report = createReport(config.tokens);
    const result = await train(config, {
      signal,
      onStart: isQuiet ? undefined : report.start,
      onStep: isQuiet ? undefined : report.step,
    });
    await writeLine(result.path);
  });
}

async function readJson(path: string): Promise<unknown> {
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (cause) {
    throw new UsageError(`${path} cannot be read: ${(cause as Error).message}.`, { cause });
  }
  try {
    return JSON.parse(text) as unknown;
  } catch (cause) {
    throw new UsageError(`${path} is not JSON: ${(cause as Error).message}.`, { cause });
  }
}

interface Report {
  readonly start: (start: TrainStart) => void;
  readonly step: (step: TrainStep) => void;
}

function createReport(plannedTokens: number): Report {
  let lastMs = -Infinity;
  let losses: number[] = [];
  const write = (line: string): void => void process.stderr.write(`${line}\n`);
  return {
    start({ nParameters, nTrained, nDocuments, nDataTokens, resumedStep, kernels, memoryByteLength }) {
      const trained = nTrained === nParameters ? "" : `, ${millions(nTrained)} trained`;
      write(
        `${millions(nParameters)} parameters${trained}; ${kernels}, ${Math.ceil(memoryByteLength / 1e6)} MB`,
      );
      write(
        `${nDocuments} documents with ${millions(nDataTokens)} tokens; ${millions(plannedTokens)} to be read`,
      );
      if (resumedStep > 0) write(`going on after step ${resumedStep}`);
    },
    step(step) {
      losses.push(step.loss);
      const now = performance.now();
      const isLast = step.nTokens >= step.plannedTokens;
      if (now - lastMs < LINE_MS && !isLast) return;
      lastMs = now;
      const loss = losses.reduce((sum, value) => sum + value, 0) / losses.length;
      losses = [];
      write(
        [
          `step ${step.step}`,
          `${millions(step.nTokens)} tokens`,
          `loss ${loss.toFixed(4)}`,
          `norm ${step.norm.toFixed(3)}`,
          `rate ${step.rate.toExponential(2)}`,
          `${Math.round(step.tokensPerSecond)} tokens/s`,
          `${duration(step.remainingMs)} left`,
        ].join("  "),
      );
    },
  };
}

function millions(count: number): string {
  return count >= 1e6 ? `${(count / 1e6).toFixed(2)} M` : String(count);
}

function duration(ms: number): string {
  const seconds = Math.round(ms / 1000);
  const pad = (value: number): string => String(value).padStart(2, "0");
  return `${Math.floor(seconds / 3600)}:${pad(Math.floor(seconds / 60) % 60)}:${pad(seconds % 60)}`;
}
