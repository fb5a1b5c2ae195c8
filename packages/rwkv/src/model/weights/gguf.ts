// GGUF files of RWKV-6 and RWKV-7. Low-rank factors are [out, in]; shift vectors are fused; v7's r_k is flat, so that
// its head size comes from the metadata. Source: llama.cpp, convert_hf_to_gguf.py and src/llama-arch.cpp.

import { countElements } from "../../core/dtype.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import type { Checkpoint } from "../../formats/checkpoint.ts";
import { inverseOf, normNames, translate, type NameTable } from "./renaming.ts";
import { addView, splitFused, splitShiftMaps, type SchemeResult } from "./scheme.ts";
import { SHIFT_MAPS } from "./tables.ts";
import { reshaped, viewOf, withoutUnits, type TensorView } from "./view.ts";

const COMMON_LAYER = {
  ...normNames("attn_norm", "ln1"),
  ...normNames("attn_norm_2", "ln2"),
  ...normNames("time_mix_ln", "att.ln_x"),
  "time_mix_receptance.weight": "att.receptance.weight",
  "time_mix_key.weight": "att.key.weight",
  "time_mix_value.weight": "att.value.weight",
  "time_mix_output.weight": "att.output.weight",
  "channel_mix_key.weight": "ffn.key.weight",
  "channel_mix_value.weight": "ffn.value.weight",
};

const GLOBALS = {
  "token_embd.weight": "emb.weight",
  ...normNames("token_embd_norm", "blocks.0.ln0"),
  ...normNames("output_norm", "ln_out"),
  "output.weight": "head.weight",
};

const GGUF6: NameTable = {
  globals: GLOBALS,
  layerPrefix: "blk.",
  layer: {
    ...COMMON_LAYER,
    "time_mix_w1.weight": "att.time_maa_w1",
    "time_mix_w2.weight": "att.time_maa_w2",
    "time_mix_lerp_x.weight": "att.time_maa_x",
    "time_mix_lerp_w.weight": "att.time_maa_w",
    "time_mix_lerp_k.weight": "att.time_maa_k",
    "time_mix_lerp_v.weight": "att.time_maa_v",
    "time_mix_lerp_r.weight": "att.time_maa_r",
    "time_mix_lerp_g.weight": "att.time_maa_g",
    "time_mix_lerp_fused.weight": "att.lerp_fused",
    "time_mix_first.weight": "att.time_faaaa",
    "time_mix_decay.weight": "att.time_decay",
    "time_mix_decay_w1.weight": "att.time_decay_w1",
    "time_mix_decay_w2.weight": "att.time_decay_w2",
    "time_mix_gate.weight": "att.gate.weight",
    "channel_mix_lerp_k.weight": "ffn.time_maa_k",
    "channel_mix_lerp_r.weight": "ffn.time_maa_r",
    "channel_mix_receptance.weight": "ffn.receptance.weight",
  },
};

const GGUF7: NameTable = {
  globals: GLOBALS,
  layerPrefix: "blk.",
  layer: {
    ...COMMON_LAYER,
    "time_mix_lerp_fused.weight": "att.lerp_fused",
    ...Object.fromEntries(
      ["w0", "w1", "w2", "a0", "a1", "a2", "v0", "v1", "v2", "g1", "g2", "k_k", "k_a", "r_k"].map((name) => [
        `time_mix_${name}.weight`,
        `att.${name}`,
      ]),
    ),
    "channel_mix_lerp_k.weight": "ffn.x_k",
  },
};

/** From official names to those of a file of the architecture, for every tensor that is not fused. */
export function ggufNames(architecture: "rwkv6" | "rwkv7"): (official: string) => string {
  return inverseOf(architecture === "rwkv6" ? GGUF6 : GGUF7);
}

/** Beyond this many halvings a f32 weight has nothing left; no real file has more than ten. */
const MAX_RESCALE_EXPONENT = 64;

