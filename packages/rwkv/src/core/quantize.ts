// From f32 values to blocks of q8, q4, nf4 and sf4 (blocks.ts draws them). Hides how the numbers that a block shares are
// chosen: every rounding to a grid gives quants, the least-squares fit to these quants gives the best d (and m) for them,
// and of several grids that with the smallest squared error is kept. d and m are rounded to f16 before the quants are
// chosen for good, so that the error is that of what is stored. Arithmetic is f64 with basic operations only, in a fixed
// order: every platform writes the same bytes.

import { LEVELS } from "./blocks.ts";
import { ShapeError, UsageError } from "./errors.ts";
import { f16ToF32, f32ToF16 } from "./half.ts";
import { DTYPES, type LevelDType, type OwnQuantDType } from "./dtype.ts";

/** Elements of every block here. */
const BLOCK = 64;
const HALF = BLOCK / 2;
/** Bits of f16 infinity. */
const F16_INFINITY = 0x7c00;
/** The largest finite f16. */
const F16_MAX = 65504;

/** The largest quant of q8: -128 is left out, so that the grid is symmetric. */
const Q8_MAX = 127;
/** Grids of q8 tried: the largest value lies between this many quants below 127 and 127. */
const Q8_GRIDS = 8;
const Q8_STEP = 1 / 8;

/** The largest quant of q4. */
const Q4_MAX = 15;
/** Shares of the range that a grid of q4 leaves out at either end; less than nothing reaches beyond the values. */
const Q4_CUTS: readonly number[] = [-0.02, 0.03, 0.08, 0.14];

/**
 * Grids of levels tried, with either sign: the outermost level times this reaches the largest value. The levels of sf4 are
 * sparse at the ends: often it is best that the largest value meets the last but one.
 */
const REACHES: Readonly<Record<LevelDType, readonly number[]>> = {
  nf4: [0.94, 0.98, 1.0, 1.03, 1.06, 1.1, 1.14, 1.19, 1.24, 1.3],
  sf4: [0.6, 0.64, 0.68, 0.74, 0.9, 0.96, 1.0, 1.05, 1.1, 1.16],
};
/** The outermost levels are this and less this. */
const OUTERMOST = 127;

/** Of the grids tried, the best so many are fitted again, each to the quants of its own fit, so many times. */
const KEPT = 4;
const REFITS = 3;

/** Writes the block at `out[b]` from the 64 values at `values[o]`. */
type BlockEncoder = (out: Uint8Array, b: number, values: Float32Array, o: number) => void;

/** The number a block stores for `value`, as it will be read back; beyond f16 the nearest that is finite. */
function roundedToF16(value: number): number {
  const bits = f32ToF16(value);
  if ((bits & 0x7fff) < F16_INFINITY) return f16ToF32(bits);
  return value > 0 ? F16_MAX : -F16_MAX;
}

function writeF16(out: Uint8Array, b: number, value: number): void {
  const bits = f32ToF16(value);
  out[b] = bits;
  out[b + 1] = bits >>> 8;
}

/** `x * inverse` rounded to a whole number within -127 and 127. */
function toQ8(scaled: number): number {
  const q = Math.floor(scaled + 0.5);
  return q > Q8_MAX ? Q8_MAX : q < -Q8_MAX ? -Q8_MAX : q;
}

const encodeQ8: BlockEncoder = (out, b, values, o) => {
  let largest = 0;
  for (let j = 0; j < BLOCK; j++) largest = Math.max(largest, Math.abs(values[o + j]!));
  let best = 0;
  let bestError = Infinity;
  for (let grid = 0; grid < Q8_GRIDS && largest > 0; grid++) {
    const inverse = (Q8_MAX - grid * Q8_STEP) / largest;
    let xq = 0;
    let qq = 0;
    for (let j = 0; j < BLOCK; j++) {
      const x = values[o + j]!;
      const q = toQ8(x * inverse);
      xq += x * q;
      qq += q * q;
    }
    // the block's own sum of squares is left out of the error: it is the same for every grid
    const d = roundedToF16(xq / qq);
    const error = d * (d * qq - 2 * xq);
    if (error < bestError) {
      bestError = error;
      best = d;
    }
  }
  writeF16(out, b, best);
  const inverse = best === 0 ? 0 : 1 / best;
  for (let j = 0; j < BLOCK; j++) out[b + 2 + j] = toQ8(values[o + j]! * inverse);
};

