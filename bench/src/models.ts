// Random RWKV-7 models of published shapes as GGUF files, which llama.cpp and this library both load. Speed depends on
// shapes and types, not on what the weights have learnt; the magnitudes keep activations in a trained model's range.
// Names, shapes and metadata: llama.cpp, convert_hf_to_gguf.py and src/llama-arch.cpp.

import { existsSync, mkdirSync } from "node:fs";
import { join } from "node:path";
import { atomicFile } from "rwkv";
import { byteLengthOf, countElements } from "../../packages/rwkv/dist/core/dtype.js";
import type { CheckpointTensor } from "../../packages/rwkv/dist/formats/checkpoint.js";
import { writeGguf, type GgufValue } from "../../packages/rwkv/dist/formats/gguf/write.js";
import { fillRandom, normalTable, randomBits, type BenchDType } from "./blocks.ts";

/** The sizes of a model; F is 4 C, the head size 64. */
export interface Shape {
  readonly name: string;
  readonly nLayer: number;
  /** C */
  readonly nEmbd: number;
  readonly nVocab: number;
  /** Of the low-rank maps. */
  readonly ranks: { readonly w: number; readonly a: number; readonly v: number; readonly g: number };
}

/** Those of the published RWKV-7 World models. */
export const SHAPES: readonly Shape[] = [
  { name: "0.1b", nLayer: 12, nEmbd: 768, nVocab: 65536, ranks: { w: 64, a: 64, v: 32, g: 128 } },
  { name: "0.4b", nLayer: 24, nEmbd: 1024, nVocab: 65536, ranks: { w: 64, a: 64, v: 32, g: 128 } },
  { name: "1.5b", nLayer: 24, nEmbd: 2048, nVocab: 65536, ranks: { w: 96, a: 96, v: 64, g: 256 } },
];

/** Types of the matrices; llama.cpp's number for a file of each. */
const FILE_TYPES: Readonly<Record<BenchDType, number>> = { f16: 1, q4_0: 2, q8_0: 7 };

export const BENCH_DTYPES: readonly BenchDType[] = ["f16", "q8_0", "q4_0"];

const HEAD_SIZE = 64;
/** Part of the file name: raise it when the contents change, and old files are not used any more. */
const REVISION = 1;

/**
 * Writes the model into `folder`, unless it is there.
 * @returns the path of the file
 */
export async function randomModel(folder: string, shape: Shape, dtype: BenchDType): Promise<string> {
  const path = join(folder, `rwkv7-${shape.name}-${dtype}-random${REVISION}.gguf`);
  if (existsSync(path)) return path;
  mkdirSync(folder, { recursive: true });
  const file = await atomicFile(path);
  try {
    await writeGguf(file, randomTensors(shape, dtype), metadataOf(shape, dtype));
    await file.commit();
  } finally {
    await file.discard();
  }
  return path;
}

