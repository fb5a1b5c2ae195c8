// Each step against a computation of its own: the distribution it should leave is worked out in plain f64 by sorting, and
// 100,000 draws are held against it.

import { describe, expect, test } from "vitest";
import * as steps from "./all-steps.ts";
import { Candidates } from "./candidates.ts";
import { createChain } from "./chain.ts";
import type { SamplerStep } from "./step.ts";
import { countDraws, DRAWS, expectDrawsFrom, newContext, softmax, someLogits } from "./testing.ts";

const LOGITS = someLogits(40, 8);
LOGITS[3] = -Infinity;
const PROBS = softmax(LOGITS);
/** Ids by falling probability, equal ones by id. */
const RANKED = [...PROBS.keys()].sort((a, b) => PROBS[b]! - PROBS[a]! || a - b);

/** The distribution of the tokens for which `keep` is true. */
function only(keep: (id: number) => boolean, probs: readonly number[] = PROBS): number[] {
  const kept = probs.map((prob, id) => (keep(id) ? prob : 0));
  const total = kept.reduce((a, b) => a + b);
  return kept.map((prob) => prob / total);
}

/** The distribution after these amounts were taken from the logits. */
function lowered(amounts: ReadonlyMap<number, number>): number[] {
  return softmax(Array.from(LOGITS, (logit, id) => logit - (amounts.get(id) ?? 0)));
}

/** Draws with the same tokens before each. */
function expectDistribution(
  step: SamplerStep,
  probs: readonly number[],
  tokens: readonly number[] = [],
): void {
  const chain = createChain([step], 7);
  const generated = tokens.slice(2);
  expectDrawsFrom(
    probs,
    countDraws(LOGITS, (logits) => {
      if (tokens.length > 0) {
        // The first two are a prompt, the others drawn.
        chain.restore([...chain.state().slice(0, 4), tokens.length, tokens.at(-1)! + 1, generated.length]);
        chain.begin(tokens);
      }
      return chain.sample(logits);
    }),
  );
}

describe("truncation", () => {
  test.each([0.02, 0.2, 0.5, 1])("min-p %d", (p) => {
    expectDistribution(
      steps.minP(p),
      only((id) => PROBS[id]! >= p * Math.max(...PROBS) * (1 - 1e-12)),
    );
  });

  test.each([0.2, 0.5, 0.9])("typical %d: nearest to the entropy first", (p) => {
    const information = PROBS.map((prob) => -Math.log(prob));
    const entropy = PROBS.reduce((sum, prob) => sum + (prob > 0 ? -prob * Math.log(prob) : 0), 0);
    const order = [...PROBS.keys()].sort(
      (a, b) => Math.abs(information[a]! - entropy) - Math.abs(information[b]! - entropy),
    );
    let sum = 0;
    const kept = new Set<number>();
    for (const id of order) {
      kept.add(id);
      if ((sum += PROBS[id]!) >= p) break;
    }
    expectDistribution(
      steps.typical(p),
      only((id) => kept.has(id)),
    );
  });

  test.each([0.3, 0.8, 0.95, 0.99])("tail-free %d", (z) => {
    const sorted = RANKED.map((id) => PROBS[id]!);
    const bends = sorted.slice(2).map((last, i) => Math.abs(sorted[i]! - 2 * sorted[i + 1]! + last));
    const total = bends.reduce((a, b) => a + b);
    let sum = 0;
    const cut = bends.findIndex((bend) => (sum += bend / total) > z);
    const kept = new Set(RANKED.slice(0, cut < 0 ? sorted.length : Math.max(1, cut)));
    expectDistribution(
      steps.tailFree(z),
      only((id) => kept.has(id)),
    );
  });

  test.each([
    [0.05, 0.5],
    [0.1, 1],
    [0.02, 0.2],
    [0.9, 1],
    [0, 0.3],
  ])("xtc with threshold %d and probability %d", (threshold, probability) => {
    const top = RANKED.filter((id) => PROBS[id]! > 0 && PROBS[id]! >= threshold);
    const excluded = new Set(top.slice(0, -1));
    const without = only((id) => !excluded.has(id));
    const mixed = PROBS.map((prob, id) => (1 - probability) * prob + probability * without[id]!);
    expectDistribution(steps.xtc(threshold, probability), mixed);
  });
});

