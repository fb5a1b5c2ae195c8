// fla's RWKV-7 and RWKV-6 classes, and transformers' RwkvForCausalLM, which mixes both naming styles. Sources:
// fla-org/flash-linear-attention, models/rwkv7, models/rwkv6 and utils/convert_from_rwkv{6,7}.py; rwkv-rs/rwkv7-g1-st.

import type { Checkpoint } from "../../formats/checkpoint.ts";
import { normNames, translate, type NameTable } from "./renaming.ts";
import { addView, splitFused, splitShiftMaps, type SchemeResult } from "./scheme.ts";
import { matrixShape, transposed, viewOf, type LoraOrder, type TensorView } from "./view.ts";

const FLA_GLOBALS = {
  "model.embeddings.weight": "emb.weight",
  ...normNames("model.norm", "ln_out"),
  "lm_head.weight": "head.weight",
};

const FLA_NORMS = {
  ...normNames("pre_norm", "ln0"),
  ...normNames("attn_norm", "ln1"),
  ...normNames("ffn_norm", "ln2"),
  ...normNames("attn.g_norm", "att.ln_x"),
};

/** The three tensors of a low-rank map in fla. */
function loraNames(from: string, letter: string): Record<string, string> {
  return {
    [`attn.${from}.lora.0.weight`]: `att.${letter}1`,
    [`attn.${from}.lora.2.weight`]: `att.${letter}2`,
    [`attn.${from}.lora.2.bias`]: `att.${letter}0`,
  };
}

function sameNames(from: string, to: string, names: readonly string[]): Record<string, string> {
  return Object.fromEntries(names.map((name) => [`${from}.${name}`, `${to}.${name}`]));
}

const MIX7 = ["x_r", "x_w", "x_k", "x_v", "x_a", "x_g"];

const FLA7: NameTable = {
  globals: FLA_GLOBALS,
  layerPrefix: "model.layers.",
  layer: {
    ...FLA_NORMS,
    ...sameNames("attn", "att", [...MIX7, "x_x", "k_k", "k_a", "r_k"]),
    "attn.r_proj.weight": "att.receptance.weight",
    "attn.k_proj.weight": "att.key.weight",
    "attn.v_proj.weight": "att.value.weight",
    "attn.o_proj.weight": "att.output.weight",
    ...loraNames("w_lora", "w"),
    ...loraNames("a_lora", "a"),
    ...loraNames("v_lora", "v"),
    ...loraNames("g_lora", "g"),
    ...sameNames("ffn", "ffn", ["x_k", "key.weight", "value.weight"]),
  },
};

const FLA6: NameTable = {
  globals: FLA_GLOBALS,
  layerPrefix: "model.layers.",
  layer: {
    ...FLA_NORMS,
    "attn.x_proj.0.mu": "att.time_maa_x",
    "attn.x_proj.0.linear.weight": "att.time_maa_w1",
    "attn.x_proj.2.weight": "att.time_maa_w2",
    "attn.x_bias": "att.x_bias",
    "attn.r_proj.linear.weight": "att.receptance.weight",
    "attn.k_proj.linear.weight": "att.key.weight",
    "attn.v_proj.linear.weight": "att.value.weight",
    "attn.g_proj.linear.weight": "att.gate.weight",
    "attn.o_proj.weight": "att.output.weight",
    "attn.w_proj.linear.lora.0.weight": "att.time_decay_w1",
    "attn.w_proj.linear.lora.2.weight": "att.time_decay_w2",
    "attn.w_proj.linear.lora.2.bias": "att.time_decay",
    "attn.bonus": "att.time_faaaa",
    "ffn.key.linear.weight": "ffn.key.weight",
    "ffn.key.mu": "ffn.time_maa_k",
    "ffn.receptance.linear.weight": "ffn.receptance.weight",
    "ffn.receptance.mu": "ffn.time_maa_r",
    "ffn.value.weight": "ffn.value.weight",
  },
};

/** The order in which fla's RWKV-6 stacks the five shift maps. */
const FLA6_ORDER = ["r", "w", "k", "v", "g"] as const;

const TRANSFORMERS7: NameTable = {
  globals: {
    "model.embed_tokens.weight": "emb.weight",
    ...normNames("model.embedding_norm", "blocks.0.ln0"),
    ...normNames("model.norm", "ln_out"),
    "lm_head.weight": "head.weight",
  },
  layerPrefix: "model.layers.",
  layer: {
    ...normNames("input_layernorm", "ln1"),
    ...normNames("post_attention_layernorm", "ln2"),
    ...normNames("linear_attn.g_norm", "att.ln_x"),
    "linear_attn.r_proj.weight": "att.receptance.weight",
    "linear_attn.k_proj.weight": "att.key.weight",
    "linear_attn.v_proj.weight": "att.value.weight",
    "linear_attn.o_proj.weight": "att.output.weight",
    ...sameNames("linear_attn", "att", [...MIX7, "k_k", "k_a", "r_k"]),
    ...sameNames(
      "linear_attn",
      "att",
      ["w", "a", "v", "g"].flatMap((q) => [`${q}0`, `${q}1`, `${q}2`]),
    ),
    ...sameNames("mlp", "ffn", ["x_k", "key.weight", "value.weight"]),
  },
};

export function fla7Scheme(checkpoint: Checkpoint): SchemeResult {
  const tensors = renamed(checkpoint, FLA7, "out-in");
  for (const name of [...tensors.keys()]) {
    if (!name.endsWith(".att.x_x")) continue;
    const att = name.slice(0, name.lastIndexOf("."));
    splitFused(
      checkpoint,
      tensors,
      name,
      MIX7.map((mix) => `${att}.${mix}`),
    );
  }
  return result(tensors, true);
}

export function fla6Scheme(checkpoint: Checkpoint): SchemeResult {
  const tensors = renamed(checkpoint, FLA6, "out-in");
  for (const [name, view] of [...tensors]) {
    if (name.endsWith(".att.time_maa_w2")) {
      // [C, 5 D]: the five are side by side, so turn it, cut it, and turn each back when it is read
      const shape = matrixShape(view.shape);
      if (shape === null) continue;
      tensors.set(name, transposed({ ...view, shape }));
    } else if (name.endsWith(".att.x_bias")) {
      const att = name.slice(0, name.lastIndexOf("."));
      splitFused(
        checkpoint,
        tensors,
        name,
        FLA6_ORDER.map((letter) => `${att}.time_maa_${letter}`),
      );
    }
  }
  splitShiftMaps(checkpoint, tensors, FLA6_ORDER);
  return result(tensors, true);
}

export function transformers7Scheme(checkpoint: Checkpoint): SchemeResult {
  return result(renamed(checkpoint, TRANSFORMERS7, "by-shape"), true);
}

function renamed(checkpoint: Checkpoint, table: NameTable, loraOrder: LoraOrder): Map<string, TensorView> {
  const tensors = new Map<string, TensorView>();
  for (const [name, tensor] of checkpoint.tensors) {
    addView(checkpoint, tensors, translate(name, table), viewOf(tensor, loraOrder));
  }
  return tensors;
}

function result(tensors: Map<string, TensorView>, mayLackLn0: boolean): SchemeResult {
  return { tensors, mayLackLn0, isStateTransposed: false, rescaleEveryNLayers: 0 };
}
