// npm run bench:scaling: what a token costs as threads, prompt, batch and model grow, and as a sequence gets longer. Prints
// tables; writes them as JSON and one chart each.

import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { lineChart, type Line } from "./chart.ts";
import {
  KERNEL_SORTS,
  MODELS_FOLDER,
  runPositions,
  runRwkv,
  rwkvKernels,
  type Kernels,
  type RwkvOptions,
} from "./engines.ts";
import { BENCH_DTYPES, randomModel, SHAPES, type Shape } from "./models.ts";
import {
  describeMachine,
  parseChoices,
  parseCount,
  print,
  progress,
  runScript,
  writeResult,
} from "./script.ts";
import { formatSpread, spreadOf, type Spread } from "./statistics.ts";
import { markdownTable } from "./table.ts";

/** What can be varied. */
const SWEEP_NAMES = ["threads", "prompt", "batch", "model", "position"] as const;
const PROMPT_LENGTHS = [1, 16, 64, 256, 1024] as const;
const BATCHES = [1, 2, 4, 8, 16] as const;
/** Tokens of a sequence before those that are measured. */
const POSITIONS = [100, 1000, 10_000] as const;
/** Where the prompt or the batch is not what varies. */
const USUAL = { promptTokens: 128, batch: 1 } as const;

/** One value of what varies. */
interface Point {
  readonly label: string;
  readonly shape: Shape;
  readonly options: RwkvOptions;
}

interface Sweep {
  readonly name: (typeof SWEEP_NAMES)[number];
  readonly xLabel: string;
  readonly points: readonly Point[];
}

