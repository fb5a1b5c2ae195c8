// Tiny models of every version on every backend, for tests that look inside them.

import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import { MemorySink } from "../../packages/rwkv/src/formats/safetensors/testing.ts";
import { writeSafetensors } from "../../packages/rwkv/src/formats/safetensors/safetensors.ts";
import type { Model, Trace } from "../../packages/rwkv/src/node.ts";
import { nodePlatform } from "../../packages/rwkv/src/platform/node/platform.ts";
import { loadModel, type LoadOptions } from "../../packages/rwkv/src/runtime/load.ts";
import {
  checkpointOf,
  SIZES,
  syntheticModel,
  type SyntheticVersion,
  type TensorValues,
} from "../golden/synthetic.ts";
import { HAS_ADDON } from "./cli.ts";

export const VERSIONS: readonly SyntheticVersion[] = ["4", "5.0", "5.1", "5.2", "6", "7"];
export const MODEL_SIZES = {
  ...SIZES,
  nLayer: 3,
  nVocab: 20,
  nEmbd: 64,
  nFfn: 96,
  heads: 4,
  ranks7: [8, 7, 6, 9],
} as const;
export const TOKENS: readonly number[] = [3, 17, 0, 5, 5, 19, 8, 1, 12, 3, 9];

/** Where a model runs. */
export interface Place {
  readonly name: string;
  readonly options: LoadOptions;
  readonly hasNative: boolean;
}

export const REFERENCE: Place = { name: "reference", options: { backend: "reference" }, hasNative: false };
if (!HAS_ADDON) console.log("skipped: traces of native kernels: the addon was not built");
/** Those of the cpu backend that start no threads for each program. */
export const CPU: readonly Place[] = [
  { name: "cpu in WebAssembly", options: { threads: 1 }, hasNative: false },
  ...(HAS_ADDON ? [{ name: "cpu in native code", options: { threads: 2 }, hasNative: true }] : []),
];
export const THREADED: Place = {
  name: "cpu in WebAssembly, 2 threads",
  options: { threads: 2 },
  hasNative: false,
};

/** A model of random weights; its matrices are scaled, so that activations keep the size they have in trained models. */
export function modelOf(version: SyntheticVersion): Map<string, TensorValues> {
  const model = syntheticModel(version, MODEL_SIZES);
  for (const [name, { shape, values }] of model) {
    if (!name.endsWith(".weight") || shape.length < 2 || name === "emb.weight") continue;
    for (let i = 0; i < values.length; i++) values[i] = values[i]! / 4;
  }
  return model;
}

/** Loads the bytes of a file. */
export function load(
  { options, hasNative }: Place,
  file: Uint8Array,
  more: LoadOptions = {},
): Promise<Model> {
  const { loadNative, ...withoutNative } = nodePlatform;
  const platform = hasNative ? { ...withoutNative, loadNative: loadNative! } : withoutNative;
  return loadModel(platform, bytesSource(file, "m.safetensors"), { ...options, ...more });
}

/** Loads `modelOf` the version, changed by `edit`. */
export async function loadVersion(
  place: Place,
  version: SyntheticVersion,
  more?: LoadOptions,
  edit?: (model: Map<string, TensorValues>) => void,
): Promise<Model> {
  const model = modelOf(version);
  edit?.(model);
  const sink = new MemorySink();
  await writeSafetensors(sink, [...checkpointOf(model).tensors.values()], new Map());
  return load(place, sink.bytes(), more);
}

export function valuesOf(trace: Trace, name: string): Float32Array {
  return trace.tensors.get(name)!.values;
}
