// Tail-free sampling (Bricken, https://www.trentonbricken.com/Tail-Free-Sampling/): the tail begins where the curve of the
// sorted probabilities stops bending. Only as much of the head is sorted as it takes to know where that is: what the rest
// can still add to the sum of second differences is bounded by its largest probability.

import { UsageError } from "../core/errors.ts";
import type { Candidates } from "./candidates.ts";
import { expOfNonPositive } from "./exp.ts";
import { Sorter } from "./sorter.ts";
import type { SamplerStep } from "./step.ts";

/**
 * With p the probabilities in falling order and d(i) = |p(i) - 2 p(i+1) + p(i+2)|: keeps the first i candidates, at least
 * one, where i is the first place at which d(0) + ... + d(i) exceeds the share `z` of their sum, and all that are as likely
 * as the last of them; all where no place does, as where all are equal. The convention for the place is llama.cpp's.
 * @param z - above 0; 1 or more keeps all
 * @throws UsageError for any other
 */
export function tailFree(z: number): SamplerStep {
  if (!(z > 0))
    throw new UsageError(`tail-free is ${z}; expected a number above 0 (1 or more switches it off).`);
  return {
    name: "tail-free",
    kind: "truncation",
    apply(candidates, { selector, sorter }) {
      if (z >= 1 || candidates.count < 3) return;
      const total = candidates.weigh();
      for (let n = Sorter.tierOf(0); ; n = Sorter.tierOf(n + 1)) {
        const head = sorter.head(candidates, selector, n);
        const isWhole = n >= candidates.count;
        const cut = findCut(candidates, head, total, z, isWhole);
        if (cut === UNKNOWN) continue;
        if (cut < head.length) candidates.keepFrom(head[head.length - Math.max(1, cut)]!);
        return;
      }
    },
  };
}

/** More of the head must be sorted. */
const UNKNOWN = -1;

/**
 * The first place at which the share is exceeded; the length of the head if there is none.
 * @param head - the largest logits, smallest first
 * @param isWhole - whether there are no others
 */
function findCut(
  candidates: Candidates,
  head: Float32Array,
  total: number,
  z: number,
  isWhole: boolean,
): number {
  const end = isWhole ? Math.min(head.length, candidates.count) : head.length;
  const place = head.length - 1; // of the likeliest
  const { maxLogit } = candidates;
  let sum = 0;
  let p0 = expOfNonPositive(head[place]! - maxLogit) / total;
  let p1 = expOfNonPositive(head[place - 1]! - maxLogit) / total;
  const first0 = p0;
  const first1 = p1;
  for (let i = 0; i + 2 < end; i++) {
    const p2 = expOfNonPositive(head[place - 2 - i]! - maxLogit) / total;
    sum += Math.abs(p0 - 2 * p1 + p2);
    p0 = p1;
    p1 = p2;
  }
  // The differences not seen are those between differences of neighbours, which add up to no more than the last probability.
  const low = z * sum;
  const high = isWhole ? low : z * (sum + p0 + p1);
  p0 = first0;
  p1 = first1;
  let running = 0;
  let first = UNKNOWN;
  for (let i = 0; i + 2 < end; i++) {
    const p2 = expOfNonPositive(head[place - 2 - i]! - maxLogit) / total;
    running += Math.abs(p0 - 2 * p1 + p2);
    if (first === UNKNOWN && running > low) first = i;
    if (running > high) return first === i ? i : UNKNOWN;
    p0 = p1;
    p1 = p2;
  }
  return isWhole ? head.length : UNKNOWN;
}
