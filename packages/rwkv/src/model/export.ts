// Canonical weights as tensors to write: under official names, shapes and orientation for .pth-like files
// (safetensors), or as llama.cpp reads them from GGUF. Each tensor is read and converted when it is written.

import type { EncodedDType } from "../core/decode.ts";
import { byteLengthOf, hasLevels, isQuantized, type DType, type WeightDType } from "../core/dtype.ts";
import { UnsupportedError } from "../core/errors.ts";
import type { CheckpointTensor } from "../formats/checkpoint.ts";
import type { GgufValue } from "../formats/gguf/types.ts";
import { LAYER_NORM_EPS, type ModelConfig } from "./config.ts";
import { timeStateShape } from "./tuned-state.ts";
import { deviceDType, readValues, recode } from "./values.ts";
import type { CanonicalWeight, CanonicalWeights } from "./weights/canonical.ts";
import { ggufNames } from "./weights/gguf.ts";
import { SHIFT_MAPS } from "./weights/tables.ts";
import { transposed, transposeElements } from "./weights/view.ts";

/** Types of the matrices in a safetensors file. */
export type SafetensorsDType = "f32" | "f16" | "bf16";
/** Types of the matrices in a GGUF that values can be written in. */
export type GgufDType = SafetensorsDType | "q8_0";

interface Assembly {
  readonly name: string;
  readonly shape: readonly number[];
  readonly dtype: WeightDType;
  /** Exchanges the last two dimensions of the parts, laid end to end as a stack of `[rows, columns]`. */
  readonly transposeFrom?: readonly [number, number];
  readonly scale?: number;
}

/** A tensor to write, made of weights one after the other. */
function assemble(parts: readonly CanonicalWeight[], assembly: Assembly): CheckpointTensor {
  const { name, shape, dtype, transposeFrom, scale = 1 } = assembly;
  const byteLength = byteLengthOf(dtype, shape);
  return {
    name,
    dtype,
    shape,
    byteLength,
    async read(target, signal) {
      const assembled = transposeFrom === undefined ? target : new Uint8Array(byteLength);
      const partByteLength = byteLength / parts.length;
      for (const [i, part] of parts.entries()) {
        const place = assembled.subarray(i * partByteLength, (i + 1) * partByteLength);
        if (part.dtype === dtype && scale === 1) {
          await part.read(place, signal);
        } else {
          const stored = new Uint8Array(part.byteLength);
          await part.read(stored, signal);
          // a type other than the stored one is one that values can be written in
          recode(part, stored, dtype as EncodedDType, place, scale);
        }
      }
      if (transposeFrom !== undefined) {
        const [nRows, nColumns] = transposeFrom;
        transposeElements(target, assembled, nRows, nColumns, byteLengthOf(dtype, [1]));
      }
    },
  };
}

/** The type of a matrix in a file without blocks. */
function plainDType(stored: WeightDType, asked: SafetensorsDType | null): SafetensorsDType {
  if (asked !== null) return asked;
  const dtype = deviceDType(stored);
  return isQuantized(dtype) ? "f16" : dtype;
}

/**
 * The tensors of the model as the official files have them, a tuned state included.
 * @param dtype - of the matrices; null keeps the stored type where safetensors has it (f64 becomes f32, blocks f16).
 * Vectors always keep theirs.
 * @returns tensors that throw UsageError on `read` if a value does not fit the type
 */
export function officialTensors(
  weights: CanonicalWeights,
  dtype: SafetensorsDType | null,
): CheckpointTensor[] {
  const { tensors, rescaleEveryNLayers } = weights;
  const result: CheckpointTensor[] = [];
  for (const weight of tensors.values()) {
    const { name, rule } = weight;
    const fused = /^(.*\.time_maa_w[12])\.(.)$/.exec(name);
    if (fused !== null) {
      if (fused[2] === SHIFT_MAPS[0]) result.push(officialShiftMap(weights, fused[1]!, dtype));
    } else if (rule.kind === "vector") {
      result.push(officialVector(weight));
    } else {
      const isLora = rule.kind === "loraDown" || rule.kind === "loraUp";
      const [nOut, nIn] = rule.shape as readonly [number, number];
      result.push(
        assemble([weight], {
          name,
          shape: rule.officialShape,
          dtype: plainDType(weight.dtype, dtype),
          scale: residualScale(name, rescaleEveryNLayers),
          ...(isLora && { transposeFrom: [nOut, nIn] as const }),
        }),
      );
    }
  }
  return [...result, ...timeStateTensors(weights)];
}

/** A tuned initial state as official files have it: `[H, N, N]` of each layer, rows follow the value; in v4 `[3, A]`. */
export function timeStateTensors({ config, timeState }: CanonicalWeights): CheckpointTensor[] {
  const shape = timeStateShape(config);
  return (timeState?.layers ?? []).map((view, i) => {
    const state = timeState!.orientation === "value-key" || config.heads === null ? view : transposed(view);
    return {
      name: `blocks.${i}.att.time_state`,
      dtype: state.dtype,
      shape,
      byteLength: byteLengthOf(state.dtype, shape),
      read: (target, signal) => state.read(target, signal),
    };
  });
}