/** The whole number from 0 to 15 nearest to `scaled`. */
function toQ4(scaled: number): number {
  const q = (scaled + 0.5) | 0;
  return q > Q4_MAX ? Q4_MAX : q < 0 ? 0 : q;
}

/** A way to store the block, and what it loses: the squared error less the sum of the squared values. */
interface Fit {
  d: number;
  m: number;
  error: number;
}

/** The values of the block at hand. */
const block = new Float64Array(BLOCK);

/**
 * What the error of each value counts in q4: more for large ones, as in ggml. Where a few values are far outside, a
 * grid that cuts them has the least squared error, but costs the model more than one that keeps them.
 */
const counts = new Float64Array(BLOCK);

/** The best d and m for the quants that a grid gives, into `fit`. */
function fitQ4(fit: Fit, inverse: number, origin: number, total: number, sum: number): void {
  let q1 = 0;
  let q2 = 0;
  let xq = 0;
  for (let j = 0; j < BLOCK; j++) {
    const x = block[j]!;
    const count = counts[j]!;
    const q = toQ4((x - origin) * inverse);
    const cq = count * q;
    q1 += cq;
    q2 += cq * q;
    xq += cq * x;
  }
  const determinant = total * q2 - q1 * q1;
  // all quants are equal: m alone is left
  const d = determinant > 0 ? roundedToF16((total * xq - sum * q1) / determinant) : 0;
  const m = roundedToF16((sum - d * q1) / total);
  fit.d = d;
  fit.m = m;
  fit.error = d * (d * q2 - 2 * xq + 2 * m * q1) + m * (total * m - 2 * sum);
}

const q4Fits: Fit[] = Array.from({ length: Q4_CUTS.length ** 2 }, () => ({ d: 0, m: 0, error: 0 }));

const encodeQ4: BlockEncoder = (out, b, values, o) => {
  let least = Infinity;
  let most = -Infinity;
  let squares = 0;
  for (let j = 0; j < BLOCK; j++) {
    const x = values[o + j]!;
    block[j] = x;
    if (x < least) least = x;
    if (x > most) most = x;
    squares += x * x;
  }
  const range = most - least;
  const rms = Math.sqrt(squares / BLOCK);
  let total = 0;
  let sum = 0;
  for (let j = 0; j < BLOCK; j++) {
    const count = squares === 0 ? 1 : rms + Math.abs(block[j]!);
    counts[j] = count;
    total += count;
    sum += count * block[j]!;
  }
  let grid = 0;
  for (const below of Q4_CUTS) {
    for (const above of Q4_CUTS) {
      const steps = range * (1 - below - above);
      fitQ4(q4Fits[grid++]!, steps > 0 ? Q4_MAX / steps : 0, least + range * below, total, sum);
    }
  }
  const { d, m } = refined(q4Fits, (fit) => fitQ4(fit, 1 / fit.d, fit.m, total, sum));
  writeF16(out, b, d);
  writeF16(out, b + 2, m);
  const inverse = d === 0 ? 0 : 1 / d;
  for (let j = 0; j < HALF; j++) {
    const low = toQ4((block[j]! - m) * inverse);
    const high = toQ4((block[HALF + j]! - m) * inverse);
    out[b + 4 + j] = low | (high << 4);
  }
};

const best: Fit = { d: 0, m: 0, error: 0 };

/** The best fit there is after the most promising ones have been fitted again; changes `fits`. */
function refined(fits: readonly Fit[], refit: (fit: Fit) => void): Readonly<Fit> {
  best.error = Infinity;
  for (let kept = 0; kept < KEPT; kept++) {
    let next = fits[0]!;
    for (const fit of fits) if (fit.error < next.error) next = fit;
    keepBest(next);
    for (let i = 0; i < REFITS && next.d !== 0; i++) {
      refit(next);
      keepBest(next);
    }
    next.error = Infinity; // taken
  }
  return best;
}

function keepBest({ d, m, error }: Fit): void {
  if (!(error < best.error)) return;
  best.d = d;
  best.m = m;
  best.error = error;
}

interface LevelTables {
  /** In units of 1 / 127. */
  readonly levels: Int8Array;
  /** The number of the nearest level for each half of a unit from -128 on; midpoints of levels are such halves. */
  readonly nearest: Uint8Array;
}

function levelTables(numbers: readonly number[]): LevelTables {
  const levels = Int8Array.from(numbers);
  const nearest = new Uint8Array(512);
  for (let i = 0, level = 0; i < nearest.length; i++) {
    const unit = i / 2 - 128;
    while (level < 15 && unit >= (levels[level]! + levels[level + 1]!) / 2) level++;
    nearest[i] = level;
  }
  return { levels, nearest };
}

