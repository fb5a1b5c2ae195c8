// npm run bench:training: how fast the recipe of the demo model trains, and which share that is of the fastest f32 products
// of the machine, measured in turn with it. Prints a table; writes JSON.

import { mkdtemp, readFile, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { Worker } from "node:worker_threads";
import { readTrainConfig, train } from "rwkv-train";
import { describeMachine, parseCount, print, progress, runScript, writeResult } from "./script.ts";
import { formatSpread, spreadOf } from "./statistics.ts";
import { markdownTable } from "./table.ts";

const RECIPE = resolve(import.meta.dirname, "../../models/demo/recipe/train.json");
/** Steps of each training: the first ones fill caches and are left out. */
const N_STEPS = 24;
const N_WARM_STEPS = 4;
/** Time for threads to load kernels, and what they then measure. */
const PEAK_LOAD_MS = 1500;
const PEAK_MS = 3000;
/** A forward product of one weight and one token, and those of its two gradients. */
const FLOPS_PER_WEIGHT = 6;

interface Turn {
  readonly tokensPerSecond: number;
  /** Of products with matrices, forward and backward. */
  readonly flops: number;
  /** Of all threads together. */
  readonly peakFlops: number;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      rounds: { type: "string", default: "3" },
      threads: { type: "string", default: String(availableParallelism()) },
    },
  });
  const rounds = parseCount("rounds", values.rounds);
  const threads = parseCount("threads", values.threads);
  const turns: Turn[] = [];
  for (let round = 1; round <= rounds; round++) {
    const peakFlops = await measurePeak(threads);
    const { tokensPerSecond, flopsPerToken } = await measureTraining(threads);
    const flops = tokensPerSecond * flopsPerToken;
    turns.push({ tokensPerSecond, flops, peakFlops });
    progress(`round ${round}: ${tokensPerSecond.toFixed(0)} tokens/s, ${percent(flops / peakFlops)}`);
  }
  const row = (name: string, of: (turn: Turn) => number, nDecimals = 0): string[] => [
    name,
    formatSpread(spreadOf(turns.map(of)), nDecimals),
  ];
  const table = [
    [`the demo's recipe, ${threads} threads`, "median (least to most)"],
    row("tokens/s", (turn) => turn.tokensPerSecond),
    row("products of matrices, GFLOP/s", (turn) => turn.flops / 1e9, 1),
    row("fastest f32 products, GFLOP/s", (turn) => turn.peakFlops / 1e9, 1),
    row("share, %", (turn) => (100 * turn.flops) / turn.peakFlops, 1),
  ];
  print(markdownTable(table, 1));
  const result = { machine: describeMachine(), threads, turns };
  writeResult("training.json", `${JSON.stringify(result, null, 2)}\n`);
}

/** Floating-point operations per second of all threads at once. */
async function measurePeak(threads: number): Promise<number> {
  const start = performance.timeOrigin + performance.now() + PEAK_LOAD_MS;
  const workerData = { start, end: start + PEAK_MS };
  const rates = await Promise.all(
    Array.from({ length: threads }, () => {
      const worker = new Worker(new URL("training-peak.js", import.meta.url), { workerData });
      return new Promise<number>((fulfil, reject) => {
        worker.once("error", reject);
        worker.once("message", ({ flops, ms }: { flops: number; ms: number }) => {
          fulfil((1000 * flops) / ms);
        });
      });
    }),
  );
  return rates.reduce((sum, rate) => sum + rate, 0);
}

async function measureTraining(threads: number): Promise<{ tokensPerSecond: number; flopsPerToken: number }> {
  const out = await mkdtemp(join(tmpdir(), "rwkv-bench-training-"));
  try {
    const recipe = JSON.parse(await readFile(RECIPE, "utf8")) as RecipeFile;
    const config = readTrainConfig({ ...recipe, out, threads }, dirname(RECIPE));
    const controller = new AbortController();
    const measured = new Error("measured");
    let nWeights = 0;
    let [firstTokens, firstMs, tokensPerSecond] = [0, 0, 0];
    const running = train(config, {
      signal: controller.signal,
      onStart: ({ nParameters }) => {
        // Every parameter of consequence is a matrix; the embedding is looked up.
        nWeights = nParameters - recipe.model.vocab * recipe.model.embedding;
      },
      onStep: ({ step, nTokens }) => {
        if (step === N_WARM_STEPS) [firstTokens, firstMs] = [nTokens, performance.now()];
        if (step < N_STEPS) return;
        tokensPerSecond = (1000 * (nTokens - firstTokens)) / (performance.now() - firstMs);
        controller.abort(measured);
      },
    });
    await running.catch((error: unknown) => {
      if (error !== measured) throw error;
    });
    return { tokensPerSecond, flopsPerToken: FLOPS_PER_WEIGHT * nWeights };
  } finally {
    await rm(out, { recursive: true });
  }
}

/** What is read of the recipe here. */
interface RecipeFile {
  readonly model: { readonly vocab: number; readonly embedding: number };
}

const percent = (share: number): string => `${(100 * share).toFixed(1)} %`;

await runScript(main);
