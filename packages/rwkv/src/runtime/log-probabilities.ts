// Sums over a row of logits that several measurements share.

/** Index of the largest logit, the first of several. */
export function peakOf(logits: Float32Array): number {
  let peak = 0;
  for (let i = 1; i < logits.length; i++) if (logits[i]! > logits[peak]!) peak = i;
  return peak;
}

/**
 * Logarithm of the sum of the exponentials.
 * @param peak - the largest logit
 */
export function logSumExp(logits: Float32Array, peak: number): number {
  let sum = 0;
  for (const logit of logits) sum += Math.exp(logit - peak);
  return peak + Math.log(sum);
}
