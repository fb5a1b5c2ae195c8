// From the tensors of an adapter file to changes of a model's weights: low-rank pairs, and tensors that were trained whole.
// Hides the layouts that programs write. Sources: RWKV-PEFT and other RWKV trainers, web-rwkv's convert_safetensors.py.
//
//   RWKV trainers, PEFT   X.lora_A [rank, in]     X.lora_B [out, rank]     with or without ".weight" behind
//   web-rwkv              X.lora.0 [in, rank]     X.lora.1 [out, rank]
//   all others            a weight of the model under its own name, which takes the place of the model's

import {
  byteLengthOf,
  countElements,
  isQuantized,
  isWeightDType,
  type WeightDType,
} from "../../core/dtype.ts";
import { decodeToF32 } from "../../core/decode.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import type { Checkpoint, CheckpointTensor } from "../../formats/checkpoint.ts";
import { canonicalWeight, type CanonicalWeight, type CanonicalWeights } from "../weights/canonical.ts";
import { officialScheme, wrapperOf } from "../weights/official.ts";
import { matrixShape, transposed, viewOf, type TensorView } from "../weights/view.ts";

/** The key of safetensors metadata under which this project's adapters say their alpha. */
export const LORA_ALPHA_KEY = "rwkv.loraAlpha";

/** A change of rank `rank`: W becomes W + (alpha / rank) B A. */
export interface LowRankPair {
  /** Official name of the weight it changes. */
  readonly name: string;
  readonly rank: number;
  /** A, `[rank, in]`, row-major. */
  readA(signal?: AbortSignal): Promise<Float32Array>;
  /** B, `[out, rank]`, row-major. */
  readB(signal?: AbortSignal): Promise<Float32Array>;
}

/** What an adapter file holds, for the model it was read for. */
export interface Adapter {
  /** What messages call the file. */
  readonly source: string;
  /** By the official name of the weight; at least one. */
  readonly pairs: ReadonlyMap<string, LowRankPair>;
  /** Weights that take the place of the model's, by official name. */
  readonly replaced: ReadonlyMap<string, CanonicalWeight>;
  /** As the file says; null for files that do not, such as all of RWKV's trainers. */
  readonly alpha: number | null;
}

const PEFT_PREFIX = "base_model.model.";
const FACTOR = /^(.+?)(?:\.weight)?\.(lora_a|lora_b|lora\.0|lora\.1)(?:\.default)?(?:\.weight)?$/i;
/** Other kinds of adapters, by what ends their names. */
const OTHER_KINDS: readonly (readonly [RegExp, string])[] = [
  [/\.(disha|bone)$/, "DiSHA (Bone)"],
  [/\.init_lora_[AB]$/i, "PiSSA"],
  [/\.lora_magnitude_vector(\.|$)/, "DoRA"],
  [/\.lora_embedding_[AB]$/, "PEFT's embeddings"],
];

interface Factors {
  a?: TensorView;
  b?: TensorView;
}

/**
 * Reads the header of an adapter and holds it against the model that it shall change.
 * @param weights - of that model
 * @throws FormatError if it holds no pair, half of one, or anything that does not fit the model
 * @throws UnsupportedError for adapters of other kinds
 */
export function readAdapter(checkpoint: Checkpoint, weights: CanonicalWeights): Adapter {
  const source = checkpoint.name;
  if (checkpoint.format !== "pth" && checkpoint.format !== "safetensors") {
    throw new UnsupportedError(
      `${source}: is a ${checkpoint.format} file; adapters are read from .pth and .safetensors. Give the adapter as its ` +
        `trainer wrote it.`,
    );
  }
  refuseOtherKinds(checkpoint);
  const { factors, tensors } = sortTensors(checkpoint, weights);
  if (factors.size === 0) {
    throw new FormatError(
      `${source}: none of the ${checkpoint.tensors.size} tensors is half of a low-rank pair (names that end in .lora_A and ` +
        `.lora_B, or .lora.0 and .lora.1). This is no LoRA adapter: give the file that the training of one wrote.`,
    );
  }
  const pairs = new Map<string, LowRankPair>();
  const replaced = new Map<string, CanonicalWeight>();
  for (const [name, view] of officialNames(checkpoint, weights, factors, tensors)) {
    const target = weights.tensors.get(name);
    const pair = factors.get(view.fileName);
    if (pair === undefined && isUnused(name, view)) continue;
    if (target === undefined) throw unknownTarget(source, view.fileName, name, weights);
    if (pair === undefined) replaced.set(name, canonicalWeight(source, target.rule, view));
    else pairs.set(name, lowRankPair(source, target, pair));
  }
  return { source, pairs, replaced, alpha: statedAlpha(checkpoint) };
}

