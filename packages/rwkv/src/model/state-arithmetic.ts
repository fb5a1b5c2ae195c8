// Sums of states. In RWKV-5 to 7 and in the token shifts a state is a list of numbers like any other. RWKV-4 keeps its sums
// divided by e^pp, each channel of each state by another, so they are brought to the same exponent first.

import { UsageError } from "../core/errors.ts";
import { checkLength, stateView, type LayerStateView, type StateOwner } from "./state-view.ts";

/** A state, and how much of it. */
export interface StateTerm {
  /** A whole state, as `session.readState` gives; not changed. */
  readonly state: Float32Array;
  /** Any finite number. */
  readonly weight: number;
}

/**
 * The sum of weighted states of one model: adds, scales and subtracts. The result is a state to create sessions with
 * (`initialState`); whether a model makes sense of it is for an experiment to say. Summed in f64.
 * @throws UsageError if there are no terms, a state has another length, a weight is not finite, or RWKV-4's sum of weights
 * becomes negative
 */
export function combineStates(model: StateOwner, terms: readonly StateTerm[]): Float32Array {
  const [first] = terms;
  if (first === undefined) throw new UsageError("There are no states to combine; give at least one.");
  for (const { state, weight } of terms) {
    checkLength(model, state);
    if (!Number.isFinite(weight)) {
      throw new UsageError(`The weight of a state is ${weight}; expected a finite number.`);
    }
  }
  const result = new Float32Array(first.state.length);
  for (let i = 0; i < result.length; i++) {
    let sum = 0;
    for (const { state, weight } of terms) sum += weight * state[i]!;
    result[i] = sum;
  }
  const sources = terms.map(({ state, weight }) => ({ layers: stateView(model, state), weight }));
  stateView(model, result).forEach((layer, i) => {
    combineExponential(
      layer,
      sources.map(({ layers, weight }) => ({ layer: layers[i]!, weight })),
    );
  });
  return result;
}

/**
 * A state between two of the same model: `(1 - t) a + t b`.
 * @param t - 0 gives `a`, 1 gives `b`; beyond them it goes on straight
 * @throws UsageError as `combineStates`
 */
export function interpolateStates(
  model: StateOwner,
  a: Float32Array,
  b: Float32Array,
  t: number,
): Float32Array {
  return combineStates(model, [
    { state: a, weight: 1 - t },
    { state: b, weight: t },
  ]);
}

/**
 * The mean of any number of states of the same model.
 * @throws UsageError as `combineStates`
 */
export function mergeStates(model: StateOwner, states: readonly Float32Array[]): Float32Array {
  return combineStates(
    model,
    states.map((state) => ({ state, weight: 1 / states.length })),
  );
}

interface LayerTerm {
  readonly layer: LayerStateView;
  readonly weight: number;
}

/** RWKV-4: aa and bb at the largest exponent of those that count. */
function combineExponential({ exponential: out }: LayerStateView, terms: readonly LayerTerm[]): void {
  if (out === null) return;
  const counting = terms.flatMap(({ layer, weight }) =>
    weight === 0 ? [] : [{ ...layer.exponential!, weight }],
  );
  for (let c = 0; c < out.pp.length; c++) {
    let exponent = -Infinity;
    for (const { pp } of counting) exponent = Math.max(exponent, pp[c]!);
    let [aa, bb] = [0, 0];
    for (const term of counting) {
      const scale = term.weight * Math.exp(term.pp[c]! - exponent);
      aa += scale * term.aa[c]!;
      bb += scale * term.bb[c]!;
    }
    if (bb < 0) {
      throw new UsageError(
        `The sum of weights (bb) of channel ${c} would be ${bb}, but must not be negative. Subtract less.`,
      );
    }
    out.aa[c] = aa;
    out.bb[c] = bb;
    out.pp[c] = exponent;
  }
}
