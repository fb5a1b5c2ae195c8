// Views, sums and embeddings of states, on layouts of RWKV-4 and of a version with matrices.

import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { checkpointOf, syntheticModel } from "../../../../test/golden/synthetic.ts";
import { UsageError } from "../core/errors.ts";
import { combineStates, interpolateStates, mergeStates } from "./state-arithmetic.ts";
import { cosineSimilarity, stateEmbedding } from "./state-embedding.ts";
import { stateLayout } from "./state.ts";
import { stateView, type StateOwner } from "./state-view.ts";
import { canonicalWeights } from "./weights/canonical.ts";

function ownerOf(version: "4" | "7"): StateOwner & { readonly nElements: number } {
  const { tensors, nElements } = stateLayout(canonicalWeights(checkpointOf(syntheticModel(version))).config);
  return { stateLayout: tensors, nElements };
}
const MATRICES = ownerOf("7");
const EXPONENTIAL = ownerOf("4");
const counting = (n: number): Float32Array => Float32Array.from({ length: n }, (_, i) => i);

describe("stateView", () => {
  test("gives each part of each layer and head where the layout says, without copying", () => {
    const state = counting(MATRICES.nElements);
    const layers = stateView(MATRICES, state);
    expect(layers).toHaveLength(2);
    const { attShift, wkv, heads, ffnShift, exponential } = layers[1]!;
    expect([attShift[0], wkv![0], heads[1]![0], ffnShift[0]]).toEqual([160, 176, 240, 304]);
    expect([attShift.length, wkv!.length, heads.length, heads[0]!.length]).toEqual([16, 128, 2, 64]);
    expect(exponential).toBeNull();
    heads[1]![3] = -1;
    expect(state[243]).toBe(-1);
  });

  test("gives RWKV-4's three vectors, and no heads", () => {
    const [, layer] = stateView(EXPONENTIAL, counting(EXPONENTIAL.nElements));
    const { aa, bb, pp } = layer!.exponential!;
    expect([aa[0], bb[0], pp[0], layer!.ffnShift[0]]).toEqual([96, 112, 128, 144]);
    expect([layer!.wkv, layer!.heads]).toEqual([null, []]);
  });

  test("refuses a state of another length", () => {
    expect(() => stateView(MATRICES, new Float32Array(3))).toThrow(UsageError);
    expect(() => stateView(MATRICES, new Float32Array(3))).toThrow(
      /has 3 numbers, but one of this model has 320/,
    );
  });
});

