// npm run bench:peers: this library and llama.cpp on the same random weights, in turn, so that whatever else the machine
// does meets all of them alike: on the same GGUF files, and on this library's own types against the nearest of llama.cpp.
// Prints tables of speeds and ratios; writes it all as JSON, and charts of the ratios.

import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { barChart, type BarGroup } from "./chart.ts";
import {
  llamaEngine,
  messageOf,
  KERNEL_SORTS,
  MODELS_FOLDER,
  PEERS_FOLDER,
  rwkvEngine,
  rwkvKernels,
  type Engine,
  type Kernels,
  type Sample,
  type Work,
} from "./engines.ts";
import type { BenchDType } from "./blocks.ts";
import { measureLoad, type LoadTimes } from "./loading.ts";
import { BENCH_DTYPES, randomModel, SHAPES, type Shape } from "./models.ts";
import { OWN_DTYPES, ownModel } from "./own-models.ts";
import {
  describeMachine,
  parseChoices,
  parseCount,
  print,
  progress,
  runScript,
  writeResult,
} from "./script.ts";
import { formatSpread, spreadOf } from "./statistics.ts";
import { markdownTable } from "./table.ts";
import { bestOf, measureInTurn, MEASURES, RATES, ratiosTo, type Measure } from "./turns.ts";

/** What one engine is measured on. */
interface Entrant {
  readonly engine: Engine;
  readonly isPeer: boolean;
  /** The engine, and the type of its weights if it is not the peer's. */
  readonly label: string;
  readonly model: string;
}

/** One entrant's measurements. */
interface Series {
  readonly engine: string;
  readonly label: string;
  readonly isPeer: boolean;
  /** By round. */
  readonly samples: Sample[];
}

/** Everything measured on the weights of one model in one type of llama.cpp, and those of ours that it stands for. */
interface Comparison {
  readonly shape: string;
  readonly dtype: string;
  readonly series: readonly Series[];
}

/** How quickly one of our own files is loaded. */
interface Loading extends LoadTimes {
  readonly file: string;
  readonly kernels: string;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      shapes: { type: "string", default: SHAPES.map(({ name }) => name).join(",") },
      dtypes: { type: "string", default: BENCH_DTYPES.join(",") },
      rounds: { type: "string", default: "5" },
      kernels: { type: "string", default: KERNEL_SORTS.join(",") },
      threads: { type: "string", default: String(Math.min(2, availableParallelism())) },
      "prompt-tokens": { type: "string", default: "512" },
      "decode-tokens": { type: "string", default: "128" },
    },
  });
  const shapes = parseChoices("shapes", values.shapes, SHAPES, ({ name }) => name);
  const dtypes = parseChoices("dtypes", values.dtypes, BENCH_DTYPES, (dtype) => dtype);
  const nRounds = parseCount("rounds", values.rounds);
  const threads = parseCount("threads", values.threads);
  const work: Work = {
    promptTokens: parseCount("prompt-tokens", values["prompt-tokens"]),
    decodeTokens: parseCount("decode-tokens", values["decode-tokens"]),
  };
  // A second thread can make llama.cpp slower, so that each is tried; ratios are against the better one.
  const peers = [...new Set([1, threads])].map((n) => llamaEngine(PEERS_FOLDER, n));
  const machine = describeMachine();
  const sorts = parseChoices("kernels", values.kernels, KERNEL_SORTS, (sort) => sort);
  const kernels = await rwkvKernels(
    sorts,
    await randomModel(MODELS_FOLDER, shapes[0]!, dtypes[0]!),
    progress,
  );
  const comparisons: Comparison[] = [];
  const loadings: Loading[] = [];
  for (const shape of shapes) {
    for (const dtype of dtypes) {
      const own = await ownModels(shape, dtype);
      const entrants = await entrantsOf(shape, dtype, own, kernels, peers, threads);
      const series = await seriesOf(entrants, nRounds, work, `${shape.name} ${dtype}`);
      comparisons.push({ shape: shape.name, dtype, series });
      for (const one of kernels) {
        for (const { label, model } of own) {
          const times = await measureLoad(model, one);
          loadings.push({ file: `${shape.name} ${label}`, kernels: one.name, ...times });
        }
      }
      // After each model, so that an interrupted run leaves what it has.
      const results = { machine, nRounds, threads, work, comparisons, loadings };
      writeResult("peers.json", `${JSON.stringify(results, null, 2)}\n`);
    }
  }
  print(speedTable(comparisons));
  if (loadings.length > 0) print(`\n${loadingTable(loadings)}`);
  for (const measure of MEASURES) {
    const title = `${measure}: tokens per second as a multiple of llama.cpp's`;
    writeResult(`peers-${measure}.svg`, barChart(title, ratioGroups(comparisons, measure), 2, 1));
  }
}

