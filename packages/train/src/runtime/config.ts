// What a training is told: the keys of its configuration file, with their defaults. docs/training.md describes them.

import { resolve } from "node:path";
import type { LoraRanks, ModelConfig } from "rwkv/model";
import type { BatchOptions } from "../data/batches.ts";
import { KERNEL_NAMES, type KernelName } from "../kernels/load.ts";
import type { TrainedParts } from "../parameters/parameters.ts";
import { Fields } from "./fields.ts";

/** Sizes of a fresh RWKV-7 model; what is left out follows the official trainer. */
export interface FreshModel {
  readonly layers: number;
  readonly embedding: number;
  readonly headSize: number;
  readonly ffn: number;
  /** Null: as many as the tokenizer has. */
  readonly vocab: number | null;
  readonly ranks: Omit<LoraRanks, "tokenShift">;
}

/** A configuration that has been checked; paths are absolute. */
export interface TrainConfig {
  readonly parts: TrainedParts;
  /** Folder of the checkpoint, the losses and the result. */
  readonly out: string;
  /** A file to begin from, or the sizes of a fresh model. */
  readonly model: string | FreshModel;
  /** Null: the one inside the model's file or beside it. */
  readonly tokenizer: string | null;
  readonly files: readonly string[];
  readonly answersOnly: boolean;
  readonly batches: BatchOptions;
  /** Tokens to read in all. */
  readonly tokens: number;
  readonly rate: { readonly from: number; readonly to: number; readonly warmupSteps: number };
  readonly optimizer: {
    readonly beta1: number;
    readonly beta2: number;
    readonly eps: number;
    readonly weightDecay: number;
    /** Largest norm of the gradient. */
    readonly clip: number;
  };
  readonly pull: number;
  /** Of the matrices and vectors that are written. */
  readonly dtype: "f32" | "f16" | "bf16";
  readonly seed: number;
  readonly threads: number;
  readonly kernels: KernelName;
  readonly checkpointSteps: number;
  /** Rows that a thread takes forward and backward at once. */
  readonly rowsAtOnce: number;
}

const MAX = Number.MAX_SAFE_INTEGER;
const MAX_SIZE = 2 ** 20;

/**
 * Checks a configuration, as it comes out of a JSON file.
 * @param folder - to which relative paths belong
 * @throws UsageError naming the key, what was expected and what was found
 */
