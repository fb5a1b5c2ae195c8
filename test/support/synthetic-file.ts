// A tiny model of any version as the bytes of a file.

import { MemorySink } from "../../packages/rwkv/src/formats/safetensors/testing.ts";
import { writeSafetensors } from "../../packages/rwkv/src/formats/safetensors/safetensors.ts";
import { checkpointOf, type TensorValues } from "../golden/synthetic.ts";

/** A `.safetensors` file in f32 with official names. */
export async function fileOf(model: ReadonlyMap<string, TensorValues>): Promise<Uint8Array> {
  const sink = new MemorySink();
  await writeSafetensors(sink, [...checkpointOf(model).tensors.values()], new Map());
  return sink.bytes();
}