interface OwnModel {
  readonly label: string;
  readonly model: string;
}

/** The same weights in our own types; one that cannot be made is left out, and why is said. */
async function ownModels(shape: Shape, dtype: BenchDType): Promise<OwnModel[]> {
  const models: OwnModel[] = [];
  for (const own of OWN_DTYPES[dtype]) {
    try {
      models.push({ label: own, model: await ownModel(MODELS_FOLDER, shape, own) });
    } catch (error) {
      progress(`left out: ${shape.name} ${own}: ${messageOf(error)}`);
    }
  }
  return models;
}

async function entrantsOf(
  shape: Shape,
  dtype: BenchDType,
  own: readonly OwnModel[],
  kernels: readonly Kernels[],
  peers: readonly Engine[],
  threads: number,
): Promise<Entrant[]> {
  const model = await randomModel(MODELS_FOLDER, shape, dtype);
  const ours = kernels.flatMap((one) => {
    const engine = rwkvEngine(one, threads);
    // The kernels that skip zeros, once more without.
    const dense = one.native === "1" ? [rwkvEngine(one, threads, false)] : [];
    return [
      ...dense.map((other) => ({ engine: other, isPeer: false, label: other.name, model })),
      { engine, isPeer: false, label: engine.name, model },
      ...own.map((file) => ({
        engine,
        isPeer: false,
        label: `${engine.name}, ${file.label}`,
        model: file.model,
      })),
    ];
  });
  return [...ours, ...peers.map((engine) => ({ engine, isPeer: true, label: engine.name, model }))];
}

async function seriesOf(
  entrants: readonly Entrant[],
  nRounds: number,
  work: Work,
  what: string,
): Promise<Series[]> {
  const samples = await measureInTurn(
    entrants,
    nRounds,
    what,
    ({ engine, model }) => engine.measure(model, work),
    ({ label }) => label,
  );
  return entrants.map(({ engine, label, isPeer }, i) => ({
    engine: engine.name,
    label,
    isPeer,
    samples: samples[i]!,
  }));
}

function bestPeer({ series }: Comparison, measure: Measure): Series {
  return bestOf(
    series.filter(({ isPeer }) => isPeer),
    measure,
  );
}

function ratioGroups(comparisons: readonly Comparison[], measure: Measure): BarGroup[] {
  return comparisons.map((comparison) => ({
    label: `${comparison.shape} ${comparison.dtype}`,
    bars: comparison.series
      .filter(({ isPeer }) => !isPeer)
      .map((one) => ({
        label: one.label,
        kind: one.engine,
        value: ratiosTo(bestPeer(comparison, measure), one, measure),
      })),
  }));
}

function speedTable(comparisons: readonly Comparison[]): string {
  const heading = [
    "model",
    "engine",
    ...MEASURES.flatMap((measure) => [`${measure}, tokens/s`, "ratio"]),
    "decode / bound",
    "peak MB",
    "above weights",
  ];
  const rows = comparisons.flatMap((comparison) =>
    comparison.series.map(({ label, isPeer, samples }, i) => [
      `${comparison.shape} ${comparison.dtype}`,
      label,
      ...MEASURES.flatMap((measure) => [
        formatSpread(spreadOf(samples.map(RATES[measure])), 1),
        isPeer
          ? ""
          : formatSpread(ratiosTo(bestPeer(comparison, measure), comparison.series[i]!, measure), 2),
      ]),
      medianOf(samples, ({ shareOfBound }) => shareOfBound, 2),
      medianOf(samples, ({ peakRssBytes }) => peakRssBytes / 1e6, 0),
      medianOf(
        samples,
        ({ peakRssBytes, weightBytes }) => weightBytes && (peakRssBytes - weightBytes) / 1e6,
        0,
      ),
    ]),
  );
  return markdownTable([heading, ...rows], 2);
}

/** Of what is known; empty if nothing is. */
function medianOf(
  samples: readonly Sample[],
  valueOf: (sample: Sample) => number | null,
  nDecimals: number,
): string {
  const values = samples.map(valueOf).filter((value) => value !== null);
  return values.length === 0 ? "" : spreadOf(values).median.toFixed(nDecimals);
}

function loadingTable(loadings: readonly Loading[]): string {
  const rows = loadings.map(({ file, kernels, load, read }) => [
    file,
    kernels,
    load.toFixed(0),
    read.toFixed(0),
    (load / read).toFixed(2),
  ]);
  return markdownTable([["file", "kernels", "load, ms", "reading it, ms", "ratio"], ...rows], 2);
}

await runScript(main);