describe("penalties", () => {
  // The first two tokens are a prompt.
  const TOKENS = [9, 5, 1, 2, 1, 7, 1, 2];

  test("presence and frequency count what was drawn, and fade by the decay", () => {
    const [presence, frequency, decay] = [0.7, 0.5, 0.9];
    // As the official chat does it: one dictionary, faded before each token counts.
    const occurrence = new Map<number, number>();
    for (const token of TOKENS.slice(2)) {
      for (const [id, count] of occurrence) occurrence.set(id, count * decay);
      occurrence.set(token, (occurrence.get(token) ?? 0) + 1);
    }
    const amounts = new Map([...occurrence].map(([id, count]) => [id, presence + frequency * count]));
    expectDistribution(steps.penalties({ presence, frequency, decay }), lowered(amounts), TOKENS);
  });

  test.each([64, 3])("repetition divides and multiplies in a window of %d", (window) => {
    const recent = new Set(TOKENS.slice(-window));
    const logits = Array.from(LOGITS, (logit, id) =>
      recent.has(id) ? (logit > 0 ? logit / 1.4 : logit * 1.4) : logit,
    );
    expectDistribution(steps.repetition(1.4, window), softmax(logits), TOKENS);
  });

  test("dry grows with the length of the longest repeat before each token", () => {
    const tokens = [1, 2, 5, 1, 2, 6, 4, 1, 2, 5, 1, 2];
    // "1 2" was followed by 5, twice, and "1 2 5 1 2" by 6.
    const amounts = new Map([
      [5, 0.8 * 1.75 ** 0],
      [6, 0.8 * 1.75 ** (5 - 2)],
    ]);
    expectDistribution(steps.dry({ allowedLength: 2 }), lowered(amounts), tokens);
  });

  test("the fuzzy penalty takes the longest sequence, its length and a flat part", () => {
    const tokens = [1, 2, 3, 4, 9, 9, 1, 8, 3, 6, 9, 1, 2, 3];
    // "1 2 3" before 4 exactly; "1 8 3" before 6 with one token tolerated, and with "9" before it.
    const amounts = new Map([
      [4, 0.5 + 0.3 * 3],
      [6, 0.5 + 0.3 * 4],
    ]);
    const step = steps.sequenceRepetition({ flat: 0.5, stacking: 0.3, minLength: 3, tolerance: 1 });
    expectDistribution(step, lowered(amounts), tokens);
    const strict = steps.sequenceRepetition({ flat: 0.5, stacking: 0.3, minLength: 3 });
    expectDistribution(strict, lowered(new Map([[4, 0.5 + 0.3 * 3]])), tokens);
  });

  test("one token may stand for several that stood there before", () => {
    const tokens = [0, 0, 1, 7, 8, 3, 6, 9, 1, 2, 3];
    const options = { flat: 2, minLength: 3, tolerance: 1 };
    expectDistribution(steps.sequenceRepetition({ ...options, maxMerge: 1 }), PROBS, tokens);
    expectDistribution(
      steps.sequenceRepetition({ ...options, maxMerge: 2 }),
      lowered(new Map([[6, 2]])),
      tokens,
    );
  });
});

describe("single tokens", () => {
  test("a bias is added, -Infinity bans, unknown ids are passed over", () => {
    const probs = softmax(
      Array.from(LOGITS, (logit, id) => (id === 4 ? logit + 1.5 : id === 5 ? -Infinity : logit)),
    );
    expectDistribution(steps.bias({ 4: 1.5, 5: -Infinity, 4000: 3 }), probs);
    expectDistribution(
      steps.bias(
        new Map([
          [4, 1.5],
          [5, -Infinity],
        ]),
      ),
      probs,
    );
  });

  test("banned tokens are never drawn, the others as before", () => {
    expectDistribution(
      steps.ban([RANKED[0]!, 7]),
      only((id) => id !== RANKED[0] && id !== 7),
    );
  });

  test("an answer begins with the forced tokens, then goes on freely", () => {
    const chain = createChain([steps.force([30, 2, 2])], 7);
    for (let run = 0; run < 20; run++) {
      chain.begin([1, 2, 3], 1000 * (run + 1));
      expect([0, 1, 2].map(() => chain.sample(LOGITS))).toEqual([30, 2, 2]);
    }
    const after = countDraws(LOGITS, (logits) => chain.sample(logits));
    expectDrawsFrom(PROBS, after);
  });
});

