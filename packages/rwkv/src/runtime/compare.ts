// How far one model is from another: weight by weight, and in what they predict for a text. Hides how two files are brought
// to the same terms, and how the sums are made without keeping any logits.

import { decodeToF32 } from "../core/decode.ts";
import { byteLengthOf } from "../core/dtype.ts";
import { UsageError } from "../core/errors.ts";
import type { Platform } from "../core/platform.ts";
import { residualScale } from "../model/export.ts";
import { readVector } from "../model/values.ts";
import { canonicalWeights, type CanonicalWeight, type CanonicalWeights } from "../model/weights/canonical.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { loadModel, type LoadOptions } from "./load.ts";
import { logSumExp, peakOf } from "./log-probabilities.ts";
import type { Model } from "./model.ts";
import { withCheckpoint, type FileSource } from "./source.ts";

/** How two models are compared. */
export interface CompareOptions extends Pick<
  LoadOptions,
  "backend" | "activations" | "threads" | "groupNormEps" | "tokenizer" | "signal"
> {
  /** What both models read: a text, in their common vocabulary, or ids. */
  readonly prompt: string | readonly number[];
  /** Called as weights are compared and as tokens are read. */
  readonly onProgress?: ((progress: CompareProgress) => void) | undefined;
}

/** How far a comparison has come. */
export interface CompareProgress {
  readonly phase: "weights" | "tokens";
  readonly done: number;
  readonly total: number;
}

/** How far a weight of the second model is from that of the first. */
export interface WeightDifference {
  /** Official name. */
  readonly name: string;
  /** Root mean square of the differences over that of the first model's values; 0 if all are equal. */
  readonly relativeError: number;
  /** Largest difference of two values. */
  readonly maxError: number;
}

/** What each of two models predicts for a text, and how far the second is from the first. */
export interface Comparison {
  /** Null if the models have different sizes. */
  readonly weights: readonly WeightDifference[] | null;
  /** Tokens that were predicted: all but the first. */
  readonly nPredicted: number;
  /** exp of the mean negative log-likelihood per token, in nats, of the first and of the second model. */
  readonly perplexity: readonly [number, number];
  /** The second perplexity over the first, less 1. */
  readonly perplexityChange: number;
  /** Mean over the tokens of KL(first || second), in nats. */
  readonly meanKl: number;
  /** Share of the tokens for which both models find the same id most likely. */
  readonly topAgreement: number;
}

/** Tokens that both models read before their logits are compared; those of one step stay in memory. */
const TOKENS_PER_STEP = 64;

/**
 * Compares two models with the same vocabulary; they may be of different generations.
 * @throws UsageError if the vocabularies differ, there is no tokenizer for a text, or it has fewer than two tokens
 * @throws as `loadModel` for either of the files
 */
export async function compare(
  platform: Platform,
  first: FileSource,
  second: FileSource,
  options: CompareOptions,
): Promise<Comparison> {
  const { prompt, onProgress, signal, tokenizer, ...loading } = options;
  const weights = await compareFiles(platform, first, second, options);
  const open = (file: FileSource): Promise<Model> =>
    loadModel(platform, file, { ...loading, tokenizer, signal, chunk: TOKENS_PER_STEP });
  await using a = await open(first);
  await using b = await open(second);
  checkVocabulary(a, b);
  const tokens = typeof prompt === "string" ? tokenizerOf(a, b).encode(prompt) : prompt;
  if (tokens.length < 2) {
    throw new UsageError(`The text has ${tokens.length} tokens; at least two are needed to predict one.`);
  }
  return { weights, ...(await comparePredictions(a, b, tokens, signal, onProgress)) };
}

function checkVocabulary(a: Model, b: Model): void {
  const differ = (what: string): UsageError =>
    new UsageError(
      `${a.info.name} and ${b.info.name} have different vocabularies: ${what}. Compare models that share one.`,
    );
  if (a.config.nVocab !== b.config.nVocab) throw differ(`${a.config.nVocab} and ${b.config.nVocab} ids`);
  if (a.tokenizer === null || b.tokenizer === null) return;
  for (let id = 0; id < a.config.nVocab; id++) {
    const [left, right] = [a.tokenizer.tokenBytes(id), b.tokenizer.tokenBytes(id)];
    const isSame = left.length === right.length && left.every((byte, i) => byte === right[i]);
    if (!isSame) throw differ(`id ${id} stands for other bytes`);
  }
}

function tokenizerOf(a: Model, b: Model): Tokenizer {
  const tokenizer = a.tokenizer ?? b.tokenizer;
  if (tokenizer !== null) return tokenizer;
  throw new UsageError(
    `No tokenizer is inside or beside ${a.info.name} or ${b.info.name}. Give one, or token ids instead of text.`,
  );
}

