// rwkv.cpp files: official names, low-rank factors already [out, in], and v4's and v5's decays and bonuses already
// transformed. Source: rwkv.cpp, python/convert_pytorch_to_ggml.py and docs/FILE_FORMAT.md.

import { countElements } from "../../core/dtype.ts";
import type { Checkpoint } from "../../formats/checkpoint.ts";
import { officialScheme } from "./official.ts";
import type { SchemeResult } from "./scheme.ts";
import { reshaped } from "./view.ts";

export function rwkvCppScheme(checkpoint: Checkpoint): SchemeResult {
  const result = officialScheme(checkpoint, "out-in");
  const tensors = new Map(result.tensors);
  const isVersion45 = !tensors.has("blocks.0.att.r_k") && !tensors.has("blocks.0.att.time_maa_x");
  for (const [name, view] of tensors) {
    const isTransformedDecay = isVersion45 && name.endsWith(".att.time_decay");
    // the oldest v5's bonus; v4's is stored as it was trained
    const isTransformedBonus = view.form === "logarithm";
    if (isTransformedDecay || isTransformedBonus) tensors.set(name, { ...view, form: "applied" });
    // v6's decay is stored as one row per head
    else if (name.endsWith(".att.time_decay")) tensors.set(name, reshaped(view, [countElements(view.shape)]));
  }
  return { ...result, tensors, mayLackLn0: false, isStateTransposed: false };
}
