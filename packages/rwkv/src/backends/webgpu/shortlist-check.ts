// Whether a shortlist is right, for the self-test of trust.ts: each of its parts is looked at, nothing is selected anew.

import type { Program } from "../../ops/backend.ts";
import { N_LIKELIEST, shortlistOf } from "../../core/shortlist.ts";

/** Most that the weight may be off, of its size: above what is promised. */
const WEIGHT_LIMIT = 1e-3;

/**
 * What is wrong with the shortlist that a program makes of a row; null if nothing.
 * @param inputs - of one row
 * @param nIds - logits of a row, at least N_LIKELIEST
 */
export async function shortlistError(
  program: Program,
  inputs: readonly Float32Array[],
  nIds: number,
): Promise<string | null> {
  const [whole, short] = [program.createSlot(), program.createSlot()];
  const row = (await program.step([{ slot: whole, nRows: 1, logits: "last" }], inputs)).slice();
  const listed = Uint32Array.of(nIds - 1, 0, nIds >> 1).subarray(0, nIds - N_LIKELIEST);
  const runs = [{ slot: short, nRows: 1, logits: "last", shortlist: { listed, nIds } }] as const;
  const { ids, logits, weight, listedLogits } = shortlistOf((await program.step(runs, inputs)).slice());
  const kept = await program.readLogits!(short);
  for (const slot of [whole, short]) program.releaseSlot(slot);

  const differs = (some: Float32Array, of: Float32Array | Uint32Array): boolean =>
    some.some((logit, i) => logit !== row[of[i]!]);
  if (kept.some((logit, id) => logit !== row[id])) return "the logits kept are others";
  if (differs(listedLogits, listed)) return "logits of listed tokens are others";
  if (differs(logits, ids)) return "logits of a shortlist are others";
  const left = new Set([...row.keys()].filter((id) => !listed.includes(id)));
  const nLeft = left.size;
  let least = Infinity;
  let largest = -Infinity;
  let sum = 0;
  for (const id of left) {
    largest = Math.max(largest, row[id]!);
    sum += Math.exp(row[id]!);
  }
  for (const id of ids) {
    left.delete(id);
    least = Math.min(least, row[id]!);
  }
  if (left.size !== nLeft - ids.length || [...left].some((id) => row[id]! > least)) {
    return "a shortlist does not have the likeliest tokens";
  }
  const error = Math.abs((weight * Math.exp(largest)) / sum - 1);
  return error <= WEIGHT_LIMIT
    ? null
    : `the weight of a shortlist is off by ${error.toPrecision(3)} of its size`;
}
