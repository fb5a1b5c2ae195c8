// The model a training begins from: fresh weights, or those of a file, as the trained parameters have them.

import { FormatError, UnsupportedError, fileSource } from "rwkv";
import {
  canonicalWeights,
  openCheckpoint,
  Random,
  readValues,
  residualScale,
  type CanonicalWeight,
  type ModelConfig,
} from "rwkv/model";
import { freshWeights } from "../parameters/fresh.ts";
import type { ParameterTable, TrainedParts } from "../parameters/parameters.ts";
import { writeUsed } from "../parameters/used.ts";
import type { TrainBlocks } from "../threads/setup.ts";
import { viewsOf } from "../threads/share.ts";

/** Weights by official name. */
export interface BaseModel {
  readonly config: ModelConfig;
  readonly weights: ReadonlyMap<string, Float32Array | Float64Array>;
}

/**
 * Reads all weights of a model file, in f32.
 * @throws UnsupportedError for a model that cannot be trained further
 * @throws FormatError if the file is damaged
 */
export async function readBaseModel(path: string, signal?: AbortSignal): Promise<BaseModel> {
  const source = await fileSource(path);
  try {
    const { config, tensors, rescaleEveryNLayers, timeState } = canonicalWeights(
      await openCheckpoint(source),
    );
    if (timeState !== null) {
      throw new UnsupportedError(
        `${path}: has a tuned state merged into it, which training would leave behind. Begin from the model without one.`,
      );
    }
    const weights = new Map<string, Float32Array>();
    for (const weight of tensors.values()) {
      const values = await readValues(weight, signal);
      const scale = residualScale(weight.name, rescaleEveryNLayers);
      const inverse = inverseOf(weight);
      for (let i = 0; i < values.length; i++) values[i] = inverse(values[i]!) * scale;
      if (!values.every(Number.isFinite)) {
        throw new FormatError(
          `${path}: tensor "${weight.fileName}" holds a value that is not finite. Download it again.`,
        );
      }
      weights.set(weight.name, values);
    }
    return { config, weights };
  } finally {
    await source.close();
  }
}

/** To the raw parameter, where a file holds the form in use. */
function inverseOf({ form, rule }: CanonicalWeight): (value: number) => number {
  if (form === "logarithm") return Math.exp;
  if (form === "applied" && rule.meaning === "logDecay4") return (w) => Math.log(-w);
  if (form === "applied" && rule.meaning === "decay5") return (w) => Math.log(-Math.log(w));
  return (value) => value;
}

export function freshModelWeights(config: ModelConfig, seed: number): BaseModel {
  return { config, weights: freshWeights(config, seed) };
}

/**
 * Fills the block of weights: the model's, and what is trained beside it at its beginning: states and the adapters' B at
 * zero, their A uniform in +-1 / sqrt(in).
 */
export function fillBlocks(
  { weights }: BaseModel,
  table: ParameterTable,
  parts: TrainedParts,
  blocks: TrainBlocks,
  seed: number,
): void {
  const random = Random.fromSeed(seed);
  for (const parameter of table.parameters) {
    const { name, shape, nElements } = parameter;
    const { stored, used } = viewsOf(parameter, blocks);
    const values = weights.get(name);
    if (values !== undefined) {
      stored.set(values);
      if (parameter.usedOffset !== null) writeUsed(parameter, stored, used);
    } else if (parts.kind === "lora" && name.endsWith(".lora_A")) {
      const bound = 1 / Math.sqrt(shape[1]!);
      for (let i = 0; i < nElements; i++) stored[i] = bound * (2 * random.nextUnit() - 1);
    }
  }
}
