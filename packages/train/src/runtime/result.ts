// What a training leaves behind: the model, the adapters or the tuned state, as files that other RWKV programs read.
// The one place that knows the writers.

import { join } from "node:path";
import {
  atomicFile,
  writeAdapter,
  writeTunedState,
  type AdapterContents,
  type AtomicFile,
  type LoraFactors,
  type TrainedTensor,
} from "rwkv";
import {
  byteLengthOf,
  encodeFromF32,
  officialTensors,
  stateLayout,
  weightRules,
  writeSafetensors,
  type CanonicalWeight,
  type CheckpointTensor,
  type ModelConfig,
} from "rwkv/model";
import type { Numbers } from "../kernels/kernels.ts";
import {
  timeStateName,
  type Parameter,
  type ParameterTable,
  type TrainedParts,
} from "../parameters/parameters.ts";
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

/**
 * Writes what was trained into a folder; a file appears under its name when it is complete. Adapters and states are
 * written twice: as the RWKV trainers do (.pth) and as safetensors, which also says alpha and the order of dimensions.
 * @returns the path to load, whose name ends in .safetensors
 */
export async function writeResult(folder: string, result: Result): Promise<string> {
  const { config, parts, dtype } = result;
  const write = async (name: string, fill: (file: AtomicFile) => Promise<void>): Promise<string> => {
    const path = join(folder, name);
    const file = await atomicFile(path);
    try {
      await fill(file);
      await file.commit();
    } finally {
      await file.discard();
    }
    return path;
  };
  if (parts.kind === "full") {
    const metadata = new Map([["format", "pt"]]);
    return write("model.safetensors", (file) => writeSafetensors(file, modelTensors(result), metadata));
  }
  if (parts.kind === "lora") {
    const contents = adapterOf(result, parts.rank, parts.alpha);
    await write("lora.pth", (file) => writeAdapter(file, contents, { format: "pth", dtype }));
    return write("lora.safetensors", (file) =>
      writeAdapter(file, contents, { format: "safetensors", dtype }),
    );
  }
  const state = stateOf(result);
  await write("state.pth", (file) => writeTunedState(file, config, state, { format: "pth", dtype }));
  return write("state.safetensors", (file) =>
    writeTunedState(file, config, state, { format: "safetensors", dtype }),
  );
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

function adapterOf({ config, table, blocks }: Result, rank: number, alpha: number): AdapterContents {
  const rules = new Map(weightRules(config).map((rule) => [rule.name, rule]));
  const pairs: LoraFactors[] = [];
  const tensors: TrainedTensor[] = [];
  const valuesOf = (parameter: Parameter): Float32Array =>
    Float32Array.from(viewsOf(parameter, blocks).stored);
  for (const parameter of table.parameters) {
    const { name, isTrained } = parameter;
    const rule = rules.get(name);
    if (isTrained && rule !== undefined) {
      tensors.push({ name, shape: rule.officialShape, values: valuesOf(parameter) });
    }
    const stem = /^(.*)\.lora_A$/.exec(name)?.[1];
    if (stem === undefined) continue;
    const b = valuesOf(table.byName.get(`${stem}.lora_B`)!);
    pairs.push({ name: stem, rank, a: valuesOf(parameter), b });
  }
  return { alpha, pairs, tensors };
}

/** A whole state with the trained parts in their places. */
function stateOf({ config, table, blocks }: Result): Float32Array {
  const layout = stateLayout(config);
  const state = new Float32Array(layout.nElements);
  for (const { name, offset } of layout.tensors) {
    const parameter = table.byName.get(timeStateName(name));
    if (parameter !== undefined) state.set(viewsOf(parameter, blocks).stored, offset);
  }
  return state;
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
