// The sizes of a model and how they are found: from tensor names and shapes alone, never from metadata, which may be
// missing or wrong. Names are official ones (see weights/); the decision list follows the official `rwkv` package.

import { FormatError } from "../core/errors.ts";
import { matrixShape, type TensorView } from "./weights/view.ts";

/** As the official package counts: 5.0 has no gate, 5.1 one decay per head, 5.2 one per channel. */
export type RwkvVersion = "4" | "5.0" | "5.1" | "5.2" | "6" | "7";

/** Ranks of the low-rank maps; 0 where a version has none. */
export interface LoraRanks {
  /** v6: of each of the five token-shift maps. */
  readonly tokenShift: number;
  /** v6, v7 */
  readonly decay: number;
  /** v7: in-context rate. */
  readonly rate: number;
  /** v7: value residual. 0 in a model of one layer. */
  readonly value: number;
  /** v7 */
  readonly gate: number;
}

/** The sizes of a model, found from tensor names and shapes. */
export interface ModelConfig {
  readonly version: RwkvVersion;
  readonly nLayer: number;
  /** C, width of the residual stream. */
  readonly nEmbd: number;
  /** A, width of the time mix; equal to C in every published model. */
  readonly nAtt: number;
  /** F, hidden width of the channel mix. */
  readonly nFfn: number;
  readonly nVocab: number;
  /** H; null for v4, which has no heads. */
  readonly heads: number | null;
  /** N, with H * N = A. */
  readonly headSize: number | null;
  readonly ranks: LoraRanks;
  /** Rows of the position table added after the first norm (v4neo experiments); 0 for none. */
  readonly positions: number;
  /** False where the first norm is folded into the embedding, or left out. */
  readonly hasLn0: boolean;
}

/** eps of every layer norm of every version. */
export const LAYER_NORM_EPS = 1e-5;
/** eps of the group norm: 1e-5 times the square of the training code's `head_size_divisor`, 8. */
export const GROUP_NORM_EPS = 64e-5;
/** Guard of v7's key normalisation. */
export const L2_NORM_EPS = 1e-12;

/** Models use 64; the state grows with its square, so that nonsense here would ask for any amount of memory. */
const MAX_HEAD_SIZE = 1024;

const NO_RANKS: LoraRanks = { tokenShift: 0, decay: 0, rate: 0, value: 0, gate: 0 };

/** @throws FormatError for names of no known version */
export function detectVersion(source: string, tensors: ReadonlyMap<string, TensorView>): RwkvVersion {
  const has = (name: string): boolean => tensors.has(`blocks.0.att.${name}`);
  if (has("r_k") || has("k_k") || has("x_r")) return "7";
  if (has("time_maa_w1.w") || has("time_maa_w1") || has("time_maa_x")) return "6";
  if (has("ln_x.weight")) {
    if (!has("gate.weight")) return "5.0";
    const decay = tensors.get("blocks.0.att.time_decay")?.shape ?? [];
    return (decay[1] ?? 1) > 1 ? "5.2" : "5.1";
  }
  if (has("time_decay")) return "4";
  throw new FormatError(
    `${source}: none of the ${tensors.size} tensors is one that RWKV 4 to 7 is known by (blocks.0.att.time_decay, ` +
      `att.ln_x, att.time_maa_w1, att.r_k under any known naming). This is not an RWKV language model, or its first layer is missing.`,
  );
}

/**
 * Finds the config of a checkpoint under official names.
 * @param source - name of the checkpoint, for messages
 * @throws FormatError naming the tensor that is missing or whose shape makes no sense
 */
