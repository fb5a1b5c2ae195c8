// What comes back of a row of logits when most of it may stay on the device: enough to draw from, unless the distribution is very
// flat.

/** How many of the likeliest tokens come back beside those asked for. */
export const N_LIKELIEST = 256;

/** Most ids that can be asked for. */
export const MAX_LISTED = 2048;

/** Most that `Shortlist.weight` is off, as a share of it. */
export const WEIGHT_ERROR = 1e-4;

/** Asks for a shortlist in place of a row of logits. */
export interface ShortlistWanted {
  /** Distinct ids below `nIds` whose logits are wanted whatever they are; at most `MAX_LISTED`. */
  readonly listed: Uint32Array;
  /**
   * Ids from here on are passed over, as where a model has more rows than its tokenizer tokens. At least `N_LIKELIEST` more than are
   * listed.
   */
  readonly nIds: number;
}

/** Elements of a shortlist. */
export const shortlistElements = ({ listed }: ShortlistWanted): number => 2 * N_LIKELIEST + 1 + listed.length;

/** The parts of a shortlist, which is in f32 whole, as views. */
export interface Shortlist {
  /**
   * `[N_LIKELIEST]`, in no order: the tokens with the largest logits, the listed ones left out; of equal logits those with the
   * lowest ids. NaN counts as the largest.
   */
  readonly ids: Float32Array;
  /** `[N_LIKELIEST]`, of the `ids`. */
  readonly logits: Float32Array;
  /**
   * Sum of exp(logit - largest of `logits`) over all tokens that are not listed, those of `ids` among them. Its relative error is
   * below `WEIGHT_ERROR`; it means nothing where the largest is not finite.
   */
  readonly weight: number;
  /** `[listed]`, of the listed tokens in their order. */
  readonly listedLogits: Float32Array;
}

/** @param elements - as a step returns them */
export function shortlistOf(elements: Float32Array): Shortlist {
  const n = N_LIKELIEST;
  return {
    ids: elements.subarray(0, n),
    logits: elements.subarray(n, 2 * n),
    weight: elements[2 * n]!,
    listedLogits: elements.subarray(2 * n + 1),
  };
}