describe("combineStates", () => {
  test("adds, scales and subtracts element by element where states are matrices", () => {
    const [a, b] = [counting(320), counting(320).map((x) => x * x)];
    const got = combineStates(MATRICES, [
      { state: a, weight: 2 },
      { state: b, weight: -0.5 },
    ]);
    expect(got).toEqual(a.map((x) => 2 * x - 0.5 * x * x));
    expect(interpolateStates(MATRICES, a, b, 0)).toEqual(a);
    expect(interpolateStates(MATRICES, a, b, 1)).toEqual(b);
    expect(mergeStates(MATRICES, [a, b])).toEqual(a.map((x) => (x + x * x) / 2));
  });

  test("of RWKV-4 adds the sums that aa, bb and pp stand for, however large the exponents are", () => {
    // Hundredths, since f32 would turn the least of doubles into 0.
    const hundredths = (min: number, max: number): fc.Arbitrary<number> =>
      fc.integer({ min: 100 * min, max: 100 * max }).map((n) => n / 100);
    const channel = fc.record({ aa: hundredths(-10, 10), bb: hundredths(1, 10), pp: hundredths(-8, 8) });
    const stateOf = (one: { aa: number; bb: number; pp: number }, shift: number): Float32Array => {
      const state = new Float32Array(EXPONENTIAL.nElements);
      for (const { exponential } of stateView(EXPONENTIAL, state)) {
        exponential!.aa.fill(one.aa);
        exponential!.bb.fill(one.bb);
        exponential!.pp.fill(one.pp + shift);
      }
      return state;
    };
    fc.assert(
      fc.property(
        fc.array(fc.tuple(channel, hundredths(1, 3)), { minLength: 1, maxLength: 4 }),
        fc.constantFrom(-1000, 0, 1000),
        (terms, shift) => {
          const combined = combineStates(
            EXPONENTIAL,
            terms.map(([one, weight]) => ({ state: stateOf(one, shift), weight })),
          );
          const { aa, bb, pp } = stateView(EXPONENTIAL, combined)[1]!.exponential!;
          let [numerator, denominator, magnitude] = [0, 0, 0];
          for (const [one, weight] of terms) {
            const scale = weight * Math.exp(one.pp);
            numerator += scale * one.aa;
            denominator += scale * one.bb;
            magnitude += scale * Math.abs(one.aa);
          }
          // f32 of pp near 1,000 is exact to 2^-15, which counts as a factor; aa and bb round by 2^-24.
          const limit = shift === 0 ? 2e-6 : 2 ** -13;
          const back = Math.exp(pp[5]! - shift);
          expect(Math.abs(aa[5]! * back - numerator)).toBeLessThanOrEqual(limit * magnitude);
          expect(Math.abs(bb[5]! * back - denominator)).toBeLessThanOrEqual(limit * denominator);
        },
      ),
      { seed: 7 },
    );
  });

  test("of RWKV-4 takes an empty state for nothing, and refuses a negative sum of weights", () => {
    const empty = new Float32Array(EXPONENTIAL.nElements);
    const full = new Float32Array(EXPONENTIAL.nElements).fill(1);
    for (const { exponential } of stateView(EXPONENTIAL, empty)) exponential!.pp.fill(-1e30);
    const { aa, bb, pp } = stateView(EXPONENTIAL, interpolateStates(EXPONENTIAL, empty, full, 0.5))[0]!
      .exponential!;
    expect([aa[0], bb[0], pp[0]]).toEqual([0.5, 0.5, 1]);
    expect(mergeStates(EXPONENTIAL, [empty, empty])).toEqual(empty);
    expect(interpolateStates(EXPONENTIAL, empty, full, 0)).toEqual(empty);
    expect(() => combineStates(EXPONENTIAL, [{ state: full, weight: -1 }])).toThrow(
      /bb.*must not be negative/,
    );
  });

  test("refuses nothing, other lengths and weights that are no numbers", () => {
    const state = counting(320);
    expect(() => combineStates(MATRICES, [])).toThrow(UsageError);
    expect(() => mergeStates(MATRICES, [state, counting(3)])).toThrow(/has 3 numbers/);
    expect(() => interpolateStates(MATRICES, state, state, NaN)).toThrow(/weight of a state is NaN/);
  });
});

describe("stateEmbedding", () => {
  const state = counting(320);

  test("takes a part of the last layer, of one, the mean of all, or all", () => {
    expect(stateEmbedding(MATRICES, state)).toEqual(state.slice(176, 304));
    expect(stateEmbedding(MATRICES, state, { layers: 0 })).toEqual(state.slice(16, 144));
    expect(stateEmbedding(MATRICES, state, { part: "ffnShift" })).toEqual(state.slice(304));
    const mean = stateEmbedding(MATRICES, state, { part: "attShift", layers: "mean" });
    expect([...mean]).toEqual(Array.from({ length: 16 }, (_, i) => 80 + i));
    const all = stateEmbedding(MATRICES, state, { part: "attShift", layers: "all" });
    expect([...all]).toEqual([...state.slice(0, 16), ...state.slice(160, 176)]);
    expect(() => stateEmbedding(MATRICES, state, { layers: 2 })).toThrow(
      /no layer 2; this model has layers 0 to 1/,
    );
  });

  test("of RWKV-4 is the weighted mean of values, and zero before the first token", () => {
    const values = new Float32Array(EXPONENTIAL.nElements);
    const { aa, bb } = stateView(EXPONENTIAL, values)[1]!.exponential!;
    [aa[0], bb[0]] = [6, 4];
    expect([...stateEmbedding(EXPONENTIAL, values)].slice(0, 2)).toEqual([1.5, 0]);
  });

  test("cosines are those of the angles", () => {
    const at = (...values: number[]): Float32Array => Float32Array.from(values);
    expect(cosineSimilarity(at(1, 2), at(2, 4))).toBeCloseTo(1, 12);
    expect(cosineSimilarity(at(1, 0), at(0, 3))).toBe(0);
    expect(cosineSimilarity(at(1, 1), at(-2, -2))).toBeCloseTo(-1, 12);
    expect(cosineSimilarity(at(3, 4), at(4, 3))).toBeCloseTo(0.96, 12);
    expect(cosineSimilarity(at(0, 0), at(4, 3))).toBe(0);
    expect(() => cosineSimilarity(at(1), at(1, 2))).toThrow(UsageError);
  });
});