export function ggufScheme(checkpoint: Checkpoint): SchemeResult {
  const architecture = checkpoint.metadata.get("general.architecture");
  if (architecture !== "rwkv6" && architecture !== "rwkv7") throw refusal(checkpoint, architecture);
  const tensors = new Map<string, TensorView>();
  const table = architecture === "rwkv6" ? GGUF6 : GGUF7;
  for (const [name, tensor] of checkpoint.tensors) {
    addView(checkpoint, tensors, translate(name, table), viewOf(tensor, "out-in"));
  }
  const letters = architecture === "rwkv6" ? SHIFT_MAPS : ["r", "w", "k", "v", "a", "g"];
  const prefix = architecture === "rwkv6" ? "time_maa_" : "x_";
  for (const name of [...tensors.keys()]) {
    if (!name.endsWith(".att.lerp_fused")) continue;
    const att = name.slice(0, name.lastIndexOf("."));
    splitFused(
      checkpoint,
      tensors,
      name,
      letters.map((letter) => `${att}.${prefix}${letter}`),
    );
  }
  splitShiftMaps(checkpoint, tensors, SHIFT_MAPS);
  if (architecture === "rwkv7") restoreHeads(checkpoint, tensors);
  return {
    tensors,
    mayLackLn0: false,
    isStateTransposed: false,
    rescaleEveryNLayers: architecture === "rwkv6" ? rescaleInterval(checkpoint, tensors) : 0,
  };
}

function refusal(checkpoint: Checkpoint, architecture: unknown): FormatError | UnsupportedError {
  if (typeof architecture !== "string") {
    return new FormatError(
      `${checkpoint.name}: metadata key "general.architecture" is missing, so the model cannot be told. Convert it again.`,
    );
  }
  const isHybrid = architecture === "rwkv6qwen2" || architecture === "arwkv7";
  return new UnsupportedError(
    `${checkpoint.name}: general.architecture is "${architecture}"` +
      `${isHybrid ? ", a hybrid of RWKV and a transformer," : ""} but only rwkv6 and rwkv7 are supported. ` +
      `Use llama.cpp for this file.`,
  );
}

/** r_k is stored flat: give it back its `[H, N]`. */
function restoreHeads(checkpoint: Checkpoint, tensors: Map<string, TensorView>): void {
  for (const [name, view] of [...tensors]) {
    if (!name.endsWith(".att.r_k") || withoutUnits(view.shape).length > 1) continue;
    const headSize = checkpoint.metadata.get("rwkv7.wkv.head_size");
    const width = countElements(view.shape);
    if (
      typeof headSize !== "number" ||
      !Number.isInteger(headSize) ||
      headSize < 1 ||
      width % headSize !== 0
    ) {
      throw new FormatError(
        `${checkpoint.name}: metadata key "rwkv7.wkv.head_size" should divide the ${width} elements of ` +
          `"${view.fileName}", but it is ${String(headSize)}. Convert the model again.`,
      );
    }
    tensors.set(name, reshaped(view, [width / headSize, headSize]));
  }
}

function rescaleInterval(checkpoint: Checkpoint, tensors: ReadonlyMap<string, TensorView>): number {
  const interval = checkpoint.metadata.get("rwkv6.rescale_every_n_layers") ?? 0;
  if (typeof interval !== "number" || !Number.isInteger(interval) || interval < 0) {
    throw new FormatError(
      `${checkpoint.name}: metadata key "rwkv6.rescale_every_n_layers" should be a number of layers or 0, but it is ` +
        `${String(interval)}. Convert the model again.`,
    );
  }
  let nLayer = 0;
  while (tensors.has(`blocks.${nLayer}.ln1.weight`)) nLayer++;
  if (interval > 0 && Math.floor((nLayer - 1) / interval) > MAX_RESCALE_EXPONENT) {
    throw new FormatError(
      `${checkpoint.name}: weights of the last of ${nLayer} layers would be divided by 2 every ${interval} layers ` +
        `("rwkv6.rescale_every_n_layers"), which leaves nothing of them. The metadata is damaged: convert the model again.`,
    );
  }
  return interval;
}
