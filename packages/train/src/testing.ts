// What tests of this package share: tiny models of every version with weights from a seed, and the gradient that central
// differences give.

import { Random, type ModelConfig, type RwkvVersion } from "rwkv/model";
import type { KernelModule, Numbers } from "./kernels/kernels.ts";
import type { TrainedParts } from "./parameters/parameters.ts";
import { writeUsed } from "./parameters/used.ts";
import { openBlocks, planTraining, type TrainBlocks, type TrainPlan } from "./threads/setup.ts";
import { createShare, viewsOf, type Share } from "./threads/share.ts";

export const VERSIONS: readonly RwkvVersion[] = ["4", "5.0", "5.1", "5.2", "6", "7"];

/** Two layers, two heads of four, odd widths elsewhere. */
export function tinyConfig(version: RwkvVersion, changes: Partial<ModelConfig> = {}): ModelConfig {
  const hasHeads = version !== "4";
  const ranks = { tokenShift: 0, decay: 0, rate: 0, value: 0, gate: 0 };
  if (version === "6") Object.assign(ranks, { tokenShift: 3, decay: 5 });
  if (version === "7") Object.assign(ranks, { decay: 3, rate: 5, value: 2, gate: 4 });
  return {
    version,
    nLayer: 2,
    nEmbd: 8,
    nAtt: 8,
    nFfn: 11,
    nVocab: 13,
    heads: hasHeads ? 2 : null,
    headSize: hasHeads ? 4 : null,
    ranks,
    positions: 0,
    hasLn0: true,
    ...changes,
  };
}

/** A number in (-1, 1). */
export function signed(random: Random): number {
  return 2 * random.nextUnit() - 1;
}

/** Weights of a size at which every part of a model matters. */
export function fillWeights(plan: TrainPlan, blocks: TrainBlocks, seed: number): void {
  const random = Random.fromSeed(seed);
  for (const parameter of plan.table.parameters) {
    const { name } = parameter;
    const { stored, used } = viewsOf(parameter, blocks);
    for (let i = 0; i < stored.length; i++) {
      const t = signed(random);
      if (/(ln[012]|ln_out|ln_x)\.weight$|\.k_[ka]$/.test(name)) stored[i] = 1 + 0.3 * t;
      else if (/time_mix_[kvrg]$|time_maa_[xwkvrg]$|\.x_[rwkvag]$/.test(name)) stored[i] = 0.5 + 0.5 * t;
      else if (/\.(time_decay|w0)$/.test(name)) stored[i] = -1 + 2 * t;
      else if (name === "emb.weight") stored[i] = t;
      else stored[i] = 0.6 * t;
    }
    if (parameter.usedOffset !== null) writeUsed(parameter, stored, used);
  }
}

export interface TinyTraining {
  readonly plan: TrainPlan;
  readonly blocks: TrainBlocks;
  readonly share: Share;
}

/** A training in this thread, with seeded weights. */
export function tinyTraining(
  config: ModelConfig,
  kernels: KernelModule,
  parts: TrainedParts = { kind: "full" },
  pull = 0,
): TinyTraining {
  const plan = planTraining({ config, parts, limits: { maxRows: 48, maxRuns: 3 }, nThreads: 1, pull });
  const blocks = openBlocks(plan, kernels);
  fillWeights(plan, blocks, 7);
  return { plan, blocks, share: createShare(plan, blocks, kernels, 0) };
}

/** Seeded tokens below `nVocab`. */
export function someTokens(nTokens: number, nVocab: number, seed: number): Int32Array {
  const random = Random.fromSeed(seed);
  return Int32Array.from({ length: nTokens }, () => Math.floor(random.nextUnit() * nVocab));
}

/** The gradient of `loss` with respect to `values`, by central differences. */
export function centralDifferences(values: Numbers, loss: () => number, step = 2e-6): Float64Array {
  return Float64Array.from(values, (value, i) => {
    values[i] = value + step;
    const above = loss();
    values[i] = value - step;
    const below = loss();
    values[i] = value;
    return (above - below) / (2 * step);
  });
}

/** |a - b| / |b|, of whole vectors. */
export function relativeError(a: ArrayLike<number>, b: ArrayLike<number>): number {
  let difference = 0;
  let length = 0;
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    length += b[i]! ** 2;
  }
  return Math.sqrt(difference / length);
}

/** A World vocabulary of the 256 bytes alone, as the text of its file; byte b has the id b + 1. */
export function byteVocabulary(): string {
  const lines = Array.from({ length: 256 }, (_, byte) => {
    const literal = `b'\\x${byte.toString(16).padStart(2, "0")}'`;
    return `${byte + 1} ${literal} 1\n`;
  });
  return lines.join("");
}