/** What undoes the division of a matrix of rescaled files. */
export function residualScale(name: string, interval: number): number {
  const layer = /^blocks\.(\d+)\.(att\.output|ffn\.value)\.weight$/.exec(name)?.[1];
  return interval > 0 && layer !== undefined ? 2 ** Math.floor(Number(layer) / interval) : 1;
}

/** `time_maa_w1` `[C, 5 D]` or `time_maa_w2` `[5, D, C]` out of its five pieces. */
function officialShiftMap(
  weights: CanonicalWeights,
  name: string,
  dtype: SafetensorsDType | null,
): CheckpointTensor {
  const { nEmbd, ranks } = weights.config;
  const parts = shiftMapParts(weights, name);
  const isDown = name.endsWith("w1");
  const nParts = SHIFT_MAPS.length;
  return assemble(parts, {
    name,
    shape: isDown ? [nEmbd, nParts * ranks.tokenShift] : [nParts, ranks.tokenShift, nEmbd],
    dtype: plainDType(parts[0]!.dtype, dtype),
    transposeFrom: isDown ? [nParts * ranks.tokenShift, nEmbd] : [nEmbd, ranks.tokenShift],
  });
}

function shiftMapParts(weights: CanonicalWeights, name: string): CanonicalWeight[] {
  return SHIFT_MAPS.map((letter) => weights.tensors.get(`${name}.${letter}`)!);
}

function officialVector(weight: CanonicalWeight): CheckpointTensor {
  const { rule, form } = weight;
  const shape = rule.officialShape;
  const inverse = rawOf(weight);
  if (inverse === null) {
    const name = form === "logarithm" ? rule.name.replace("time_faaaa", "time_first") : rule.name;
    const dtype = deviceDType(weight.dtype);
    return assemble([weight], { name, shape, dtype: isQuantized(dtype) ? "f32" : dtype });
  }
  return {
    name: rule.name,
    dtype: "f32",
    shape,
    byteLength: byteLengthOf("f32", shape),
    async read(target, signal) {
      const values = await readValues(weight, signal);
      target.set(new Uint8Array(values.map(inverse).buffer));
    },
  };
}

/** Back from an applied decay to the trained parameter; null where there is nothing to undo. */
function rawOf({ rule, form }: CanonicalWeight): ((value: number) => number) | null {
  if (form !== "applied") return null;
  // A decay that was rounded to 0 or 1 has no raw value; the bounds are ones that round to the same again.
  if (rule.meaning === "logDecay4") return (w) => Math.max(-104, Math.log(-w));
  if (rule.meaning === "decay5") return (w) => Math.min(5, Math.max(-104, Math.log(-Math.log(w))));
  return null;
}

/** Low-rank factors that llama.cpp expects in f32. */
const F32_FACTORS = /\.att\.(w[12]|time_decay_w[12])$/;

/**
 * The tensors of a RWKV-6 or RWKV-7 model as llama.cpp reads them.
 * @param dtype - of the matrices; `q8_0` leaves v7's low-rank factors in f16, as llama.cpp's tools do. null keeps the
 * stored types, but for q8, q4, nf4 and sf4, which become f16. Vectors and some low-rank factors are f32 always.
 * @throws UnsupportedError for other versions, and for models without a first norm
 */
export function ggufTensors(weights: CanonicalWeights, dtype: GgufDType | null): CheckpointTensor[] {
  const { config: c, tensors } = weights;
  checkGguf(weights);
  const ggufName = ggufNames(c.version === "6" ? "rwkv6" : "rwkv7");
  const result: CheckpointTensor[] = [];
  for (const weight of tensors.values()) {
    const { name, rule, shape } = weight;
    if (/\.att\.(time_maa_[wkvrg]|x_[rwkvag]|time_maa_w[12]\..)$/.test(name)) continue; // fused below
    const isHeads = name.endsWith(".time_faaaa");
    result.push(
      assemble([weight], {
        name: ggufName(name),
        shape: isHeads ? rule.officialShape : shape,
        dtype: ggufDType(weight, dtype),
      }),
    );
  }
  for (let i = 0; i < c.nLayer; i++) {
    const att = `blocks.${i}.att`;
    const fuse = (name: string, parts: readonly CanonicalWeight[], shape: readonly number[]): void => {
      result.push(assemble(parts, { name: `blk.${i}.${name}.weight`, shape, dtype: "f32" }));
    };
    if (c.version === "6") {
      const { tokenShift } = c.ranks;
      const mixes = SHIFT_MAPS.map((letter) => tensors.get(`${att}.time_maa_${letter}`)!);
      fuse("time_mix_lerp_fused", mixes, [5, 1, 1, c.nEmbd]);
      fuse("time_mix_w1", shiftMapParts(weights, `${att}.time_maa_w1`), [5 * tokenShift, c.nEmbd]);
      fuse("time_mix_w2", shiftMapParts(weights, `${att}.time_maa_w2`), [5, c.nEmbd, tokenShift]);
    } else {
      const mixes = ["r", "w", "k", "v", "a", "g"].map((letter) => tensors.get(`${att}.x_${letter}`)!);
      fuse("time_mix_lerp_fused", mixes, [6, 1, 1, c.nEmbd]);
    }
  }
  if (c.version === "7") {
    // llama.cpp wants a value residual in layer 0 too and does not use it; its converter copies the rate's tensors
    for (const digit of ["0", "1", "2"]) {
      const weight = tensors.get(`blocks.0.att.a${digit}`)!;
      const name = `blk.0.time_mix_v${digit}.weight`;
      result.push(assemble([weight], { name, shape: weight.shape, dtype: ggufDType(weight, dtype) }));
    }
  }
  return result;
}

