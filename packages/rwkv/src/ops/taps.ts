// Taps: copies of values in the middle of a step. A tap names a handle and how many operations have run by then, which
// tells one write of a handle from the next. The copies become operations of another recording, and since a copy stands
// between the write and whatever follows, no pass of a backend can fuse across it.

import type { OpCall } from "./signature.ts";
import type { Tensor } from "./tensor.ts";

/** A value to be copied in each step. */
export interface Tap {
  /** Rows: an input, scratch or the output. */
  readonly tensor: Tensor;
  /** Operations of the forward pass that have run when it is copied; 0 for an input. */
  readonly nCalls: number;
}

/** Operations and their handles. */
export interface TappedCalls {
  readonly calls: readonly OpCall[];
  /** Those of the program, then `copies`. */
  readonly tensors: readonly Tensor[];
  /** Outputs, one for each tap, in their order. */
  readonly copies: readonly Tensor[];
}

/**
 * The operations with a copy for each tap.
 * @param tensors - all handles of the program, by index
 */
export function withTaps(
  calls: readonly OpCall[],
  tensors: readonly Tensor[],
  taps: readonly Tap[],
): TappedCalls {
  const copies = taps.map(({ tensor }, i): Tensor => {
    return { ...tensor, index: tensors.length + i, kind: "output" };
  });
  const copiesAfter = Array.from({ length: calls.length + 1 }, (): OpCall[] => []);
  taps.forEach(({ tensor, nCalls }, i) => {
    copiesAfter[nCalls]!.push({ op: "copy", out: copies[i]!, x: tensor });
  });
  return {
    calls: copiesAfter.flatMap((tapped, i) => (i === 0 ? tapped : [calls[i - 1]!, ...tapped])),
    tensors: [...tensors, ...copies],
    copies,
  };
}
