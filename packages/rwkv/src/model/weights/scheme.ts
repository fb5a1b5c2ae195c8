// What a naming scheme makes of a checkpoint: views under official names. Fused tensors are cut here, for every scheme.

import { FormatError } from "../../core/errors.ts";
import type { Checkpoint } from "../../formats/checkpoint.ts";
import { matrixShape, rowParts, transposed, type TensorView } from "./view.ts";

export interface SchemeResult {
  /** By official name; what the scheme does not know keeps its name. */
  readonly tensors: Map<string, TensorView>;
  /** Whether the scheme has models whose first norm is folded into the embedding or left out. */
  readonly mayLackLn0: boolean;
  /** `time_state` tensors are `[head, key, value]` as web-rwkv's converter writes, not `[head, value, key]`. */
  readonly isStateTransposed: boolean;
  /**
   * P > 0 where output and channel-mix value of layer i were divided by 2^floor(i / P) for f16 arithmetic; 0 for none.
   */
  readonly rescaleEveryNLayers: number;
}

/** @throws FormatError if two tensors of the file get the same name */
export function addView(
  checkpoint: Checkpoint,
  tensors: Map<string, TensorView>,
  name: string,
  view: TensorView,
): void {
  const other = tensors.get(name);
  if (other !== undefined) {
    throw new FormatError(
      `${checkpoint.name}: tensors "${other.fileName}" and "${view.fileName}" are both "${name}". ` +
        `The file mixes two naming schemes: keep one of the two.`,
    );
  }
  tensors.set(name, view);
}

/** Replaces `name`, where present, by its equal parts along the first dimension. */
export function splitFused(
  checkpoint: Checkpoint,
  tensors: Map<string, TensorView>,
  name: string,
  partNames: readonly string[],
): void {
  const fused = tensors.get(name);
  if (fused === undefined) return;
  tensors.delete(name);
  rowParts(fused, partNames.length).forEach((part, i) => addView(checkpoint, tensors, partNames[i]!, part));
}

/**
 * Cuts v6's two fused shift-map tensors of every layer: `[C, 5 D]` or `[5 D, C]`, and `[5, D, C]` or `[5, C, D]`.
 * @param order - in which the file stacks the five
 */
export function splitShiftMaps(
  checkpoint: Checkpoint,
  tensors: Map<string, TensorView>,
  order: readonly string[],
): void {
  const width = tensors.get("emb.weight")?.shape.at(-1);
  for (const [name, view] of [...tensors]) {
    if (name.endsWith(".time_maa_w1")) {
      const shape = matrixShape(view.shape);
      if (shape === null) continue; // reported as a missing or unexpected tensor
      const isOfficial = view.loraOrder === "in-out" || (view.loraOrder === "by-shape" && shape[0] === width);
      const stacked = isOfficial ? transposed({ ...view, shape }) : { ...view, shape };
      tensors.set(name, { ...stacked, loraOrder: "out-in" });
    } else if (!name.endsWith(".time_maa_w2")) {
      continue;
    }
    splitFused(
      checkpoint,
      tensors,
      name,
      order.map((letter) => `${name}.${letter}`),
    );
  }
}
