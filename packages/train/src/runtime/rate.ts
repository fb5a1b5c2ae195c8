// The learning rate over a training, as the official trainer has it: a cosine by tokens, and a warm-up by steps.

export interface RateSchedule {
  /** At the beginning and at the end of the planned tokens. */
  readonly from: number;
  readonly to: number;
  readonly warmupSteps: number;
  readonly plannedTokens: number;
}

/**
 * @param step - steps done before this one
 * @param nTokens - tokens read before this step
 */
export function rateAt(
  { from, to, warmupSteps, plannedTokens }: RateSchedule,
  step: number,
  nTokens: number,
): number {
  const progress = Math.min(1, nTokens / plannedTokens);
  const rate = to + ((from - to) * (1 + Math.cos(Math.PI * progress))) / 2;
  return step < warmupSteps ? rate * (0.01 + (0.99 * step) / warmupSteps) : rate;
}