function refuseOtherKinds({ name, tensors }: Checkpoint): void {
  for (const tensorName of tensors.keys()) {
    const kind = OTHER_KINDS.find(([pattern]) => pattern.test(tensorName))?.[1];
    if (kind === undefined) continue;
    throw new UnsupportedError(
      `${name}: tensor "${tensorName}" belongs to an adapter of the kind ${kind}, but only LoRA is merged. Merge it with the ` +
        `program that trained it, and load the result.`,
    );
  }
}

/** Pairs by the name of their first tensor, and all other tensors, prefixes of wrappers left out. */
function sortTensors(
  checkpoint: Checkpoint,
  { config }: CanonicalWeights,
): {
  factors: Map<string, Factors & { target: string }>;
  tensors: Map<string, CheckpointTensor>;
} {
  const names = [...checkpoint.tensors.keys()];
  const peft = names.every((name) => name.startsWith(PEFT_PREFIX)) ? PEFT_PREFIX : "";
  const prefix = peft + wrapperOf(names.map((name) => name.slice(peft.length)));
  const byTarget = new Map<string, Factors>();
  const tensors = new Map<string, CheckpointTensor>();
  for (const [fileName, tensor] of checkpoint.tensors) {
    const [, target, part = ""] = FACTOR.exec(fileName.slice(prefix.length)) ?? [];
    if (target === undefined) {
      const name = fileName.slice(prefix.length);
      // web-rwkv's name; version 6 has no tensor that is called so officially
      tensors.set(config.version === "6" ? name.replace(".time_mix_", ".time_maa_") : name, tensor);
      continue;
    }
    const factors = byTarget.get(target) ?? {};
    byTarget.set(target, factors);
    const isA = /a$|0$/i.test(part);
    if (factors[isA ? "a" : "b"] !== undefined) {
      throw new FormatError(
        `${checkpoint.name}: tensor "${fileName}" is the second of its kind for "${target}". Keep one of the two.`,
      );
    }
    factors[isA ? "a" : "b"] = factorView(checkpoint, tensor, part === "lora.0");
  }
  const factors = new Map<string, Factors & { target: string }>();
  for (const [target, { a, b }] of byTarget) {
    if (a !== undefined && b !== undefined) {
      factors.set(a.fileName, { a, b, target });
      continue;
    }
    throw new FormatError(
      `${checkpoint.name}: tensor "${(a ?? b)!.fileName}" is half of a low-rank pair whose other half is missing. The file is ` +
        `incomplete: get it again.`,
    );
  }
  return { factors, tensors };
}

function factorView({ name }: Checkpoint, tensor: CheckpointTensor, isTransposed: boolean): TensorView {
  const shape = matrixShape(tensor.shape);
  if (shape === null || shape.includes(0) || !isWeightDType(tensor.dtype) || isQuantized(tensor.dtype)) {
    throw new FormatError(
      `${name}: tensor "${tensor.name}" should be a matrix of f32, f16 or bf16, but is ${tensor.dtype} ` +
        `[${tensor.shape.join(", ")}]. The file is damaged or no LoRA adapter.`,
    );
  }
  const view = { ...viewOf(tensor), shape };
  return isTransposed ? transposed(view) : view;
}

/**
 * The first tensor of each pair under its target's official name, and the other tensors under theirs. The naming scheme
 * looks at tensors that a model has and an adapter need not have; those stand in for it.
 */
