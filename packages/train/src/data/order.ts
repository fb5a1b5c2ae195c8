// The order in which documents are read: a shuffle per epoch that follows from the seed alone, so that a position is
// enough to go on.

import { Random } from "rwkv/model";

/** Epochs have generators far apart from one another and from that of fresh weights. */
const EPOCH_STRIDE = 2 ** 32;

/** The numbers below `n` in the order of that epoch (Fisher and Yates). */
export function shuffled(n: number, seed: number, epoch: number): Int32Array {
  const random = Random.fromSeed((seed + (epoch + 1) * EPOCH_STRIDE) % Number.MAX_SAFE_INTEGER);
  const order = Int32Array.from({ length: n }, (_, i) => i);
  for (let i = n - 1; i > 0; i--) {
    const j = Math.floor(random.nextUnit() * (i + 1));
    const kept = order[i]!;
    order[i] = order[j]!;
    order[j] = kept;
  }
  return order;
}