describe("mirostat", () => {
  const BITS = PROBS.map((prob) => -Math.log2(prob));

  /** Every token is drawn from what the limit before it allows; counts are held against the sum of these distributions. */
  function expectFollows(
    step: SamplerStep,
    tau: number,
    eta: number,
    allowed: (mu: number) => number[],
  ): void {
    const chain = createChain([step], 7);
    let mu = 2 * tau;
    const expected = PROBS.map(() => 0);
    const counts = PROBS.map(() => 0);
    for (let i = 0; i < DRAWS; i++) {
      const probs = allowed(mu);
      probs.forEach((prob, id) => (expected[id]! += prob / DRAWS));
      const token = chain.sample(LOGITS);
      counts[token]!++;
      if (probs[token] === 0)
        expect.fail(`token ${token} was drawn with mu at ${mu}, where it carries too much`);
      mu -= eta * (BITS[token]! - tau);
    }
    expectDrawsFrom(expected, counts);
  }

  test.each([
    [2, 0.1],
    [3, 0.4],
  ])("version 2 with tau %d and eta %d keeps what carries at most mu bits", (tau, eta) => {
    expectFollows(steps.mirostat(tau, eta), tau, eta, (mu) =>
      only((id) => BITS[id]! <= Math.max(mu, Math.min(...BITS)) + 1e-9),
    );
  });

  test("version 1 keeps the k likeliest of a Zipf law fitted to the head", () => {
    const logits = RANKED.map((id) => LOGITS[id]!).filter((logit) => logit > -Infinity);
    let [product, square] = [0, 0];
    for (let i = 0; i + 1 < logits.length; i++) {
      const ratio = Math.log((i + 2) / (i + 1));
      product += ratio * (logits[i]! - logits[i + 1]!);
      square += ratio ** 2;
    }
    const s = product / square;
    const n = LOGITS.length;
    expectFollows(steps.mirostat1(2, 0.2), 2, 0.2, (mu) => {
      const k = (((s - 1) * 2 ** mu) / (1 - n ** (1 - s))) ** (1 / s);
      const kept = new Set(RANKED.slice(0, Math.max(1, Math.min(n, Math.round(k)))));
      return only((id) => kept.has(id));
    });
  });

  test("the information of the tokens comes near the target", () => {
    for (const step of [steps.mirostat(2.5, 0.05), steps.mirostat1(2.5, 0.05)]) {
      const chain = createChain([step], 7);
      let sum = 0;
      for (let i = 0; i < 20_000; i++) sum += BITS[chain.sample(LOGITS)]!;
      // mu moves by eta times the whole error, and cannot drift: the mean is off by at most its range over the draws
      expect(sum / 20_000).toBeCloseTo(2.5, 1);
    }
  });
});

describe("edge cases of every step", () => {
  const ALL: readonly SamplerStep[] = [
    steps.minP(0.1),
    steps.typical(0.5),
    steps.tailFree(0.5),
    steps.xtc(0.1, 1),
    steps.mirostat(3),
    steps.mirostat1(3),
    steps.penalties({ presence: 1, frequency: 1 }),
    steps.repetition(1.5),
    steps.dry(),
    steps.sequenceRepetition({ flat: 1 }),
    steps.bias({ 0: -1 }),
    steps.topK(3),
    steps.topP(0.5),
    steps.temperature(0.5),
    steps.greedy(),
  ];
  const apply = (step: SamplerStep, logits: Float32Array): number[] => {
    const candidates = new Candidates();
    candidates.load(logits);
    const state = Float64Array.from(step.initialState ?? []);
    step.apply(candidates, newContext([0, 1, 2, 0, 1, 2, 0, 1, 2]), state);
    candidates.weigh();
    return Array.from(candidates.ids.subarray(0, candidates.count)).filter(
      (_, i) => candidates.weights[i]! > 0,
    );
  };

  test.each(ALL)("$name leaves one candidate alone", (step) => {
    expect(apply(step, Float32Array.of(-7))).toEqual([0]);
    const masked = new Float32Array(1000).fill(-Infinity);
    masked[37] = -80;
    expect(apply(step, masked)).toEqual([37]);
  });

  test.each([steps.minP(0.1), steps.typical(0.5), steps.tailFree(0.5), steps.mirostat(11)])(
    "$name keeps all of many that are equal",
    (step) => {
      expect(apply(step, new Float32Array(5000).fill(2))).toHaveLength(5000);
    },
  );

  test.each(ALL)("$name refuses NaN and +Infinity", (step) => {
    const chain = createChain([step], 7);
    for (const value of [NaN, Infinity]) {
      expect(() => chain.sample(Float32Array.of(1, 2, value))).toThrow(`token 2 is ${value}`);
    }
  });

  test.each(ALL)("$name gives the same whatever the vocabulary before", (step) => {
    const want = apply(step, LOGITS);
    const chain = createChain([step], 7);
    chain.sample(someLogits(3000, 4));
    expect(apply(step, LOGITS)).toEqual(want);
  });
});

test("tail-free sorts as much of a large vocabulary as it takes, and cuts where a whole sort does", () => {
  for (const spread of [0.5, 8, 30]) {
    for (const z of [0.3, 0.9, 0.999]) {
      const logits = someLogits(20_000, spread);
      const sorted = softmax(logits).sort((a, b) => b - a);
      const bends = sorted.slice(2).map((last, i) => Math.abs(sorted[i]! - 2 * sorted[i + 1]! + last));
      const total = bends.reduce((a, b) => a + b);
      let sum = 0;
      const cut = bends.findIndex((bend) => (sum += bend / total) > z);
      const candidates = new Candidates();
      candidates.load(logits);
      steps.tailFree(z).apply(candidates, newContext(), new Float64Array(0));
      // Second differences of f32 logits next to each other: rounding may move the place a little.
      expect(Math.abs(candidates.count - Math.max(1, cut))).toBeLessThanOrEqual(2 + 0.001 * cut);
    }
  }
});
