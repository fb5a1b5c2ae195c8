import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Candidates } from "./candidates.ts";
import type { SamplerStep } from "./step.ts";
import { greedy, temperature, topK, topP } from "./steps.ts";
import { newContext } from "./testing.ts";

const context = newContext();
const shared = new Candidates();

function apply(logits: Float32Array, ...steps: readonly SamplerStep[]): { ids: number[]; logits: number[] } {
  shared.load(logits);
  for (const step of steps) step.apply(shared, context, new Float64Array(0));
  expect(shared.maxLogit === Math.max(...shared.logits.subarray(0, shared.count))).toBe(true); // 0 is -0 here
  return {
    ids: Array.from(shared.ids.subarray(0, shared.count)),
    logits: Array.from(shared.logits.subarray(0, shared.count)),
  };
}

const logit = fc.oneof(
  fc.float({ min: -50, max: 50, noNaN: true }),
  fc.constantFrom(-Infinity, 0, -0, 1, 1, 2.5, -3e38, 3e38, 1e-45, -1e-45),
);
const someLogits = fc
  .array(logit, { minLength: 1, maxLength: 60 })
  .filter((list) => list.some((value) => value > -Infinity))
  .map((list) => Float32Array.from(list));

/** Ids from the largest logit down, those of equal logits ascending. */
function ranking(logits: Float32Array): number[] {
  return Array.from(logits.keys()).sort((a, b) => logits[b]! - logits[a]! || a - b);
}

describe("top-k", () => {
  test("keeps the first k of a stable sort, whatever the logits", () => {
    fc.assert(
      fc.property(someLogits, fc.integer({ min: 1, max: 70 }), (logits, k) => {
        const want = ranking(logits)
          .slice(0, k)
          .sort((a, b) => a - b);
        expect(apply(logits, topK(k)).ids).toEqual(want);
      }),
      { seed: 7, numRuns: 1000 },
    );
  });

  test("0 and -0 tie", () => {
    expect(apply(Float32Array.of(-0, 0, -0, 0), topK(1)).ids).toEqual([0]);
    expect(apply(Float32Array.of(-0, 0, -0, 0, 5), topK(3)).ids).toEqual([0, 1, 4]);
  });
});

describe("top-p", () => {
  test("keeps what a sort, a running sum and a cut at the probability of the last one keep", () => {
    fc.assert(
      fc.property(someLogits, fc.double({ min: 0, max: 0.999, noNaN: true }), (logits, p) => {
        const max = Math.max(...logits);
        const weights = Array.from(logits, (value) => Math.exp(value - max));
        const total = weights.reduce((a, b) => a + b);
        let sum = 0;
        let last = -1;
        let margin = Infinity;
        for (const id of ranking(logits)) {
          sum += weights[id]! / total;
          margin = Math.min(margin, Math.abs(sum - p));
          last = id;
          if (sum >= p) break;
        }
        fc.pre(margin > 1e-6 || p === 0); // nearer than rounding can tell
        const want = Array.from(logits.keys()).filter((id) => logits[id]! >= logits[last]!);
        expect(apply(logits, topP(p)).ids).toEqual(want);
      }),
      { seed: 7, numRuns: 1000 },
    );
  });

  test("all that tie with the last one are kept", () => {
    expect(apply(Float32Array.of(1, 1, 1, 1, 0.5), topP(0.3)).ids).toEqual([0, 1, 2, 3]);
    expect(apply(Float32Array.of(3, 1, 3), topP(0)).ids).toEqual([0, 2]);
    expect(apply(new Float32Array(1000).fill(2), topP(0.001)).ids).toHaveLength(1000);
  });

  test("the cut is at the first sum that reaches p, not past it", () => {
    const half = Float32Array.of(Math.log(2), 0, 0); // 1/2, 1/4, 1/4
    expect(apply(half, topP(0.49)).ids).toEqual([0]);
    expect(apply(half, topP(0.51)).ids).toEqual([0, 1, 2]);
  });

  test("a p just below 1 drops no more than what is lighter than its gap", () => {
    const logits = Float32Array.from({ length: 1000 }, (_, i) => -i / 100);
    expect(apply(logits, topP(1 - 1e-9)).ids).toHaveLength(1000);
  });
});

describe("temperature", () => {
  test("raises the odds between any two tokens to the power of 1 / T", () => {
    const { logits } = apply(Float32Array.of(1, 3, -2), temperature(0.5));
    expect(logits).toEqual([-4, 0, -10]);
  });

  test.each([5e-324, 1e-30, 1e30, 1.7e308])("%d leaves numbers, and the largest at 0", (t) => {
    const { logits } = apply(Float32Array.of(3e38, -3e38, -Infinity, 3e38, 0), temperature(t));
    expect([logits[0], logits[3]]).toEqual([0, 0]);
    for (const value of logits) expect(value).toBeLessThanOrEqual(0);
    expect(logits[2]).toBe(-Infinity);
  });
});

test("greedy keeps the largest logit, of equal ones the lowest id", () => {
  fc.assert(
    fc.property(someLogits, (logits) => {
      expect(apply(logits, greedy()).ids).toEqual([ranking(logits)[0]]);
    }),
    { seed: 7, numRuns: 500 },
  );
});

test("steps in another order see only what those before them left", () => {
  const logits = Float32Array.of(0, 1, 2, 3);
  expect(apply(logits, topK(2), topP(0.7)).ids).toEqual([3]); // 0.73 of the two kept
  expect(apply(logits, topP(0.7), topK(2)).ids).toEqual([2, 3]); // 0.64 of all four
  expect(apply(logits, temperature(0.1), topP(0.7)).ids).toEqual([3]);
});

test("candidates are reused for vocabularies of other sizes", () => {
  expect(apply(Float32Array.of(1, 2, 3), topK(2)).ids).toEqual([1, 2]);
  expect(apply(new Float32Array(5000), topK(4000)).ids).toHaveLength(4000);
  expect(apply(Float32Array.of(9, 8), topK(2)).ids).toEqual([0, 1]);
  expect(apply(Float32Array.of(4)).ids).toEqual([0]);
});