function officialNames(
  checkpoint: Checkpoint,
  { config }: CanonicalWeights,
  factors: ReadonlyMap<string, Factors & { target: string }>,
  tensors: ReadonlyMap<string, CheckpointTensor>,
): Map<string, TensorView> {
  const standIns = new Map<string, CheckpointTensor>([
    ["emb.weight", standIn([config.nVocab, config.nEmbd])],
  ]);
  if (config.version !== "4") standIns.set("blocks.0.att.ln_x.weight", standIn([config.nAtt]));
  if (config.version !== "4" && config.version !== "5.0" && config.version !== "7") {
    standIns.set("blocks.0.att.gate.weight", standIn([config.nAtt, config.nEmbd]));
  }
  const named = new Map([...standIns, ...tensors]);
  for (const { a, target } of factors.values()) {
    const name = `${target}.weight`;
    if (tensors.has(name)) {
      throw new FormatError(
        `${checkpoint.name}: holds both a low-rank pair for "${name}" and the whole of it. Keep one of the two.`,
      );
    }
    named.set(name, { ...standIn(a!.shape), name: a!.fileName });
  }
  const scheme = officialScheme(
    { ...checkpoint, tensors: named },
    checkpoint.format === "pth" ? "in-out" : "by-shape",
  );
  for (const name of standIns.keys()) {
    if (scheme.tensors.get(name)?.fileName === STAND_IN) scheme.tensors.delete(name);
  }
  return scheme.tensors;
}

const STAND_IN = "(not in the file)";

/** A tensor that is looked at but never read. */
function standIn(shape: readonly number[]): CheckpointTensor {
  return { name: STAND_IN, dtype: "f32", shape, byteLength: 0, read: () => Promise.resolve() };
}

/** What trainers leave beside: counters, and dummies of version 7's first layer. */
function isUnused(name: string, view: TensorView): boolean {
  return countElements(view.shape) === 1 || /^blocks\.0\.att\.v[012]$/.test(name);
}

function unknownTarget(
  source: string,
  fileName: string,
  name: string,
  { source: model, config }: CanonicalWeights,
): FormatError {
  return new FormatError(
    `${source}: tensor "${fileName}" is for "${name}", which ${model} (RWKV ${config.version}, ${config.nLayer} layers) does ` +
      `not have. The adapter was made for another model: load that one.`,
  );
}

function lowRankPair(source: string, target: CanonicalWeight, { a, b }: Factors): LowRankPair {
  const [kind, [nOut, nIn]] = [target.rule.kind, target.shape as readonly [number, number]];
  if (kind !== "matrix" && kind !== "embedding") {
    throw new FormatError(
      `${source}: tensor "${a!.fileName}" is for "${target.name}", which is no matrix of full rank. The adapter was made for ` +
        `another kind of model.`,
    );
  }
  const [rank, width] = a!.shape as readonly [number, number];
  const [height, rankOfB] = b!.shape as readonly [number, number];
  if (rank !== rankOfB) {
    throw new FormatError(
      `${source}: the low-rank pair for "${target.name}" has rank ${rank} in "${a!.fileName}" and rank ${rankOfB} in ` +
        `"${b!.fileName}". The file is damaged or was written wrongly: get it again.`,
    );
  }
  if (width !== nIn || height !== nOut) {
    throw new FormatError(
      `${source}: the low-rank pair for "${target.name}" makes a matrix of [${height}, ${width}], but the model's is ` +
        `[${nOut}, ${nIn}]. The adapter was made for another model: load that one.`,
    );
  }
  return {
    name: target.name,
    rank,
    readA: (signal) => readFactor(source, a!, signal),
    readB: (signal) => readFactor(source, b!, signal),
  };
}

async function readFactor(source: string, view: TensorView, signal?: AbortSignal): Promise<Float32Array> {
  const dtype = view.dtype as WeightDType; // checked when the view was made
  const bytes = new Uint8Array(byteLengthOf(dtype, view.shape));
  await view.read(bytes, signal);
  const values = new Float32Array(countElements(view.shape));
  decodeToF32(dtype, bytes, values);
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad < 0) return values;
  throw new FormatError(
    `${source}: tensor "${view.fileName}" holds ${values[bad]!}. The training diverged or the file is damaged: use another.`,
  );
}

function statedAlpha({ name, metadata }: Checkpoint): number | null {
  const stated = metadata.get(LORA_ALPHA_KEY);
  if (stated === undefined) return null;
  const alpha = typeof stated === "string" && stated.trim() !== "" ? Number(stated) : NaN;
  if (Number.isFinite(alpha)) return alpha;
  throw new FormatError(
    `${name}: metadata "${LORA_ALPHA_KEY}" should be a number, but is ${JSON.stringify(String(stated)).slice(0, 80)}. The file ` +
      `was written wrongly: make it again.`,
  );
}