/** Number of the level nearest to `scaled`, in units of 1 / 127. */
function toLevel(nearest: Uint8Array, scaled: number): number {
  const unit = scaled > OUTERMOST ? OUTERMOST : scaled < -OUTERMOST ? -OUTERMOST : scaled;
  return nearest[(2 * unit + 256) | 0]!;
}

/** The best d for the levels that a grid gives, into `fit`. */
function fitLevels(fit: Fit, { levels, nearest }: LevelTables, inverse: number): void {
  let xq = 0;
  let qq = 0;
  for (let j = 0; j < BLOCK; j++) {
    const x = block[j]!;
    const q = levels[toLevel(nearest, x * inverse)]!;
    xq += x * q;
    qq += q * q;
  }
  const d = qq === 0 ? 0 : roundedToF16(xq / qq);
  fit.d = d;
  fit.error = d * (d * qq - 2 * xq);
}

function encodeLevels(dtype: LevelDType): BlockEncoder {
  const tables = levelTables(LEVELS[dtype]);
  const reaches = REACHES[dtype];
  const fits: Fit[] = Array.from({ length: 2 * reaches.length }, () => ({ d: 0, m: 0, error: 0 }));
  const refit = (fit: Fit): void => fitLevels(fit, tables, 1 / fit.d);
  return (out, b, values, o) => {
    let largest = 0;
    for (let j = 0; j < BLOCK; j++) {
      const x = values[o + j]!;
      block[j] = x;
      largest = Math.max(largest, Math.abs(x));
    }
    const unit = largest === 0 ? 0 : OUTERMOST / largest;
    let grid = 0;
    for (const reach of reaches) {
      // the levels are not symmetric: a negative d turns them round
      fitLevels(fits[grid++]!, tables, unit * reach);
      fitLevels(fits[grid++]!, tables, -unit * reach);
    }
    const { d } = refined(fits, refit);
    writeF16(out, b, d);
    const inverse = d === 0 ? 0 : 1 / d;
    for (let j = 0; j < HALF; j++) {
      const low = toLevel(tables.nearest, block[j]! * inverse);
      const high = toLevel(tables.nearest, block[HALF + j]! * inverse);
      out[b + 2 + j] = low | (high << 4);
    }
  };
}

interface Scheme {
  readonly encode: BlockEncoder;
  /** Magnitudes above this need a d or m that f16 does not have. */
  readonly limit: number;
}

const SCHEMES: Readonly<Record<OwnQuantDType, Scheme>> = {
  q8: { encode: encodeQ8, limit: Q8_MAX * F16_MAX },
  q4: { encode: encodeQ4, limit: F16_MAX },
  nf4: { encode: encodeLevels("nf4"), limit: OUTERMOST * F16_MAX },
  sf4: { encode: encodeLevels("sf4"), limit: OUTERMOST * F16_MAX },
};

/**
 * Rounds values to blocks, with the least error of the grids tried.
 * @param out - room for the blocks, at any alignment
 * @param values - `[n]`, n a multiple of 64
 * @throws ShapeError if the lengths do not fit
 * @throws UsageError for a value that is not finite, or larger than 8.3e6 (q8, nf4, sf4) or 65504 (q4)
 */
export function quantizeBlocks(dtype: OwnQuantDType, out: Uint8Array, values: Float32Array): void {
  const { blockBytes } = DTYPES[dtype];
  if (values.length % BLOCK !== 0 || (values.length / BLOCK) * blockBytes !== out.byteLength) {
    throw new ShapeError(
      `${dtype} stores ${BLOCK} elements in ${blockBytes} bytes, but ${values.length} elements and ` +
        `${out.byteLength} bytes were given. Pass whole blocks and as much room as they need.`,
    );
  }
  const { encode, limit } = SCHEMES[dtype];
  for (let o = 0, b = 0; o < values.length; o += BLOCK, b += blockBytes) {
    let largest = 0;
    // Math.max keeps a NaN, so that the check sees it
    for (let j = 0; j < BLOCK; j++) largest = Math.max(largest, Math.abs(values[o + j]!));
    if (!(largest <= limit)) {
      throw new UsageError(
        `${dtype} holds finite values up to ${limit}, but elements ${o} to ${o + BLOCK - 1} reach ${largest}. ` +
          `Store this tensor as f32, or check it for damage.`,
      );
    }
    encode(out, b, values, o);
  }
}