/** Milliseconds per token. */
interface Cost {
  readonly label: string;
  /** Null where it is not measured. */
  readonly prefill: Spread | null;
  readonly decode: Spread;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      shape: { type: "string", default: "0.4b" },
      shapes: { type: "string", default: SHAPES.map(({ name }) => name).join(",") },
      sweeps: { type: "string", default: SWEEP_NAMES.join(",") },
      dtype: { type: "string", default: "q8_0" },
      repeat: { type: "string", default: "3" },
      kernels: { type: "string", default: KERNEL_SORTS.join(",") },
      threads: { type: "string", default: String(availableParallelism()) },
      "decode-tokens": { type: "string", default: "32" },
    },
  });
  const nameOf = ({ name }: Shape): string => name;
  const [shape] = parseChoices("shape", values.shape, SHAPES, nameOf);
  const shapes = parseChoices("shapes", values.shapes, SHAPES, nameOf);
  const [dtype] = parseChoices("dtype", values.dtype, BENCH_DTYPES, (choice) => choice);
  const chosen = parseChoices("sweeps", values.sweeps, SWEEP_NAMES, (name) => name);
  const repeat = parseCount("repeat", values.repeat);
  const threads = parseCount("threads", values.threads);
  const usual = { ...USUAL, threads, decodeTokens: parseCount("decode-tokens", values["decode-tokens"]) };
  const sweeps: readonly Sweep[] = [
    {
      name: "threads",
      xLabel: "threads",
      points: powersOfTwo(threads).map((n) => ({
        label: String(n),
        shape: shape!,
        options: { ...usual, threads: n },
      })),
    },
    {
      name: "prompt",
      xLabel: "tokens of the prompt",
      points: PROMPT_LENGTHS.map((promptTokens) => ({
        label: String(promptTokens),
        shape: shape!,
        options: { ...usual, promptTokens },
      })),
    },
    {
      name: "batch",
      xLabel: "sessions decoded together",
      points: BATCHES.map((batch) => ({ label: String(batch), shape: shape!, options: { ...usual, batch } })),
    },
    {
      name: "model",
      xLabel: "shape of the model",
      points: shapes.map((one) => ({ label: one.name, shape: one, options: usual })),
    },
  ];
  const machine = describeMachine();
  const sorts = parseChoices("kernels", values.kernels, KERNEL_SORTS, (sort) => sort);
  const kernels = await rwkvKernels(sorts, await randomModel(MODELS_FOLDER, shape!, dtype!), progress);
  const results: { sweep: string; kernels: string; costs: readonly Cost[] }[] = [];
  const report = (
    name: string,
    xLabel: string,
    shapeName: string,
    all: ReadonlyMap<string, Cost[]>,
  ): void => {
    const lines: Line[] = [];
    for (const [kernelsName, costs] of all) {
      if (costs.every(({ prefill }) => prefill !== null)) {
        const values = costs.map(({ prefill }) => prefill);
        lines.push({ label: `prefill, ${kernelsName}`, kind: kernelsName, isDashed: true, values });
      }
      const values = costs.map(({ decode }) => decode);
      lines.push({ label: `decode, ${kernelsName}`, kind: kernelsName, isDashed: false, values });
      results.push({ sweep: name, kernels: kernelsName, costs });
      print(toTable(xLabel, kernelsName, costs));
    }
    const categories = [...all.values()][0]?.map(({ label }) => label) ?? [];
    const title = `Cost of a token by ${xLabel} (${shapeName}${dtype!})`;
    writeResult(`scaling-${name}.svg`, lineChart(title, xLabel, "ms per token", categories, lines));
    // After each sweep, so that an interrupted run leaves what it has.
    writeResult("scaling.json", `${JSON.stringify({ machine, dtype, repeat, usual, results }, null, 2)}\n`);
  };
  for (const { name, xLabel, points } of sweeps.filter((sweep) => chosen.includes(sweep.name))) {
    const all = new Map<string, Cost[]>();
    for (const one of kernels) {
      const costs: Cost[] = [];
      for (const point of points) {
        const model = await randomModel(MODELS_FOLDER, point.shape, dtype!);
        const cost = await measure(model, point, one, repeat);
        costs.push(cost);
        progress(`${name} ${point.label}, ${one.name}: decode ${cost.decode.median.toFixed(2)} ms/token`);
      }
      all.set(one.name, costs);
    }
    report(name, xLabel, name === "model" ? "" : `${shape!.name}, `, all);
  }
  if (!chosen.includes("position")) return;
  const byPosition = new Map<string, Cost[]>();
  for (const one of kernels) {
    const model = await randomModel(MODELS_FOLDER, shape!, dtype!);
    const turns = await runPositions(model, one, threads, POSITIONS);
    byPosition.set(
      one.name,
      POSITIONS.map((position, i) => ({
        label: String(position),
        prefill: null,
        decode: spreadOf(turns[i]!),
      })),
    );
  }
  report("position", "tokens read before", `${shape!.name}, `, byPosition);
}

async function measure(
  model: string,
  { label, options }: Point,
  kernels: Kernels,
  repeat: number,
): Promise<Cost> {
  const prefill: number[] = [];
  const decode: number[] = [];
  for (let i = 0; i < repeat; i++) {
    const report = await runRwkv(model, kernels, options);
    prefill.push(1000 / report.prefill.tokensPerSecond.median);
    decode.push(1000 / report.decode.tokensPerSecond.median);
  }
  return { label, prefill: spreadOf(prefill), decode: spreadOf(decode) };
}

/** 1, 2, 4 and so on below `most`, and `most`. */
function powersOfTwo(most: number): number[] {
  const values: number[] = [];
  for (let value = 1; value < most; value *= 2) values.push(value);
  return [...values, most];
}

function toTable(xLabel: string, kernels: string, costs: readonly Cost[]): string {
  const heading = [`${xLabel} (${kernels})`, "prefill, ms/token", "decode, ms/token"];
  const rows = costs.map(({ label, prefill, decode }) => [
    label,
    prefill === null ? "" : formatSpread(prefill, 2),
    formatSpread(decode, 2),
  ]);
  return `${markdownTable([heading, ...rows], 1)}\n`;
}

await runScript(main);
