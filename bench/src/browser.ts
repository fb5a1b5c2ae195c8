// npm run bench:browser: this library and wllama (llama.cpp in WebAssembly) in Chromium, in turn, on the same random GGUF files
// and as many threads, and wllama on one thread too. Prints a table of speeds and ratios; writes it all as JSON.

import { basename } from "node:path";
import { parseArgs } from "node:util";
import { MODELS_FOLDER, type Work } from "./engines.ts";
import type { BenchDType } from "./blocks.ts";
import { BENCH_DTYPES, randomModel, SHAPES } from "./models.ts";
import { checkPages, measurePage, type PageEngine, type PageSample } from "./page.ts";
import { describeMachine, parseChoices, parseCount, print, runScript, writeResult } from "./script.ts";
import { formatSpread, spreadOf, type Spread } from "./statistics.ts";
import { markdownTable } from "./table.ts";
import { bestOf, measureInTurn, MEASURES, RATES, ratiosTo, type Measure } from "./turns.ts";

/** One engine's measurements of one file. */
interface Series {
  readonly engine: PageEngine;
  readonly threads: number;
  /** By round. */
  readonly samples: readonly PageSample[];
}

interface Comparison {
  readonly shape: string;
  readonly dtype: BenchDType;
  readonly series: readonly Series[];
  /** Of this library to the better of the others, over the rounds. */
  readonly ratios: Readonly<Record<Measure, Spread>>;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      shapes: { type: "string", default: "0.1b" },
      dtypes: { type: "string", default: BENCH_DTYPES.join(",") },
      rounds: { type: "string", default: "5" },
      threads: { type: "string", default: "2" },
      "prompt-tokens": { type: "string", default: "512" },
      "decode-tokens": { type: "string", default: "64" },
    },
  });
  const shapes = parseChoices("shapes", values.shapes, SHAPES, ({ name }) => name);
  const dtypes = parseChoices("dtypes", values.dtypes, BENCH_DTYPES, (dtype) => dtype);
  const nRounds = parseCount("rounds", values.rounds);
  const threads = parseCount("threads", values.threads);
  const work: Work = {
    promptTokens: parseCount("prompt-tokens", values["prompt-tokens"]),
    // The first token drawn is where decode begins.
    decodeTokens: 1 + parseCount("decode-tokens", values["decode-tokens"]),
  };
  checkPages();
  const machine = describeMachine();
  const comparisons: Comparison[] = [];
  for (const shape of shapes) {
    for (const dtype of dtypes) {
      const model = await randomModel(MODELS_FOLDER, shape, dtype);
      const series = await seriesOf(model, nRounds, threads, work);
      const ratios = { prefill: ratiosOf(series, "prefill"), decode: ratiosOf(series, "decode") };
      comparisons.push({ shape: shape.name, dtype, series, ratios });
      // After each model, so that an interrupted run leaves what it has.
      const results = { machine, nRounds, threads, work, comparisons };
      writeResult("browser.json", `${JSON.stringify(results, null, 2)}\n`);
    }
  }
  print(speedTable(comparisons));
}

async function seriesOf(model: string, nRounds: number, threads: number, work: Work): Promise<Series[]> {
  const entrants: Omit<Series, "samples">[] = [{ engine: "rwkv", threads }];
  // A second thread can make llama.cpp slower, so that each is tried.
  for (const n of new Set([threads, 1])) entrants.push({ engine: "wllama", threads: n });
  const samples = await measureInTurn(
    entrants,
    nRounds,
    basename(model),
    (one) => measurePage(one.engine, model, one.threads, work),
    ({ engine }, sample) => labelOf(engine, sample),
  );
  return entrants.map((one, i) => ({ ...one, samples: samples[i]! }));
}

function labelOf(engine: PageEngine, { description }: PageSample): string {
  return `${engine}: ${description}`;
}

/** To the better of the peers. */
function ratiosOf([own, ...peers]: readonly Series[], measure: Measure): Spread {
  return ratiosTo(bestOf(peers, measure), own!, measure);
}

function speedTable(comparisons: readonly Comparison[]): string {
  const heading = [
    "model",
    "engine",
    ...MEASURES.flatMap((measure) => [`${measure}, tokens/s`, "ratio"]),
    "load, ms",
  ];
  const rows = comparisons.flatMap(({ shape, dtype, series, ratios }) =>
    series.map((one) => [
      `${shape} ${dtype}`,
      labelOf(one.engine, one.samples[0]!),
      ...MEASURES.flatMap((measure) => [
        formatSpread(spreadOf(one.samples.map(RATES[measure])), 1),
        one.engine === "rwkv" ? formatSpread(ratios[measure], 2) : "",
      ]),
      spreadOf(one.samples.map(({ loadMs }) => loadMs)).median.toFixed(0),
    ]),
  );
  return markdownTable([heading, ...rows], 2);
}

await runScript(main);
