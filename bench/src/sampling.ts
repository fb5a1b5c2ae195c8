// npm run bench:sampling: what drawing a token costs over 65,536 candidates, for each sampler and for distributions from peaked
// to flat, beside one decoded token of a model. Sampler and model take turns, so that whatever else the machine does meets
// both alike. Prints a table and writes it as JSON.

import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { createSampler, loadModel, type SamplingOptions } from "rwkv";
import { MODELS_FOLDER } from "./engines.ts";
import { BENCH_DTYPES, randomModel, SHAPES } from "./models.ts";
import { describeMachine, parseChoices, parseCount, print, runScript, writeResult } from "./script.ts";
import { formatSpread, spreadOf, type Spread } from "./statistics.ts";
import { markdownTable } from "./table.ts";

const N_VOCAB = 65_536;
/** Draws, and decoded tokens, of each turn. */
const DRAWS_PER_TURN = 20;
const TOKENS_PER_TURN = 4;

/** Logits: normal with this deviation, the likeliest few raised by up to `head`. */
const DISTRIBUTIONS = [
  { name: "peaked", deviation: 2.5, head: 30, nHead: 1 },
  { name: "like a model's", deviation: 2.5, head: 14, nHead: 40 },
  { name: "wide", deviation: 1, head: 0, nHead: 0 },
  { name: "flat", deviation: 0.05, head: 0, nHead: 0 },
] as const;

const SAMPLERS: readonly (readonly [string, SamplingOptions])[] = [
  ["default: top-p 0.85", {}],
  ["greedy", { temperature: 0 }],
  ["nothing but the draw", { topP: 1 }],
  ["top-k 40", { topP: 1, topK: 40 }],
  ["min-p 0.05", { minP: 0.05 }],
  ["typical 0.9", { typical: 0.9 }],
  ["tail-free 0.95", { tailFree: 0.95 }],
  ["mirostat", { mirostat: {} }],
  ["mirostat 1", { mirostat: { version: 1 } }],
  ["xtc, default", { xtc: {} }],
  ["penalties 0.4, 0.4, default", { presencePenalty: 0.4, frequencyPenalty: 0.4 }],
  ["repetition 1.2, default", { repetitionPenalty: 1.2 }],
  ["dry, default", { dry: {} }],
  ["sequence repetition, default", { sequenceRepetition: { flat: 1, tolerance: 1 } }],
];

interface Cost {
  readonly sampler: string;
  readonly distribution: string;
  /** Milliseconds per draw. */
  readonly draw: Spread;
  /** Of the median token of the model. */
  readonly share: number;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      shape: { type: "string", default: "0.4b" },
      dtype: { type: "string", default: "q8_0" },
      repeat: { type: "string", default: "15" },
      threads: { type: "string", default: String(availableParallelism()) },
    },
  });
  const [shape] = parseChoices("shape", values.shape, SHAPES, ({ name }) => name);
  const [dtype] = parseChoices("dtype", values.dtype, BENCH_DTYPES, (choice) => choice);
  const repeat = parseCount("repeat", values.repeat);
  const threads = parseCount("threads", values.threads);
  const machine = describeMachine();
  await using model = await loadModel(await randomModel(MODELS_FOLDER, shape!, dtype!), { threads });
  await using session = await model.createSession();
  const target = new Float32Array(model.config.nVocab);
  const rows = DISTRIBUTIONS.map(logitsOf);
  const cases = SAMPLERS.flatMap(([sampler, options]) =>
    DISTRIBUTIONS.map(({ name: distribution }, i) => ({
      sampler,
      distribution,
      row: rows[i]!,
      // A history as long as one is kept, so that penalties have all their work.
      instance: begun(options),
      draws: [] as number[],
    })),
  );
  const decodeMs: number[] = [];
  // The first turn warms up.
  for (let turn = 0; turn <= repeat; turn++) {
    let start = performance.now();
    for (let i = 0; i < TOKENS_PER_TURN; i++)
      await session.forward([(turn * 7919 + i) % N_VOCAB], { target });
    if (turn > 0) decodeMs.push((performance.now() - start) / TOKENS_PER_TURN);
    for (const { instance, row, draws } of cases) {
      start = performance.now();
      for (let i = 0; i < DRAWS_PER_TURN; i++) instance.sample(row);
      if (turn > 0) draws.push((performance.now() - start) / DRAWS_PER_TURN);
    }
  }
  const token = spreadOf(decodeMs);
  const costs = cases.map(({ sampler, distribution, draws }): Cost => {
    const draw = spreadOf(draws);
    return { sampler, distribution, draw, share: draw.median / token.median };
  });
  const { device } = model.info;
  print(`One token of ${shape!.name} ${dtype!} on ${device}: ${formatSpread(token, 1)} ms.`);
  print("Milliseconds per draw, and their share of that token:\n");
  print(
    markdownTable(
      [
        ["sampler", ...DISTRIBUTIONS.map(({ name }) => name)],
        ...SAMPLERS.map(([name]) => rowOf(name, costs)),
      ],
      1,
    ),
  );
  writeResult(
    "sampling.json",
    JSON.stringify({ machine, device, shape: shape!.name, dtype, token, costs }, null, 2),
  );
}

function begun(options: SamplingOptions): ReturnType<typeof createSampler> {
  const sampler = createSampler({ ...options, seed: 1 });
  sampler.begin(Array.from({ length: 1024 }, (_, i) => (i * i * 31) % N_VOCAB));
  return sampler;
}

function rowOf(sampler: string, costs: readonly Cost[]): string[] {
  const own = costs.filter((cost) => cost.sampler === sampler);
  return [
    sampler,
    ...own.map(({ draw, share }) => `${draw.median.toFixed(2)} (${(100 * share).toFixed(1)} %)`),
  ];
}

function logitsOf({ deviation, head, nHead }: (typeof DISTRIBUTIONS)[number]): Float32Array {
  let state = 1;
  const unit = (): number => (state = (Math.imul(state, 1664525) + 1013904223) >>> 0) / 2 ** 32;
  return Float32Array.from({ length: N_VOCAB }, (_, id) => {
    // Twelve even numbers are nearly normal together.
    let sum = -6;
    for (let i = 0; i < 12; i++) sum += unit();
    return deviation * sum + (id % 1600 === 0 && id / 1600 < nHead ? head * (1 - id / 1600 / 80) : 0);
  });
}

await runScript(main);
