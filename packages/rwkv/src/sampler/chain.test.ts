import { describe, expect, test } from "vitest";
import { UsageError } from "../core/errors.ts";
import { createChain, createSampler, type SamplingOptions } from "./chain.ts";
import { Random } from "./random.ts";
import { temperature, topP } from "./steps.ts";

const DRAWS = 100_000;

function someLogits(nVocab: number, spread: number): Float32Array {
  const random = Random.fromSeed(7);
  return Float32Array.from({ length: nVocab }, () => (random.nextUnit() - 0.5) * spread);
}

/** The distribution the official sampler draws from, by its own recipe: sort, cut, keep, power, normalise. */
function officialDistribution(
  logits: Float32Array,
  { temperature: t = 1, topK: k = 0, topP: p = 0.85 }: SamplingOptions,
) {
  const max = Math.max(...logits);
  let probs = Array.from(logits, (logit) => Math.exp(logit - max));
  const normalise = (): void => {
    const total = probs.reduce((a, b) => a + b);
    probs = probs.map((prob) => prob / total);
  };
  normalise();
  if (p < 1) {
    const sorted = [...probs].sort((a, b) => b - a);
    let sum = 0;
    const cutoff = sorted.find((prob) => (sum += prob) >= p)!;
    probs = probs.map((prob) => (prob < cutoff ? 0 : prob));
  }
  if (k > 0) {
    const kept = new Set(
      Array.from(probs.keys())
        .sort((a, b) => probs[b]! - probs[a]! || a - b)
        .slice(0, k),
    );
    probs = probs.map((prob, id) => (kept.has(id) ? prob : 0));
  }
  probs = probs.map((prob) => prob ** (1 / t));
  normalise();
  return probs;
}

/** Pearson's statistic of the draws; its mean is the degrees of freedom, its variance twice that. */
function expectDrawsFrom(probs: readonly number[], counts: readonly number[]): void {
  let statistic = 0;
  let freedom = -1;
  probs.forEach((prob, id) => {
    const expected = prob * DRAWS;
    if (prob === 0) {
      expect(counts[id], `draws of token ${id}, which has no probability`).toBe(0);
    } else if (expected >= 5) {
      statistic += (counts[id]! - expected) ** 2 / expected;
      freedom++;
    }
  });
  if (freedom > 0) expect(statistic).toBeLessThan(freedom + 4 * Math.sqrt(2 * freedom));
}

function countDraws(logits: Float32Array, sample: (logits: Float32Array) => number): number[] {
  const counts = new Array<number>(logits.length).fill(0);
  for (let i = 0; i < DRAWS; i++) counts[sample(logits)]!++;
  return counts;
}

describe("100,000 draws are distributed as the official sampler's", () => {
  test.each<SamplingOptions>([
    {},
    { topP: 1 },
    { topP: 0.3 },
    { topP: 0 },
    { topP: 1, topK: 5 },
    { topP: 0.9, topK: 7, temperature: 0.7 },
    { topP: 0.5, temperature: 2 },
    { topP: 1, temperature: 0.3 },
    { topP: 1, topK: 1, temperature: 1.5 },
  ])("%j", (options) => {
    const logits = someLogits(40, 8);
    logits[3] = -Infinity;
    const sampler = createSampler({ ...options, seed: 7 });
    expectDrawsFrom(
      officialDistribution(logits, options),
      countDraws(logits, (row) => sampler.sample(row)),
    );
  });
});

test("the temperature comes last by default; a chain of one's own may put it first", () => {
  const logits = Float32Array.of(0, 1, 2, 3);
  const official = createSampler({ temperature: 5, topP: 0.6, seed: 7 });
  expect(countDraws(logits, (row) => official.sample(row))).toEqual([0, 0, 0, DRAWS]);
  const other = createChain([temperature(5), topP(0.6)], 7);
  const counts = countDraws(logits, (row) => other.sample(row));
  const heated = logits.map((logit) => logit / 5);
  expectDrawsFrom(officialDistribution(heated, { topP: 0.6 }), counts);
  expect(counts.filter((count) => count > 0)).toHaveLength(3);
});

test("temperature 0 takes the largest logit, of equal ones the lowest id", () => {
  const sampler = createSampler({ temperature: 0, topK: 3, topP: 0.5, seed: 7 });
  expect(sampler.sample(Float32Array.of(1, 5, 5, -2))).toBe(1);
  expect(sampler.sample(new Float32Array(1000))).toBe(0);
  expect(sampler.sample(Float32Array.of(-Infinity, -3e38))).toBe(1);
});

test("a single possible token is drawn by every chain", () => {
  for (const options of [{}, { topP: 1 }, { topK: 3 }, { temperature: 0 }, { temperature: 9, topP: 0 }]) {
    const sampler = createSampler({ ...options, seed: 7 });
    expect(sampler.sample(Float32Array.of(-7))).toBe(0);
    const masked = new Float32Array(100).fill(-Infinity);
    masked[37] = -80;
    for (let i = 0; i < 100; i++) expect(sampler.sample(masked)).toBe(37);
  }
});

