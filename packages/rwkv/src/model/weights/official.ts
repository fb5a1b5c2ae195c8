// The official scheme and those that are close to it: wrappers' prefixes, web-rwkv's renames, transformers' RWKV-4 to
// 6 classes, and ports that put the official names under a prefix. Sources: RWKV-LM, web-rwkv's convert_safetensors.py,
// transformers' modeling_rwkv.py.

import type { Checkpoint } from "../../formats/checkpoint.ts";
import { addView, splitFused, splitShiftMaps, type SchemeResult } from "./scheme.ts";
import { SHIFT_MAPS } from "./tables.ts";
import { viewOf, type LoraOrder, type TensorView } from "./view.ts";

/** What training wrappers put before every name. */
const WRAPPERS = ["_forward_module.", "module.", "_orig_mod.", "model."] as const;

/** What model classes put before all names but the head's. */
const CLASS_PREFIXES = ["rwkv.", "rwkv7.", "model."] as const;

/** Order of the six fused token-shift vectors of v7, in every file that fuses them. */
const MIX7 = ["r", "w", "k", "v", "a", "g"] as const;

/** Names of transformers' RWKV-4 to 6 classes, by the last part. */
const HF_PARTS: Readonly<Record<string, string>> = {
  time_mix_key: "time_mix_k",
  time_mix_value: "time_mix_v",
  time_mix_receptance: "time_mix_r",
  time_mix_gate: "time_mix_g",
};

/** Wrappers nest a few deep; a file's names must not make this go on forever. */
const MAX_WRAPPERS = 8;

/** The wrappers that stand before every name of a file. */
export function wrapperOf(names: readonly string[]): string {
  let prefix = "";
  for (let depth = 0; depth < MAX_WRAPPERS && names.length > 0; depth++) {
    const next = WRAPPERS.find((wrapper) => names.every((name) => name.startsWith(prefix + wrapper)));
    if (next === undefined) break;
    prefix += next;
  }
  return prefix;
}

/** @param loraOrder - orientation of the low-rank factors, where the format fixes it */
export function officialScheme(checkpoint: Checkpoint, loraOrder: LoraOrder = "by-shape"): SchemeResult {
  const names = [...checkpoint.tensors.keys()];
  const wrapper = wrapperOf(names);
  const stripped = names.map((name) => name.slice(wrapper.length));
  const classPrefix = CLASS_PREFIXES.find((prefix) =>
    stripped.some((name) => name.startsWith(`${prefix}blocks.0.`)),
  );
  const official = (name: string): string => {
    let result = name.slice(wrapper.length);
    if (classPrefix !== undefined && result.startsWith(classPrefix))
      result = result.slice(classPrefix.length);
    return fromClassName(result);
  };

  const tensors = new Map<string, TensorView>();
  for (const [name, tensor] of checkpoint.tensors) {
    addView(checkpoint, tensors, official(name), viewOf(tensor, loraOrder));
  }
  const isWebRwkv = undoWebRwkvNames(checkpoint, tensors);
  splitShiftMaps(checkpoint, tensors, SHIFT_MAPS);
  for (const name of [...tensors.keys()]) {
    if (!/\.att\.x_(x|rwkvag)$/.test(name)) continue;
    const att = name.slice(0, name.lastIndexOf("."));
    splitFused(
      checkpoint,
      tensors,
      name,
      MIX7.map((q) => `${att}.x_${q}`),
    );
  }
  return {
    tensors,
    // transformers' RWKV-7 folds it; safetensors may be a conversion of such a model
    mayLackLn0: checkpoint.format === "safetensors" || classPrefix === "rwkv7." || classPrefix === "model.",
    isStateTransposed: checkpoint.format === "safetensors" && (isWebRwkv || hasTransposedLoras(tensors)),
    rescaleEveryNLayers: 0,
  };
}

function fromClassName(name: string): string {
  if (name === "embeddings.weight") return "emb.weight";
  const [, block, kind, rest] = /^(blocks\.\d+)\.(pre_ln|attention|feed_forward)\.(.*)$/s.exec(name) ?? [];
  if (block === undefined || rest === undefined) return name;
  if (kind === "pre_ln") return `${block}.ln0.${rest}`;
  return `${block}.${kind === "attention" ? "att" : "ffn"}.${Object.hasOwn(HF_PARTS, rest) ? HF_PARTS[rest]! : rest}`;
}

/**
 * web-rwkv writes `time_mix` for `time_maa` and `time_first` for `time_faaaa`. Version 6 is told by its shift maps;
 * `time_first` is the bonus itself in models with a gate, its logarithm in the oldest v5, and v4's own name in v4.
 * @returns whether the file has such names
 */
function undoWebRwkvNames(checkpoint: Checkpoint, tensors: Map<string, TensorView>): boolean {
  const isRenamed6 = tensors.has("blocks.0.att.time_mix_w1");
  const isVersion4 = !tensors.has("blocks.0.att.ln_x.weight");
  const hasGate = tensors.has("blocks.0.att.gate.weight");
  let isWebRwkv = isRenamed6;
  for (const [name, view] of [...tensors]) {
    const last = name.slice(name.lastIndexOf(".") + 1);
    let renamed = name;
    let form = view.form;
    if (isRenamed6 && last.startsWith("time_mix_")) {
      renamed = name.replace("time_mix_", "time_maa_");
    } else if (last === "time_first" && !isVersion4) {
      renamed = name.replace("time_first", "time_faaaa");
      if (hasGate) isWebRwkv = true;
      else if (form === "raw") form = "logarithm";
    }
    if (renamed === name) continue;
    tensors.delete(name);
    addView(checkpoint, tensors, renamed, { ...view, form });
  }
  return isWebRwkv;
}

/** v7 in web-rwkv's files has official names; only the orientation of its factors shows the converter. */
function hasTransposedLoras(tensors: ReadonlyMap<string, TensorView>): boolean {
  const width = tensors.get("emb.weight")?.shape.at(-1);
  const shape = tensors.get("blocks.0.att.w1")?.shape;
  return shape !== undefined && shape.at(-1) === width && shape.at(-2) !== width;
}