export function readTrainConfig(value: unknown, folder: string): TrainConfig {
  const fields = new Fields(value);
  const at = (path: string): string => resolve(folder, path);
  const mode = fields.choice("mode", ["full", "lora", "state"]);
  const parts = partsOf(fields, mode);
  const out = at(fields.text("out"));
  const isFile = typeof fields.raw("model") === "string";
  if (!isFile && mode !== "full") {
    throw fields.wrong("model", `the file of a model, since mode "${mode}" begins from one`);
  }
  const model = isFile ? at(fields.text("model")) : freshModel(fields.section("model"));
  const needsTokenizer = !isFile || fields.has("tokenizer");
  const tokenizer = needsTokenizer ? at(fields.text("tokenizer")) : null;
  const seed = fields.whole("seed", 0, MAX, 0);

  const data = fields.section("data");
  const files = data.texts("files").map(at);
  const answersOnly = data.flag("answersOnly", false);
  const packing = data.choice("packing", ["rows", "documents"], "rows");
  const batches: BatchOptions = {
    packing,
    context: data.whole("context", 1, MAX_SIZE, 512),
    batch: data.whole("batch", 1, MAX_SIZE),
    endOfText: data.raw("endOfText") === null ? null : data.whole("endOfText", 0, MAX_SIZE, 0),
    carryState: data.flag("carryState", packing === "documents"),
    seed,
  };
  if (packing === "documents" && !batches.carryState) {
    throw data.wrong("carryState", `true or left out, since packing "documents" reads long ones in pieces`);
  }
  data.end();

  const rate = fields.section("rate");
  const from = rate.number("from", 0, 100);
  const rates = {
    from,
    to: rate.number("to", 0, 100, from),
    warmupSteps: rate.whole("warmupSteps", 0, MAX, 10),
  };
  rate.end();

  const optimizer = fields.section("optimizer", {});
  const optimizerOptions = {
    beta1: optimizer.number("beta1", 0, 0.999999, 0.9),
    beta2: optimizer.number("beta2", 0, 0.999999, 0.99),
    eps: optimizer.number("eps", 0, 1, 1e-18),
    weightDecay: optimizer.number("weightDecay", 0, 1, mode === "full" ? 0.001 : 0),
    clip: optimizer.number("clip", 1e-9, 1e9, 1),
  };
  optimizer.end();

  const config: TrainConfig = {
    parts,
    out,
    model,
    tokenizer,
    files,
    answersOnly,
    batches,
    tokens: fields.whole("tokens", 1, MAX),
    rate: rates,
    optimizer: optimizerOptions,
    pull: fields.number("pull", 0, 1, 1e-4),
    dtype: fields.choice("dtype", ["f32", "f16", "bf16"], "bf16"),
    seed,
    threads: fields.whole("threads", 1, 256, 1),
    kernels: fields.choice("kernels", KERNEL_NAMES, "auto"),
    checkpointSteps: fields.whole("checkpointSteps", 1, MAX, 100),
    rowsAtOnce: fields.whole("rowsAtOnce", 1, MAX_SIZE, Math.max(batches.context, 1024)),
  };
  if (config.rowsAtOnce < batches.context) {
    throw fields.wrong("rowsAtOnce", `at least data.context, which is ${batches.context}`);
  }
  fields.end();
  return config;
}

function partsOf(fields: Fields, mode: "full" | "lora" | "state"): TrainedParts {
  if (mode !== "lora") return { kind: mode };
  const lora = fields.section("lora");
  const parts: TrainedParts = {
    kind: "lora",
    rank: lora.whole("rank", 1, 4096),
    alpha: lora.number("alpha", 1e-6, 1e6),
    withVectors: lora.flag("vectors", false),
  };
  lora.end();
  return parts;
}

function freshModel(fields: Fields): FreshModel {
  const layers = fields.whole("layers", 1, 1024);
  const headSize = fields.whole("headSize", 2, 1024, 64);
  const embedding = fields.whole("embedding", headSize, MAX_SIZE);
  if (embedding % headSize !== 0) {
    throw fields.wrong("embedding", `a multiple of ${fields.name("headSize")}, which is ${headSize}`);
  }
  // as the official trainer chooses them
  const rankOf = (factor: number): number =>
    Math.max(32, Math.round((factor * Math.sqrt(embedding)) / 32) * 32);
  const ranks = fields.section("ranks", {});
  const model: FreshModel = {
    layers,
    embedding,
    headSize,
    ffn: fields.whole("ffn", 1, MAX_SIZE, 4 * embedding),
    vocab: fields.has("vocab") ? fields.whole("vocab", 1, MAX_SIZE) : null,
    ranks: {
      decay: ranks.whole("decay", 1, MAX_SIZE, rankOf(2.5)),
      rate: ranks.whole("rate", 1, MAX_SIZE, rankOf(2.5)),
      value: ranks.whole("value", 1, MAX_SIZE, rankOf(1.7)),
      gate: ranks.whole("gate", 1, MAX_SIZE, rankOf(5)),
    },
  };
  ranks.end();
  fields.end();
  return model;
}

/** The config of a fresh model. */
export function freshConfig(model: FreshModel, nVocab: number): ModelConfig {
  const { layers, embedding, headSize, ffn, ranks } = model;
  return {
    version: "7",
    nLayer: layers,
    nEmbd: embedding,
    nAtt: embedding,
    nFfn: ffn,
    nVocab,
    heads: embedding / headSize,
    headSize,
    ranks: { tokenShift: 0, ...ranks, value: layers > 1 ? ranks.value : 0 },
    positions: 0,
    hasLn0: true,
  };
}
