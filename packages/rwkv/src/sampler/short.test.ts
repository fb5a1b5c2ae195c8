import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UsageError } from "../core/errors.ts";
import { MAX_LISTED, N_LIKELIEST, shortlistOf } from "../core/shortlist.ts";
import { force, greedy, minP, penalties, temperature, topK, topP } from "./all-steps.ts";
import { createChain, type Sampler } from "./chain.ts";
import { createSampler, type SamplingOptions } from "./options.ts";
import { Random } from "./random.ts";
import { sortedShortlist } from "./testing.ts";

const N_VOCAB = 1000;
const N_USED = 990;

/** Logits as a model has them, a few far above the others; by `step`, many are equal. */
function peakedLogits(seed: number, step: number): Float32Array {
  const random = Random.fromSeed(seed);
  return Float32Array.from({ length: N_VOCAB }, () => {
    const u = random.nextUnit();
    return Math.round((4 * random.nextUnit() - Math.log(1 - u)) / step) * step;
  });
}

/** Draws from a shortlist of the logits; undefined where the sampler does not ask for one. */
function sampleShort(sampler: Sampler, logits: Float32Array, nIds: number): number | null | undefined {
  const wanted = sampler.wantedShort(nIds);
  if (wanted === null) return undefined;
  return sampler.sampleShort(shortlistOf(sortedShortlist(logits, wanted)), wanted);
}

const OPTIONS = fc.record<SamplingOptions>(
  {
    temperature: fc.constantFrom(0, 0.5, 1, 2),
    topP: fc.constantFrom(0, 0.1, 0.3, 0.6, 0.85, 1),
    topK: fc.constantFrom(0, 1, 5, 40, 300),
    repetitionPenalty: fc.constantFrom(0.8, 1.3),
    presencePenalty: fc.constantFrom(-1, 2),
    frequencyPenalty: fc.constantFrom(0.5),
    dry: fc.constant({}),
    sequenceRepetition: fc.constant({ flat: 1, minLength: 2 }),
    logitBias: fc.dictionary(fc.nat(N_VOCAB).map(String), fc.constantFrom(-Infinity, -2, 5), { maxKeys: 20 }),
    banTokens: fc.array(fc.nat(N_VOCAB), { maxLength: 20 }),
    xtc: fc.constant({ threshold: 0.05, probability: 0.5 }),
    minP: fc.constantFrom(0.05, 0.3),
  },
  { requiredKeys: [] },
);

