// A training as it stands between two steps, in one safetensors file: parameters, moments, carried states, and the
// position in the data. Going on from it gives the numbers of a training that was never stopped, to the bit.

import { access } from "node:fs/promises";
import { atomicFile, fileSource, FormatError, UsageError } from "rwkv";
import { openCheckpoint, writeSafetensors, type CheckpointTensor } from "rwkv/model";
import type { DataPosition } from "../data/batches.ts";
import type { Numbers } from "../kernels/kernels.ts";
import type { ParameterTable } from "../parameters/parameters.ts";
import { writeUsed } from "../parameters/used.ts";
import type { TrainBlocks } from "../threads/setup.ts";
import { viewsOf } from "../threads/share.ts";

/** What is no tensor. */
export interface Progress {
  readonly step: number;
  readonly nTokens: number;
  readonly position: DataPosition;
  /** Of whatever decides on the numbers; a checkpoint of another one is refused. */
  readonly fingerprint: string;
}

const METADATA_KEY = "rwkv.train";

/** Writes the checkpoint; the file of before stays until the new one is complete. */
export async function saveCheckpoint(
  path: string,
  progress: Progress,
  table: ParameterTable,
  blocks: TrainBlocks,
  states: ReadonlyMap<number, Numbers>,
): Promise<void> {
  const tensors: CheckpointTensor[] = [];
  for (const parameter of table.parameters) {
    if (!parameter.isTrained) continue;
    const { name, nElements } = parameter;
    const { weights, first, second } = partsOf(parameter, blocks);
    tensors.push(tensorOf(`weight/${name}`, weights, nElements));
    tensors.push(tensorOf(`first/${name}`, first, nElements));
    tensors.push(tensorOf(`second/${name}`, second, nElements));
  }
  for (const [slot, state] of states) tensors.push(tensorOf(`state/${slot}`, state, state.length));
  const file = await atomicFile(path);
  try {
    await writeSafetensors(file, tensors, new Map([[METADATA_KEY, JSON.stringify(progress)]]));
    await file.commit();
  } finally {
    await file.discard();
  }
}

/**
 * Reads a checkpoint into the blocks.
 * @returns null if there is none
 * @throws UsageError if it belongs to another configuration, FormatError if it is damaged
 */
export async function loadCheckpoint(
  path: string,
  fingerprint: string,
  table: ParameterTable,
  blocks: TrainBlocks,
): Promise<{ readonly progress: Progress; readonly states: ReadonlyMap<number, Numbers> } | null> {
  try {
    await access(path);
  } catch {
    return null;
  }
  const source = await fileSource(path);
  try {
    const { tensors, metadata } = await openCheckpoint(source);
    const text = metadata.get(METADATA_KEY);
    if (typeof text !== "string") {
      throw new FormatError(
        `${path}: is no checkpoint of a training: its metadata has no "${METADATA_KEY}".`,
      );
    }
    const progress = JSON.parse(text) as Progress;
    if (progress.fingerprint !== fingerprint) {
      throw new UsageError(
        `${path}: belongs to a training with another model, data or numbers. Give "out" another folder, or delete the checkpoint.`,
      );
    }
    const read = async (name: string, target: Numbers): Promise<void> => {
      const tensor = tensors.get(name);
      if (tensor?.byteLength !== target.byteLength) {
        throw new FormatError(
          `${path}: tensor "${name}" should have ${target.byteLength} bytes; found ${tensor?.byteLength ?? "none"}. ` +
            `The file is damaged: delete it to begin anew.`,
        );
      }
      // through bytes of its own: files are not read into shared memory
      const bytes = new Uint8Array(tensor.byteLength);
      await tensor.read(bytes);
      new Uint8Array(target.buffer, target.byteOffset, target.byteLength).set(bytes);
    };
    for (const parameter of table.parameters) {
      if (!parameter.isTrained) continue;
      const { weights, first, second } = partsOf(parameter, blocks);
      await read(`weight/${parameter.name}`, weights);
      await read(`first/${parameter.name}`, first);
      await read(`second/${parameter.name}`, second);
      if (parameter.usedOffset !== null) writeUsed(parameter, weights, viewsOf(parameter, blocks).used);
    }
    const states = new Map<number, Numbers>();
    for (const { name, dtype, byteLength } of tensors.values()) {
      if (!name.startsWith("state/")) continue;
      const state = dtype === "f64" ? new Float64Array(byteLength / 8) : new Float32Array(byteLength / 4);
      await read(name, state);
      states.set(Number(name.slice("state/".length)), state);
    }
    return { progress, states };
  } finally {
    await source.close();
  }
}

function partsOf(
  parameter: ParameterTable["parameters"][number],
  blocks: TrainBlocks,
): { weights: Numbers; first: Numbers; second: Numbers } {
  const start = parameter.gradientOffset!;
  const end = start + parameter.nElements;
  return {
    weights: viewsOf(parameter, blocks).stored,
    first: blocks.firstMoments.subarray(start, end),
    second: blocks.secondMoments.subarray(start, end),
  };
}

function tensorOf(name: string, values: Numbers, nElements: number): CheckpointTensor {
  const { buffer, byteOffset, byteLength } = values;
  return {
    name,
    dtype: values instanceof Float64Array ? "f64" : "f32",
    shape: [nElements],
    byteLength,
    read(target) {
      target.set(new Uint8Array(buffer, byteOffset, byteLength));
      return Promise.resolve();
    },
  };
}