async function comparePredictions(
  a: Model,
  b: Model,
  tokens: readonly number[],
  signal: AbortSignal | undefined,
  onProgress: CompareOptions["onProgress"],
): Promise<Omit<Comparison, "weights">> {
  const { nVocab } = a.config;
  const [sessionA, sessionB] = [await a.createSession(), await b.createSession()];
  const nPredicted = tokens.length - 1;
  let [lossA, lossB, kl, nAgreed] = [0, 0, 0, 0];
  for (let start = 0; start < nPredicted; start += TOKENS_PER_STEP) {
    const piece = tokens.slice(start, Math.min(start + TOKENS_PER_STEP, nPredicted));
    const rowsA = await sessionA.forward(piece, { logits: "all", signal });
    const rowsB = await sessionB.forward(piece, { logits: "all", signal });
    for (let row = 0; row < piece.length; row++) {
      const logitsA = rowsA.subarray(row * nVocab, (row + 1) * nVocab);
      const logitsB = rowsB.subarray(row * nVocab, (row + 1) * nVocab);
      const [peakA, peakB] = [peakOf(logitsA), peakOf(logitsB)];
      const normA = logSumExp(logitsA, logitsA[peakA]!);
      const normB = logSumExp(logitsB, logitsB[peakB]!);
      const next = tokens[start + row + 1]!;
      lossA += normA - logitsA[next]!;
      lossB += normB - logitsB[next]!;
      kl += divergence(logitsA, normA, logitsB, normB);
      if (peakA === peakB) nAgreed++;
    }
    onProgress?.({ phase: "tokens", done: start + piece.length, total: nPredicted });
  }
  const perplexity = [Math.exp(lossA / nPredicted), Math.exp(lossB / nPredicted)] as const;
  return {
    nPredicted,
    perplexity,
    perplexityChange: perplexity[1] / perplexity[0] - 1,
    meanKl: kl / nPredicted,
    topAgreement: nAgreed / nPredicted,
  };
}

/** KL(a || b) of two rows of logits, given the logarithm of the sum of their exponentials. */
function divergence(a: Float32Array, normA: number, b: Float32Array, normB: number): number {
  let sum = 0;
  for (let i = 0; i < a.length; i++) {
    const logA = a[i]! - normA;
    sum += Math.exp(logA) * (logA - (b[i]! - normB));
  }
  return sum;
}

async function compareFiles(
  platform: Platform,
  first: FileSource,
  second: FileSource,
  { signal, onProgress }: CompareOptions,
): Promise<WeightDifference[] | null> {
  return withCheckpoint(platform, first, signal, (fileA) =>
    withCheckpoint(platform, second, signal, async (fileB) => {
      const [a, b] = [canonicalWeights(fileA), canonicalWeights(fileB)];
      if (!haveSameShapes(a, b)) return null;
      const differences: WeightDifference[] = [];
      for (const [name, weight] of a.tensors) {
        signal?.throwIfAborted();
        const other = b.tensors.get(name)!;
        differences.push(
          weight.rule.kind === "vector"
            ? await compareVectors(a.source, weight, b.source, other, signal)
            : await compareMatrices(a, weight, b, other, signal),
        );
        onProgress?.({ phase: "weights", done: differences.length, total: a.tensors.size });
      }
      return differences;
    }),
  );
}

function haveSameShapes(a: CanonicalWeights, b: CanonicalWeights): boolean {
  if (a.tensors.size !== b.tensors.size) return false;
  for (const [name, { shape }] of a.tensors) {
    if (String(b.tensors.get(name)?.shape) !== String(shape)) return false;
  }
  return true;
}

/** Vectors as the forward pass takes them, since files store decays in different forms. */
async function compareVectors(
  sourceA: string,
  weightA: CanonicalWeight,
  sourceB: string,
  weightB: CanonicalWeight,
  signal?: AbortSignal,
): Promise<WeightDifference> {
  const sums = new DifferenceSums();
  sums.add(await readVector(sourceA, weightA, signal), await readVector(sourceB, weightB, signal));
  return sums.of(weightA.name);
}

async function compareMatrices(
  a: CanonicalWeights,
  weightA: CanonicalWeight,
  b: CanonicalWeights,
  weightB: CanonicalWeight,
  signal?: AbortSignal,
): Promise<WeightDifference> {
  const { name, shape } = weightA;
  const [nRows, nColumns] = shape as readonly [number, number];
  const rowsA = await rowReader(a, weightA, signal);
  const rowsB = await rowReader(b, weightB, signal);
  const sums = new DifferenceSums();
  const [left, right] = [new Float32Array(nColumns), new Float32Array(nColumns)];
  for (let row = 0; row < nRows; row++) {
    rowsA(row, left);
    rowsB(row, right);
    sums.add(left, right);
  }
  return sums.of(name);
}

type ReadRow = (row: number, out: Float32Array) => void;

/** Rows of a matrix as the model means them: what a file divided is multiplied back. */
async function rowReader(
  weights: CanonicalWeights,
  weight: CanonicalWeight,
  signal?: AbortSignal,
): Promise<ReadRow> {
  const bytes = new Uint8Array(weight.byteLength);
  await weight.read(bytes, signal);
  const rowBytes = byteLengthOf(weight.dtype, [weight.shape.at(-1)!]);
  const scale = residualScale(weight.name, weights.rescaleEveryNLayers);
  return (row, out) => {
    decodeToF32(weight.dtype, bytes.subarray(row * rowBytes, (row + 1) * rowBytes), out);
    if (scale !== 1) for (let i = 0; i < out.length; i++) out[i] = out[i]! * scale;
  };
}

class DifferenceSums {
  #differences = 0;
  #values = 0;
  #max = 0;

  add(a: Float32Array, b: Float32Array): void {
    for (let i = 0; i < a.length; i++) {
      const difference = b[i]! - a[i]!;
      this.#differences += difference * difference;
      this.#values += a[i]! * a[i]!;
      this.#max = Math.max(this.#max, Math.abs(difference));
    }
  }

  of(name: string): WeightDifference {
    const relativeError = this.#differences === 0 ? 0 : Math.sqrt(this.#differences / this.#values);
    return { name, relativeError, maxError: this.#max };
  }
}
