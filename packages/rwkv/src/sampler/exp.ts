// Exponential and logarithm in plain IEEE arithmetic. Math.exp and Math.log may differ in their last bits between JavaScript
// engines, and with them the token drawn for a seed; these give the same bits everywhere, and the exponential takes a third
// of the time. Method: exp(x) = exp(-n / 128) * exp(r), a table and the first terms of a series, where |r| is at most 1/256;
// log(x) = e log(2) + 2 atanh((m - 1) / (m + 1)) for x = m 2^e, a series that 12 terms exhaust.

const STEPS_PER_UNIT = 128;

/** exp(-1 / 128), rounded to f64. */
const STEP_FACTOR = 0.9922179382602435;

/** exp(x) is below half of the smallest f32 here. */
const UNDERFLOW = -104;

/** Steps of 1/128 from 0 down to where the exponential vanishes. */
export const N_EXP_STEPS = -UNDERFLOW * STEPS_PER_UNIT + 1;

/** `[N_EXP_STEPS]`: exp(-n / 128). Rounding adds up to a relative error of 2e-12 at the far end. */
const POWERS = makePowers();

export const LN2 = 0.6931471805599453;

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

/**
 * The distances from `max` in whole steps of 1/128, rounded: they never fall as values do.
 * @param max - no value is larger
 * @param steps - `[count]` or longer, written: below `N_EXP_STEPS`, the last of which has everything from max - 104 down
 */
export function expStepsOf(values: Float32Array, count: number, max: number, steps: Uint16Array): void {
  for (let i = 0; i < count; i++) {
    const x = values[i]! - max;
    steps[i] = x > UNDERFLOW ? (0.5 - x * STEPS_PER_UNIT) | 0 : N_EXP_STEPS - 1;
  }
}

/**
 * The natural logarithm, to a few units in the last place of f64.
 * @param x - at least 2^-1000, finite
 */
export function logOfPositive(x: number): number {
  let exponent = 0;
  let mantissa = x;
  // Halving and doubling are exact.
  for (; mantissa > Math.SQRT2; mantissa /= 2) exponent++;
  for (; mantissa < Math.SQRT1_2; mantissa *= 2) exponent--;
  const s = (mantissa - 1) / (mantissa + 1);
  const square = s * s;
  let sum = 0;
  for (let k = 23; k >= 1; k -= 2) sum = sum * square + 1 / k;
  return exponent * LN2 + 2 * s * sum;
}

function makePowers(): Float64Array {
  const powers = new Float64Array(N_EXP_STEPS);
  powers[0] = 1;
  for (let n = 1; n < powers.length; n++) powers[n] = powers[n - 1]! * STEP_FACTOR;
  return powers;
}