/** Every tensor of the file, filled when it is read; the same values in every run. */
export function randomTensors(shape: Shape, dtype: BenchDType): CheckpointTensor[] {
  const { nLayer, nEmbd: c, nVocab, ranks } = shape;
  const tensors: CheckpointTensor[] = [];
  const table = normalTable(1);
  const add = (
    name: string,
    type: BenchDType | "f32",
    tensorShape: readonly number[],
    fill: (target: Uint8Array) => void,
  ): void => {
    tensors.push({
      name,
      dtype: type,
      shape: tensorShape,
      byteLength: byteLengthOf(type, tensorShape),
      read(target) {
        fill(target);
        return Promise.resolve();
      },
    });
  };
  /** `[out, in]`, scaled so that an input of deviation 1 gives outputs of deviation `gain`. */
  const matrix = (name: string, nOut: number, nIn: number, gain = 1, type = dtype): void => {
    const next = randomBits(tensors.length + 1);
    add(`${name}.weight`, type, [nOut, nIn], (target) =>
      fillRandom(target, type, gain / Math.sqrt(nIn), table, next),
    );
  };
  /** Low-rank factors are not quantised, as llama.cpp's tools leave them. */
  const factors = (name: string, rank: number): void => {
    matrix(`${name}1`, rank, c, 0.5, "f16");
    matrix(`${name}2`, c, rank, 0.5, "f16");
  };
  const uniform = (name: string, least: number, most: number, vectorShape: readonly number[]): void => {
    const next = randomBits(tensors.length + 1);
    add(name, "f32", vectorShape, (target) => {
      const values = new Float32Array(countElements(vectorShape));
      for (let i = 0; i < values.length; i++) values[i] = least + ((most - least) * next()) / 2 ** 32;
      target.set(new Uint8Array(values.buffer));
    });
  };
  const vector = (name: string, least: number, most: number, vectorShape: readonly number[] = [c]): void =>
    uniform(`${name}.weight`, least, most, vectorShape);
  const norm = (name: string): void => {
    vector(name, 0.9, 1.1);
    uniform(`${name}.bias`, 0, 0, [c]);
  };

  matrix("token_embd", nVocab, c, Math.sqrt(c));
  norm("token_embd_norm");
  for (let i = 0; i < nLayer; i++) {
    const block = `blk.${i}`;
    const mix = `${block}.time_mix`;
    norm(`${block}.attn_norm`);
    norm(`${block}.attn_norm_2`);
    vector(`${mix}_lerp_fused`, 0, 1, [6, 1, 1, c]);
    for (const [letter, least, most] of [
      ["w", -6, -1],
      ["a", -1, 1],
      ["v", -1, 1],
    ] as const) {
      vector(`${mix}_${letter}0`, least, most);
      // llama.cpp wants a value residual in layer 0 too, of the rate's rank, and does not use it
      factors(`${mix}_${letter}`, letter === "v" && i === 0 ? ranks.a : ranks[letter]);
    }
    factors(`${mix}_g`, ranks.g);
    vector(`${mix}_k_k`, 0.6, 1);
    vector(`${mix}_k_a`, 0.9, 1.1);
    vector(`${mix}_r_k`, -0.1, 0.1);
    for (const name of ["receptance", "key", "value"]) matrix(`${mix}_${name}`, c, c);
    matrix(`${mix}_output`, c, c, 0.5);
    norm(`${mix}_ln`);
    vector(`${block}.channel_mix_lerp_k`, 0, 1);
    matrix(`${block}.channel_mix_key`, 4 * c, c);
    matrix(`${block}.channel_mix_value`, c, 4 * c, 0.5);
  }
  norm("output_norm");
  matrix("output", nVocab, c);
  return tensors;
}

function metadataOf(shape: Shape, dtype: BenchDType): Map<string, GgufValue> {
  const { nLayer, nEmbd, ranks } = shape;
  const u32 = (value: number): GgufValue => ({ type: "u32", value });
  return new Map<string, GgufValue>([
    ["general.architecture", { type: "string", value: "rwkv7" }],
    ["general.file_type", u32(FILE_TYPES[dtype])],
    ["general.quantization_version", u32(2)],
    ["rwkv7.context_length", u32(1048576)],
    ["rwkv7.embedding_length", u32(nEmbd)],
    ["rwkv7.block_count", u32(nLayer)],
    ["rwkv7.feed_forward_length", u32(4 * nEmbd)],
    ["rwkv7.attention.head_count", u32(0)],
    ["rwkv7.attention.layer_norm_epsilon", { type: "f32", value: 1e-5 }],
    ["rwkv7.wkv.head_size", u32(HEAD_SIZE)],
    ["rwkv7.attention.decay_lora_rank", u32(ranks.w)],
    ["rwkv7.attention.iclr_lora_rank", u32(ranks.a)],
    ["rwkv7.attention.value_residual_mix_lora_rank", u32(ranks.v)],
    ["rwkv7.attention.gate_lora_rank", u32(ranks.g)],
    ...tokenizerOf(shape.nVocab),
  ]);
}

/** llama.cpp's tokenizer loops forever without all single bytes, and wants every token once. */
function tokenizerOf(nVocab: number): [string, GgufValue][] {
  const tokens = Array.from({ length: nVocab }, (_, id) =>
    id === 0 ? "<s>" : id <= 256 ? `\\x${(id - 1).toString(16).padStart(2, "0")}` : `token ${id}`,
  );
  const types = tokens.map((_, id) => (id === 0 ? 3 : 1)); // control and normal
  return [
    ["tokenizer.ggml.model", { type: "string", value: "rwkv" }],
    ["tokenizer.ggml.tokens", { type: "array", elementType: "string", value: tokens }],
    ["tokenizer.ggml.token_type", { type: "array", elementType: "i32", value: types }],
    ["tokenizer.ggml.bos_token_id", { type: "u32", value: 0 }],
    ["tokenizer.ggml.eos_token_id", { type: "u32", value: 0 }],
  ];
}
