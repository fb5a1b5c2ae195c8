// Medians with their spread.

/** Of repeated measurements. */
export interface Spread {
  readonly median: number;
  readonly min: number;
  readonly max: number;
}

/** @param values - at least one */
export function spreadOf(values: readonly number[]): Spread {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  const median = sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
  return { median, min: sorted[0]!, max: sorted.at(-1)! };
}

/** `4.2 (3.9 to 4.4)`; the median alone where nothing was repeated. */
export function formatSpread({ median, min, max }: Spread, nDecimals: number): string {
  const [shown, least, most] = [median, min, max].map((value) => value.toFixed(nDecimals));
  return least === most ? shown! : `${shown} (${least} to ${most})`;
}