function ggufDType(weight: CanonicalWeight, asked: GgufDType | null): WeightDType {
  const { rule, name } = weight;
  if (rule.kind === "vector" || F32_FACTORS.test(name)) return "f32";
  if (asked === null) {
    const dtype = deviceDType(weight.dtype);
    return dtype === "q8" || dtype === "q4" || hasLevels(dtype) ? "f16" : dtype; // blocks that GGUF does not have
  }
  if (asked !== "q8_0") return asked;
  const isLora = rule.kind === "loraDown" || rule.kind === "loraUp";
  return isLora || weight.shape.at(-1)! % 32 !== 0 ? "f16" : "q8_0";
}

function checkGguf({ source, config: c }: CanonicalWeights): void {
  if (c.version !== "6" && c.version !== "7") {
    throw new UnsupportedError(
      `${source}: is RWKV ${c.version}, but GGUF has a form for RWKV 6 and 7 only. Write safetensors instead.`,
    );
  }
  if (!c.hasLn0 || c.nAtt !== c.nEmbd) {
    const what = c.hasLn0
      ? `has a time mix ${c.nAtt} wide in a stream of ${c.nEmbd}`
      : "has no first norm (blocks.0.ln0)";
    throw new UnsupportedError(`${source}: ${what}, which GGUF cannot express. Write safetensors instead.`);
  }
}

/** llama.cpp's numbers for what most matrices of a file are. */
const FILE_TYPES: Partial<Readonly<Record<DType, number>>> = {
  f32: 0,
  f16: 1,
  q4_0: 2,
  q4_1: 3,
  q8_0: 7,
  q5_0: 8,
  q5_1: 9,
  q2_k: 10,
  q3_k: 12,
  q4_k: 15,
  q5_k: 17,
  q6_k: 18,
  bf16: 32,
};

/**
 * What llama.cpp needs to know of the model beside its tensors and its tokenizer.
 * @param dtype - as given to `ggufTensors`
 */
export function ggufMetadata(weights: CanonicalWeights, dtype: GgufDType | null): Map<string, GgufValue> {
  checkGguf(weights);
  const { config: c } = weights;
  const architecture = `rwkv${c.version}`;
  const matrices = ggufDType(weights.tensors.get("blocks.0.att.key.weight")!, dtype);
  const metadata = new Map<string, GgufValue>([
    ["general.architecture", { type: "string", value: architecture }],
    ["general.file_type", { type: "u32", value: FILE_TYPES[matrices] ?? 0 }],
    ["general.quantization_version", { type: "u32", value: 2 }],
  ]);
  const set = (key: string, value: number): void => {
    metadata.set(`${architecture}.${key}`, { type: "u32", value });
  };
  set("context_length", 1048576); // nominal: the state has no length
  set("embedding_length", c.nEmbd);
  set("block_count", c.nLayer);
  set("feed_forward_length", c.nFfn);
  set("attention.head_count", 0);
  metadata.set(`${architecture}.attention.layer_norm_epsilon`, { type: "f32", value: LAYER_NORM_EPS });
  set("wkv.head_size", c.headSize!);
  for (const [key, value] of ranksOf(weights, c)) set(key, value);
  return metadata;
}

function ranksOf(
  { rescaleEveryNLayers }: CanonicalWeights,
  { version, ranks }: ModelConfig,
): [string, number][] {
  if (version === "6") {
    return [
      ["rescale_every_n_layers", rescaleEveryNLayers],
      ["time_mix_extra_dim", ranks.tokenShift],
      ["time_decay_extra_dim", ranks.decay],
    ];
  }
  return [
    ["attention.decay_lora_rank", ranks.decay],
    ["attention.iclr_lora_rank", ranks.rate],
    ["attention.value_residual_mix_lora_rank", ranks.value],
    ["attention.gate_lora_rank", ranks.gate],
  ];
}
