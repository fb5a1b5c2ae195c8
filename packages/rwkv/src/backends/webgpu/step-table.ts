// What the kernels of a step are told of its runs and rows.

import { UsageError } from "../../core/errors.ts";
import type { Run } from "../../ops/backend.ts";
import type { StepRows } from "./dispatches.ts";
import { shortlistWords } from "./shortlists.ts";
import type { Slots } from "./slots.ts";

/** @throws UsageError if there are too few or too many rows */
export function countRows(runs: readonly Run[], maxRows: number): StepRows {
  let token = 0;
  let logit = 0;
  let shortlist = 0;
  for (const run of runs) {
    const { slot, nRows, logits } = run;
    if (!Number.isSafeInteger(nRows) || nRows < 1) {
      throw new UsageError(`the run of slot ${slot} has ${nRows} rows; give at least 1.`);
    }
    token += nRows;
    if (logits !== "none") logit += logits === "all" ? nRows : 1;
    if (run.shortlist !== undefined) shortlist += 1;
  }
  if (token < 1 || token > maxRows) {
    throw new UsageError(`a step of this program has 1 to ${maxRows} rows, but ${token} were given.`);
  }
  return { token, logit, run: runs.length, shortlist, shortlistWords: shortlistWords(runs) };
}

/** The block of each run's slot. @throws UsageError if a slot has two runs, or does not exist */
export function blocksOf(slots: Slots, runs: readonly Run[]): number[] {
  const seen = new Set<number>();
  return runs.map(({ slot }) => {
    if (seen.has(slot)) {
      throw new UsageError(`slot ${slot} has two runs in one step; give them one after the other.`);
    }
    seen.add(slot);
    return slots.blockOf(slot);
  });
}

/**
 * The words that kernels/kernel.ts describes. Of the wanted rows those come last whose logits stay on the device, so that the others
 * are copied as one piece.
 */
export function stepTable(
  runs: readonly Run[],
  blocks: readonly number[],
  rows: StepRows,
): Uint32Array<ArrayBuffer> {
  const rowRunsAt = runs.length;
  const wantedAt = rowRunsAt + Math.ceil(rows.token / 4);
  const words = new Uint32Array(4 * (1 + wantedAt + Math.ceil(rows.logit / 4)));
  words.set([rows.token, rows.logit, rowRunsAt, wantedAt]);
  let row = 0;
  let logit = 4 * (1 + wantedAt);
  let listed = logit + rows.logit - rows.shortlist;
  runs.forEach(({ nRows, logits, shortlist }, i) => {
    words.set([row, nRows, blocks[i]!], 4 * (1 + i));
    const end = row + nRows;
    const firstLogit = logits === "none" ? end : logits === "last" ? end - 1 : row;
    for (; row < end; row++) {
      words[4 * (1 + rowRunsAt) + row] = i;
      if (row < firstLogit) continue;
      if (shortlist === undefined) words[logit++] = row;
      else words[listed++] = row;
    }
  });
  return words;
}