describe("a draw from a shortlist", () => {
  test("is the draw from all logits, or none", () => {
    const outcomes = { drawn: 0, unknown: 0, notAsked: 0 };
    const property = fc.property(
      OPTIONS,
      fc.nat(),
      fc.constantFrom(2 ** -20, 0.25, 1),
      fc.array(fc.nat(N_USED - 1), { maxLength: 40 }),
      (options, seed, step, history) => {
        // Temperature 0 goes with neither.
        const fitting = options.temperature === 0 ? { ...options, xtc: undefined } : options;
        const [all, short] = [createSampler({ ...fitting, seed }), createSampler({ ...fitting, seed })];
        for (const sampler of [all, short]) sampler.begin(history);
        for (let place = 0; place < 4; place++) {
          const logits = peakedLogits(seed + place, step);
          const before = short.state();
          const token = sampleShort(short, logits, N_USED);
          outcomes[token === undefined ? "notAsked" : token === null ? "unknown" : "drawn"]++;
          if (token === null) expect(short.state()).toEqual(before);
          const used = logits.subarray(0, N_USED);
          const wanted = all.sample(used);
          expect(token ?? short.sample(used)).toBe(wanted);
          expect(short.state()).toEqual(all.state());
        }
      },
    );
    fc.assert(property, { numRuns: 300 });
    expect(outcomes.drawn).toBeGreaterThan(50);
    expect(outcomes.unknown).toBeGreaterThan(50);
  });

  test("is none where the tail may matter", () => {
    // 300 logits are the largest there are: the lowest 256 of these ids are in the list.
    const flat = Float32Array.from({ length: N_VOCAB }, (_, id) => (id < 300 ? 1 : 0));
    for (const steps of [[greedy()], [topK(3)], [topP(0.2)], [minP(0.5)]]) {
      expect(sampleShort(createChain(steps, 7), flat, N_VOCAB)).toBeNull();
    }
    const peaked = flat.with(17, 20);
    for (const steps of [[greedy()], [topK(1)], [topP(0.2)], [minP(0.5)]]) {
      expect(sampleShort(createChain(steps, 7), peaked, N_VOCAB)).toBe(17);
    }
    // The mass of the others, not their logits, is what a nucleus hangs on.
    expect(sampleShort(createChain([topK(1)], 7), flat.with(17, 2), N_VOCAB)).toBe(17);
    expect(sampleShort(createChain([topP(0.2)], 7), flat.with(17, 2), N_VOCAB)).toBeNull();
  });

  test("asks for the tokens whose logits it may change", () => {
    const sampler = createSampler({
      presencePenalty: 1,
      repetitionPenalty: 2,
      repetitionWindow: 2,
      banTokens: [990, 3],
      logitBias: { 4: 1 },
      forceTokens: [6, 7],
    });
    sampler.begin([11, 12, 13, 12]);
    const listed = (): number[] => [...sampler.wantedShort(N_USED)!.listed].sort((a, b) => a - b);
    expect(listed()).toEqual([3, 4, 6, 12, 13]);
    const logits = peakedLogits(7, 1);
    expect(sampleShort(sampler, logits, N_USED)).toBe(6);
    expect(listed()).toEqual([3, 4, 6, 7, 12]);
    expect(sampler.sample(logits)).toBe(7);
    expect(listed()).toEqual([3, 4, 6, 7]);
  });

  test("is not asked for where the steps take all tokens, or too many are listed", () => {
    const asks = (sampler: Sampler, nIds = N_VOCAB): boolean => sampler.wantedShort(nIds) !== null;
    expect(asks(createChain([greedy()], 7))).toBe(true);
    expect(asks(createChain([], 7))).toBe(false);
    expect(asks(createChain([penalties({ presence: 1 })], 7))).toBe(false);
    expect(asks(createChain([temperature(2), topK(3)], 7))).toBe(false);
    expect(asks(createChain([topK(3), temperature(2)], 7))).toBe(true);
    expect(asks(createSampler({ typical: 0.9 }))).toBe(false);
    expect(asks(createSampler({ mirostat: { tau: 5 } }))).toBe(false);
    expect(asks(createSampler({ sampler: [() => undefined, greedy()] }))).toBe(false);
    expect(asks(createChain([greedy()], 7), N_LIKELIEST)).toBe(true);
    expect(asks(createChain([greedy()], 7), N_LIKELIEST - 1)).toBe(false);
    const bans = (n: number): SamplingOptions => ({ banTokens: Array.from({ length: n }, (_, id) => id) });
    expect(asks(createSampler(bans(MAX_LISTED)), 10_000)).toBe(true);
    expect(asks(createSampler(bans(MAX_LISTED + 1)), 10_000)).toBe(false);
  });

  test("refuses what no logit is, and leaves a vocabulary of which nothing may be drawn to the draw from all", () => {
    for (const logit of [NaN, Infinity]) {
      const logits = new Float32Array(N_VOCAB).with(700, logit);
      expect(() => sampleShort(createChain([greedy()], 7), logits, N_VOCAB)).toThrow(UsageError);
      expect(() => sampleShort(createChain([greedy()], 7), logits, N_VOCAB)).toThrow(/token 700 is/);
    }
    const masked = new Float32Array(N_VOCAB).fill(-Infinity);
    expect(sampleShort(createChain([greedy()], 7), masked, N_VOCAB)).toBeNull();
    // What is forced needs no other token.
    const forcing = createChain([force([5]), greedy()], 7);
    expect(sampleShort(forcing, masked.with(5, -3).with(6, -9), N_VOCAB)).toBe(5);
  });
});
