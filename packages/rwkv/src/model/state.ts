// The state of a sequence: which tensors it has, in which order and where in the block. The order is that of the official
// `rwkv` package, layer by layer. Tuned initial states are in tuned-state.ts.

import { countElements } from "../core/dtype.ts";
import type { ModelConfig } from "./config.ts";

/** One part of a state block. */
export interface StateTensor {
  /** `blocks.<layer>.` and then `attShift`, `wkv` (or v4's `aa`, `bb`, `pp`), `ffnShift`. */
  readonly name: string;
  readonly shape: readonly number[];
  /** Of its first element in the block, in elements. */
  readonly offset: number;
  /** What every element is before the first token. */
  readonly initial: number;
}

export interface StateLayout {
  readonly tensors: readonly StateTensor[];
  readonly nElements: number;
}

/** Stands for the exponent of nothing; -Infinity would give NaN in differences. */
const INITIAL_MAX_EXPONENT = -1e30;

/**
 * Layout of one sequence's state. `wkv` is `[H, N, N]`: key's index before the value's in versions 5 and 6, after it
 * in version 7.
 */
export function stateLayout(c: ModelConfig): StateLayout {
  const tensors: StateTensor[] = [];
  let offset = 0;
  const add = (name: string, shape: readonly number[], initial = 0): void => {
    tensors.push({ name, shape, offset, initial });
    offset += countElements(shape);
  };
  for (let i = 0; i < c.nLayer; i++) {
    add(`blocks.${i}.attShift`, [c.nEmbd]);
    if (c.heads === null || c.headSize === null) {
      add(`blocks.${i}.aa`, [c.nAtt]);
      add(`blocks.${i}.bb`, [c.nAtt]);
      add(`blocks.${i}.pp`, [c.nAtt], INITIAL_MAX_EXPONENT);
    } else {
      add(`blocks.${i}.wkv`, [c.heads, c.headSize, c.headSize]);
    }
    add(`blocks.${i}.ffnShift`, [c.nEmbd]);
  }
  return { tensors, nElements: offset };
}