export function detectConfig(source: string, tensors: ReadonlyMap<string, TensorView>): ModelConfig {
  const version = detectVersion(source, tensors);
  const att = (name: string): TensorView => need(source, tensors, `blocks.0.att.${name}`);
  const [nVocab, nEmbd] = matrix(source, need(source, tensors, "emb.weight"));
  const [nAtt] = matrix(source, att("key.weight"));
  const [nFfn] = matrix(source, need(source, tensors, "blocks.0.ffn.key.weight"));
  const nLayer = countLayers(source, tensors);
  const rank = (view: TensorView): number => rankOf(source, view, nEmbd);

  let heads: number | null = null;
  let ranks = NO_RANKS;
  if (version === "7") {
    const valueDown = tensors.get("blocks.1.att.v1");
    heads = firstOf(source, att("r_k"));
    ranks = {
      tokenShift: 0,
      decay: rank(att("w1")),
      rate: rank(att("a1")),
      value: valueDown === undefined ? 0 : rank(valueDown),
      gate: rank(att("g1")),
    };
  } else if (version === "6") {
    heads = firstOf(source, att("time_faaaa"));
    ranks = { ...NO_RANKS, tokenShift: rank(att("time_maa_w1.w")), decay: rank(att("time_decay_w1")) };
  } else if (version !== "4") {
    heads = firstOf(source, att("time_decay"));
  }
  if (heads !== null && nAtt % heads !== 0) {
    throw new FormatError(
      `${source}: ${heads} heads do not divide the attention width ${nAtt} of "${att("key.weight").fileName}". ` +
        `The file is damaged or of an unknown variant.`,
    );
  }
  const headSize = heads === null ? null : nAtt / heads;
  if (headSize !== null && headSize > MAX_HEAD_SIZE) {
    throw new FormatError(
      `${source}: ${heads!} heads in an attention width of ${nAtt} make a head size of ${headSize}, but the largest ` +
        `that any model could use is ${MAX_HEAD_SIZE}. The file is damaged or of an unknown variant.`,
    );
  }
  return {
    version,
    nLayer,
    nEmbd,
    nAtt,
    nFfn,
    nVocab,
    heads,
    headSize,
    ranks,
    positions: version === "4" ? countPositions(source, tensors) : 0,
    hasLn0: tensors.has("blocks.0.ln0.weight"),
  };
}

/** The number of layers, whose indices must be contiguous; bounded by the number of names. */
function countLayers(source: string, tensors: ReadonlyMap<string, TensorView>): number {
  const seen = new Set<number>();
  let last = 0;
  for (const name of tensors.keys()) {
    const index = /^blocks\.(\d+)\./.exec(name)?.[1];
    if (index === undefined) continue;
    seen.add(Number(index));
    last = Math.max(last, Number(index));
  }
  for (let layer = 0; layer < seen.size; layer++) {
    if (!seen.has(layer)) {
      throw new FormatError(
        `${source}: has tensors of ${seen.size} layers, up to number ${last}, but none of layer ${layer}. ` +
          `A part of the model is missing: download it again, with all its parts.`,
      );
    }
  }
  return seen.size;
}

/** The square table of v4neo, less its last row, which the training code leaves out. */
function countPositions(source: string, tensors: ReadonlyMap<string, TensorView>): number {
  if (!tensors.has("blocks.0.pos_emb_x")) return 0;
  const shape = need(source, tensors, "blocks.0.pos_emb_x").shape;
  const side = shape.at(-2) ?? 1;
  return side * side - 1;
}

function need(source: string, tensors: ReadonlyMap<string, TensorView>, name: string): TensorView {
  const view = tensors.get(name);
  if (view !== undefined) return view;
  throw new FormatError(
    `${source}: tensor "${name}" is missing (names after translation to the official scheme). ` +
      `The file is incomplete or of an unknown variant: download it again, with all its parts.`,
  );
}

function matrix(source: string, view: TensorView): readonly [number, number] {
  const shape = matrixShape(view.shape);
  if (shape !== null && shape[0] > 0 && shape[1] > 0) return shape;
  throw new FormatError(
    `${source}: tensor "${view.fileName}" should be a matrix, but its shape is [${view.shape.join(", ")}]. The file is damaged.`,
  );
}

function firstOf(source: string, view: TensorView): number {
  const [first] = view.shape;
  if (first !== undefined && first > 0) return first;
  throw new FormatError(
    `${source}: tensor "${view.fileName}" should have one row per head, but its shape is [${view.shape.join(", ")}]. The file is damaged.`,
  );
}

/** The rank of the first factor of a low-rank map whose input has `width` elements. */
function rankOf(source: string, view: TensorView, width: number): number {
  const [rows, columns] = matrix(source, view);
  const isOutIn = view.loraOrder === "out-in" || (view.loraOrder === "by-shape" && rows !== width);
  return isOutIn ? rows : columns;
}