test("tokens masked by -Infinity, and those too unlikely for f32, are never drawn", () => {
  const logits = Float32Array.of(-Infinity, 0, -200, 0, -Infinity);
  const sampler = createSampler({ topP: 1, seed: 7 });
  const counts = countDraws(logits, (row) => sampler.sample(row));
  expect([counts[0], counts[2], counts[4]]).toEqual([0, 0, 0]);
});

test("equal logits are drawn evenly", () => {
  const logits = new Float32Array(64).fill(-3);
  const sampler = createSampler({ seed: 7 });
  expectDrawsFrom(
    Array.from(logits, () => 1 / 64),
    countDraws(logits, (row) => sampler.sample(row)),
  );
});

describe("repeating a run", () => {
  const logits = someLogits(500, 6);

  test("the same seed gives the same draws, another seed others", () => {
    const run = (seed: number): number[] => {
      const sampler = createSampler({ seed, topP: 1 });
      return Array.from({ length: 50 }, () => sampler.sample(logits));
    };
    expect(run(42)).toEqual(run(42));
    expect(run(43)).not.toEqual(run(42));
  });

  test("a drawn seed can be read back and gives the same draws", () => {
    const first = createSampler({ topP: 1 });
    const second = createSampler({ topP: 1, seed: first.seed });
    for (let i = 0; i < 50; i++) expect(second.sample(logits)).toBe(first.sample(logits));
    expect(createSampler().seed).not.toBe(first.seed);
  });

  test("a saved state, through JSON and into another sampler, continues alike", () => {
    const sampler = createSampler({ topP: 1, seed: 7 });
    for (let i = 0; i < 20; i++) sampler.sample(logits);
    const saved = JSON.parse(JSON.stringify(sampler.state())) as number[];
    const rest = Array.from({ length: 20 }, () => sampler.sample(logits));
    const other = createSampler({ topP: 1, seed: 1 });
    other.restore(saved);
    expect(Array.from({ length: 20 }, () => other.sample(logits))).toEqual(rest);
    sampler.restore(saved);
    expect(Array.from({ length: 20 }, () => sampler.sample(logits))).toEqual(rest);
  });

  test("a draw is the token, by ascending id, at which the sum of probabilities passes the next random number", () => {
    const options = { temperature: 0.8, topP: 0.95, topK: 400 };
    const sampler = createSampler({ ...options, seed: 123456789 });
    const random = Random.fromSeed(123456789);
    const probs = officialDistribution(logits, options);
    for (let i = 0; i < 200; i++) {
      let sum = 0;
      const unit = random.nextUnit();
      const want = probs.findIndex((prob) => (sum += prob) > unit);
      expect(sampler.sample(logits)).toBe(want);
    }
  });
});

test("the logits given are left as they are", () => {
  const logits = someLogits(300, 9);
  const before = logits.slice();
  createSampler({ temperature: 0.5, topK: 20, topP: 0.9, seed: 7 }).sample(logits);
  expect(logits).toEqual(before);
});

describe("logits that cannot be sampled are refused, and the generator stays where it was", () => {
  test.each([
    [NaN, "token 5 is NaN"],
    [Infinity, "token 5 is Infinity"],
  ])("%d", (value, message) => {
    for (const options of [{}, { temperature: 0 }, { topP: 1 }]) {
      const sampler = createSampler({ ...options, seed: 7 });
      const state = sampler.state();
      // 6, 7 and 8 logits: wherever the place falls in the unrolled loop
      for (const nVocab of [6, 7, 8]) {
        const logits = new Float32Array(nVocab).fill(2);
        logits[5] = value;
        expect(() => sampler.sample(logits)).toThrow(UsageError);
        expect(() => sampler.sample(logits)).toThrow(message);
      }
      expect(sampler.state()).toEqual(state);
    }
  });

  test("all masked, or none at all", () => {
    const sampler = createSampler({ seed: 7 });
    expect(() => sampler.sample(new Float32Array(9).fill(-Infinity))).toThrow("every logit is -Infinity");
    expect(() => sampler.sample(new Float32Array(0))).toThrow("there are no logits");
  });
});

describe("options out of range are refused by name", () => {
  test.each<[SamplingOptions, string]>([
    [{ temperature: -0.1 }, "temperature is -0.1; expected a number of at least 0"],
    [{ temperature: NaN }, "temperature is NaN"],
    [{ temperature: Infinity }, "temperature is Infinity"],
    [{ topK: -1 }, "topK is -1; expected a whole number of at least 0"],
    [{ topK: 2.5 }, "topK is 2.5"],
    [{ topP: -0.5 }, "topP is -0.5; expected a number of at least 0"],
    [{ topP: NaN }, "topP is NaN"],
    [{ seed: 1.5 }, "seed is 1.5"],
  ])("%j", (options, message) => {
    expect(() => createSampler(options)).toThrow(UsageError);
    expect(() => createSampler(options)).toThrow(message);
  });

  test("values that switch a step off are fine", () => {
    const logits = someLogits(50, 3);
    const plain = createSampler({ topP: 1, seed: 7 });
    const off = createSampler({ temperature: 1, topK: 0, topP: 1.5, seed: 7 });
    for (let i = 0; i < 50; i++) expect(off.sample(logits)).toBe(plain.sample(logits));
  });
});
