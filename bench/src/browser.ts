// npm run bench:browser: this library and wllama (llama.cpp in WebAssembly) in Chromium, in turn, on the same random GGUF files
// and as many threads. Prints a table of speeds and ratios; writes it all as JSON.

import { parseArgs } from "node:util";
import { MODELS_FOLDER, type Work } from "./engines.ts";
import type { BenchDType } from "./blocks.ts";
import { BENCH_DTYPES, randomModel, SHAPES } from "./models.ts";
import { checkPages, measurePage, PAGE_ENGINES, type PageEngine, type PageSample } from "./page.ts";
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

const RATES = {
  prefill: (sample: PageSample): number => sample.prefillTokensPerSecond,
  decode: (sample: PageSample): number => sample.decodeTokensPerSecond,
};
const MEASURES = ["prefill", "decode"] as const;
type Measure = (typeof MEASURES)[number];

/** Of one file, by round. */
type Samples = Readonly<Record<PageEngine, PageSample[]>>;

interface Comparison {
  readonly shape: string;
  readonly dtype: BenchDType;
  readonly samples: Samples;
  /** Of this library to wllama, over the rounds. */
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
      const samples = await measureInTurn(model, nRounds, threads, work);
      const ratios = { prefill: ratiosOf(samples, "prefill"), decode: ratiosOf(samples, "decode") };
      comparisons.push({ shape: shape.name, dtype, samples, ratios });
      // After each model, so that an interrupted run leaves what it has.
      const results = { machine, nRounds, threads, work, comparisons };
      writeResult("browser.json", `${JSON.stringify(results, null, 2)}\n`);
    }
  }
  print(speedTable(comparisons));
}

async function measureInTurn(model: string, nRounds: number, threads: number, work: Work): Promise<Samples> {
  const samples: Samples = { rwkv: [], wllama: [] };
  for (let round = 0; round < nRounds; round++) {
    // Every other round backwards, so that neither engine is always the first.
    for (const engine of round % 2 === 0 ? PAGE_ENGINES : PAGE_ENGINES.toReversed()) {
      const sample = await measurePage(engine, model, threads, work);
      samples[engine].push(sample);
      const rates = MEASURES.map((measure) => `${measure} ${RATES[measure](sample).toFixed(1)}`);
      progress(
        `${model}, round ${round + 1} of ${nRounds}, ${engine} (${sample.description}): ${rates.join(", ")} tokens/s`,
      );
    }
  }
  return samples;
}

/** Each measurement against the other engine's of the same round. */
function ratiosOf({ rwkv, wllama }: Samples, measure: Measure): Spread {
  const rateOf = RATES[measure];
  return spreadOf(rwkv.map((sample, round) => rateOf(sample) / rateOf(wllama[round]!)));
}

function speedTable(comparisons: readonly Comparison[]): string {
  const heading = [
    "model",
    "engine",
    ...MEASURES.flatMap((measure) => [`${measure}, tokens/s`, "ratio"]),
    "load, ms",
  ];
  const rows = comparisons.flatMap(({ shape, dtype, samples, ratios }) =>
    PAGE_ENGINES.map((engine) => [
      `${shape} ${dtype}`,
      `${engine}: ${samples[engine][0]!.description}`,
      ...MEASURES.flatMap((measure) => [
        formatSpread(spreadOf(samples[engine].map(RATES[measure])), 1),
        engine === "rwkv" ? formatSpread(ratios[measure], 2) : "",
      ]),
      spreadOf(samples[engine].map(({ loadMs }) => loadMs)).median.toFixed(0),
    ]),
  );
  return markdownTable([heading, ...rows], 2);
}

await runScript(main);
