// What a training leaves behind: the model, the adapters or the tuned state, as files that other RWKV programs read.
// The one place that knows the writers.

import { atomicFile } from "rwkv";
import {
  byteLengthOf,
  encodeFromF32,
  officialTensors,
  weightRules,
  writeSafetensors,
  type CanonicalWeight,
  type CheckpointTensor,
  type ModelConfig,
} from "rwkv/model";
import type { Numbers } from "../kernels/kernels.ts";
import type { ParameterTable, TrainedParts } from "../parameters/parameters.ts";
import type { TrainBlocks } from "../threads/setup.ts";
import { viewsOf } from "../threads/share.ts";

export type ResultDType = "f32" | "f16" | "bf16";

export interface Result {
  readonly config: ModelConfig;
  readonly parts: TrainedParts;
  readonly table: ParameterTable;
  readonly blocks: TrainBlocks;
  readonly dtype: ResultDType;
}

/** Name of the file in the folder of a training. */
export function resultFileName(parts: TrainedParts): string {
  return { full: "model.safetensors", lora: "lora.safetensors", state: "state.safetensors" }[parts.kind];
}

/** Writes what was trained; the file appears under its name when it is complete. */
export async function writeResult(path: string, result: Result): Promise<void> {
  const file = await atomicFile(path);
  try {
    const tensors = result.parts.kind === "full" ? modelTensors(result) : trainedTensors(result);
    await writeSafetensors(file, tensors, new Map([["format", "pt"]]));
    await file.commit();
  } finally {
    await file.discard();
  }
}

function modelTensors({ config, table, blocks, dtype }: Result): CheckpointTensor[] {
  const tensors = new Map<string, CanonicalWeight>();
  for (const rule of weightRules(config)) {
    const values = viewsOf(table.byName.get(rule.name)!, blocks).stored;
    tensors.set(rule.name, {
      name: rule.name,
      fileName: rule.name,
      rule,
      form: "raw",
      place: undefined,
      ...encoded(values, rule.shape, dtype),
    });
  }
  const weights = { source: "training", config, tensors, rescaleEveryNLayers: 0, timeState: null };
  return officialTensors(weights, dtype);
}

/** Adapters and vectors, or states, under the names and in the order of dimensions that trainers use. */
function trainedTensors({ config, table, blocks, dtype }: Result): CheckpointTensor[] {
  const rules = new Map(weightRules(config).map((rule) => [rule.name, rule]));
  return table.parameters
    .filter(({ isTrained }) => isTrained)
    .map((parameter) => {
      const { name, shape } = parameter;
      const { stored } = viewsOf(parameter, blocks);
      return { name, ...encoded(stored, rules.get(name)?.officialShape ?? shape, dtype) };
    });
}

function encoded(
  values: Numbers,
  shape: readonly number[],
  dtype: ResultDType,
): Pick<CheckpointTensor, "dtype" | "shape" | "byteLength" | "read"> & { dtype: ResultDType } {
  return {
    dtype,
    shape,
    byteLength: byteLengthOf(dtype, shape),
    read(target) {
      encodeFromF32(dtype, Float32Array.from(values), target);
      return Promise.resolve();
    },
  };
}
