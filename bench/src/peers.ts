// npm run bench:peers: this library and llama.cpp on the same random files, in turn, so that whatever else the machine
// does meets all of them alike. Prints a table of speeds and ratios; writes it all as JSON, and charts of the ratios.

import { availableParallelism } from "node:os";
import { parseArgs } from "node:util";
import { barChart, type BarGroup } from "./chart.ts";
import {
  llamaEngine,
  MODELS_FOLDER,
  PEERS_FOLDER,
  rwkvEngine,
  rwkvKernels,
  type Engine,
  type Sample,
  type Work,
} from "./engines.ts";
import { BENCH_DTYPES, randomModel, SHAPES } from "./models.ts";
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

const MEASURES = ["prefill", "decode"] as const;
type Measure = (typeof MEASURES)[number];

const RATES: Readonly<Record<Measure, (sample: Sample) => number>> = {
  prefill: (sample) => sample.prefillTokensPerSecond,
  decode: (sample) => sample.decodeTokensPerSecond,
};

/** One engine on one model. */
interface Series {
  readonly engine: string;
  readonly isPeer: boolean;
  /** By round. */
  readonly samples: Sample[];
}

/** Everything measured on one model. */
interface Comparison {
  readonly shape: string;
  readonly dtype: string;
  readonly series: readonly Series[];
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      shapes: { type: "string", default: SHAPES.map(({ name }) => name).join(",") },
      dtypes: { type: "string", default: BENCH_DTYPES.join(",") },
      rounds: { type: "string", default: "5" },
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
  const comparisons: Comparison[] = [];
  let ours: readonly Engine[] | null = null;
  for (const shape of shapes) {
    for (const dtype of dtypes) {
      const model = await randomModel(MODELS_FOLDER, shape, dtype);
      ours ??= (await rwkvKernels(model, progress)).map((kernels) => rwkvEngine(kernels, threads));
      const series = [
        ...ours.map((engine) => ({ engine, isPeer: false, samples: [] as Sample[] })),
        ...peers.map((engine) => ({ engine, isPeer: true, samples: [] as Sample[] })),
      ];
      for (let round = 0; round < nRounds; round++) {
        // Every other round backwards, so that no engine always follows the same one.
        for (const { engine, samples } of round % 2 === 0 ? series : series.toReversed()) {
          const sample = await engine.measure(model, work);
          samples.push(sample);
          progress(
            `${shape.name} ${dtype}, round ${round + 1} of ${nRounds}, ${engine.name}: ` +
              `${MEASURES.map((measure) => `${measure} ${RATES[measure](sample).toFixed(1)}`).join(", ")} tokens/s`,
          );
        }
      }
      comparisons.push({
        shape: shape.name,
        dtype,
        series: series.map((one) => ({ ...one, engine: one.engine.name })),
      });
      // After each model, so that an interrupted run leaves what it has.
      writeResult(
        "peers.json",
        `${JSON.stringify({ machine, nRounds, threads, work, comparisons }, null, 2)}\n`,
      );
    }
  }
  print(toTable(comparisons));
  for (const measure of MEASURES) {
    const title = `${measure}: tokens per second as a multiple of llama.cpp's`;
    writeResult(`peers-${measure}.svg`, barChart(title, ratioGroups(comparisons, measure), 2, 1));
  }
}

/** The peer's series with the better median. */
function bestPeer({ series }: Comparison, measure: Measure): Series {
  const medianOf = ({ samples }: Series): number => spreadOf(samples.map(RATES[measure])).median;
  return series.filter(({ isPeer }) => isPeer).toSorted((a, b) => medianOf(b) - medianOf(a))[0]!;
}

/** Over the rounds: each measurement against the one of the peer in the same round. */
function ratios(one: Series, peer: Series, measure: Measure): Spread {
  const rateOf = RATES[measure];
  return spreadOf(one.samples.map((sample, round) => rateOf(sample) / rateOf(peer.samples[round]!)));
}

function ratioGroups(comparisons: readonly Comparison[], measure: Measure): BarGroup[] {
  return comparisons.map((comparison) => ({
    label: `${comparison.shape} ${comparison.dtype}`,
    bars: comparison.series
      .filter(({ isPeer }) => !isPeer)
      .map((one) => ({
        label: one.engine,
        value: ratios(one, bestPeer(comparison, measure), measure),
      })),
  }));
}

function toTable(comparisons: readonly Comparison[]): string {
  const heading = [
    "model",
    "engine",
    ...MEASURES.flatMap((measure) => [`${measure}, tokens/s`, "ratio"]),
    "peak MB",
  ];
  const rows = comparisons.flatMap((comparison) =>
    comparison.series.map((one) => [
      `${comparison.shape} ${comparison.dtype}`,
      one.engine,
      ...MEASURES.flatMap((measure) => [
        formatSpread(spreadOf(one.samples.map(RATES[measure])), 1),
        one.isPeer ? "" : formatSpread(ratios(one, bestPeer(comparison, measure), measure), 2),
      ]),
      (spreadOf(one.samples.map(({ peakRssBytes }) => peakRssBytes)).median / 1e6).toFixed(0),
    ]),
  );
  return markdownTable([heading, ...rows], 2);
}

await runScript(main);
