// The loss and the optimiser of the reference kernels. The contract is in kernels.ts.

import type { Numbers } from "../kernels.ts";

export function crossEntropy(
  losses: Numbers,
  dLogits: Numbers | null,
  logits: Numbers,
  targets: Int32Array,
  weights: Numbers,
  rows: number,
  vocab: number,
  pull: number,
): void {
  for (let row = 0; row < rows; row++) {
    const start = row * vocab;
    const target = targets[row]!;
    if (target < 0) {
      losses[row] = 0;
      dLogits?.fill(0, start, start + vocab);
      continue;
    }
    let argmax = 0;
    for (let i = 1; i < vocab; i++) if (logits[start + i]! > logits[start + argmax]!) argmax = i;
    const largest = logits[start + argmax]!;
    let sum = 0;
    for (let i = 0; i < vocab; i++) sum += Math.exp(logits[start + i]! - largest);
    losses[row] = Math.log(sum) + largest - logits[start + target]!;
    if (dLogits === null) continue;
    const weight = weights[row]!;
    for (let i = 0; i < vocab; i++) {
      const p = Math.exp(logits[start + i]! - largest) / sum;
      const pulled = i === argmax ? pull * largest : 0;
      dLogits[start + i] = weight * (p - (i === target ? 1 : 0) + pulled);
    }
  }
}

export function sumOfSquares(x: Numbers, nElements: number): number {
  let sum = 0;
  for (let i = 0; i < nElements; i++) sum += x[i]! * x[i]!;
  return sum;
}

export function adamw(
  weight: Numbers,
  m: Numbers,
  v: Numbers,
  gradient: Numbers,
  nElements: number,
  rate: number,
  beta1: number,
  beta2: number,
  eps: number,
  decay: number,
  correction1: number,
  correction2: number,
  gradientScale: number,
): void {
  for (let i = 0; i < nElements; i++) {
    const g = gradient[i]! * gradientScale;
    const mean = beta1 * m[i]! + (1 - beta1) * g;
    const square = beta2 * v[i]! + (1 - beta2) * g * g;
    m[i] = mean;
    v[i] = square;
    const step = mean / correction1 / (Math.sqrt(square / correction2) + eps);
    weight[i] = weight[i]! - rate * (step + decay * weight[i]!);
  }
}
