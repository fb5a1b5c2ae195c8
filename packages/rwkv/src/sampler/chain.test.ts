import { describe, expect, test } from "vitest";
import { UsageError } from "../core/errors.ts";
import { ban, bias, force, greedy, mirostat, mirostat1, temperature, topP, xtc } from "./all-steps.ts";
import { createChain } from "./chain.ts";
import { createSampler, type SamplingOptions } from "./options.ts";
import { Random } from "./random.ts";
import type { SamplerFunction, SamplerSteps } from "./step.ts";
import { countDraws, DRAWS, expectDrawsFrom, someLogits } from "./testing.ts";

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

describe("a chain of one's own", () => {
  const logits = someLogits(60, 6);
  const draws = (steps: SamplerSteps, n = 60): number[] => {
    const chain = createChain(steps, 7);
    return Array.from({ length: n }, () => chain.sample(logits));
  };

  test("functions are steps too: they change logits, or move what they keep to the front", () => {
    const onlyEven: SamplerFunction = (candidates) => {
      let kept = 0;
      for (let i = 0; i < candidates.count; i++) {
        if (candidates.ids[i]! % 2 === 1) continue;
        candidates.ids[kept] = candidates.ids[i]!;
        candidates.logits[kept++] = candidates.logits[i]!;
      }
      candidates.count = kept;
    };
    const masks: SamplerFunction = ({ ids, logits: values, count }) => {
      for (let i = 0; i < count; i++) if (ids[i]! % 2 === 1) values[i] = -Infinity;
    };
    const odd = Array.from({ length: 30 }, (_, i) => 2 * i + 1);
    for (const own of [onlyEven, masks]) {
      expect(draws([own, topP(0.9), temperature(0.7)])).toEqual(
        draws([ban(odd), topP(0.9), temperature(0.7)]),
      );
    }
  });

  test("functions see the tokens before: the last are those drawn here", () => {
    const seen: number[][] = [];
    const chain = createChain(
      [
        (_, { history }) => {
          seen.push(Array.from({ length: history.count }, (__, age) => history.recent(age)).reverse());
        },
      ],
      7,
    );
    chain.begin([4, 5]);
    const drawn = [0, 1, 2].map(() => chain.sample(logits));
    expect(seen).toEqual([
      [4, 5],
      [4, 5, drawn[0]],
      [4, 5, drawn[0], drawn[1]],
    ]);
  });

  test.each<[string, SamplerFunction, string]>([
    ["nan", (candidates) => void (candidates.logits[3] = NaN), "The step nan gave token 3 the logit NaN"],
    ["none", (candidates) => void (candidates.count = 0), "The step none left 0 candidates"],
    ["more", (candidates) => (candidates.count += 1), "The step more left 61 candidates"],
    ["all", (candidates) => void candidates.logits.fill(-Infinity), "left no token that can be drawn"],
  ])("what a function leaves is checked: %s", (name, own, message) => {
    Object.defineProperty(own, "name", { value: name });
    expect(() => draws([own])).toThrow(UsageError);
    expect(() => draws([own])).toThrow(message);
  });

  test("banning every token, or forcing a banned one, is refused", () => {
    expect(() => draws([ban(logits.map((_, id) => id) as unknown as number[])])).toThrow(
      "left no token that can be drawn",
    );
    expect(() => draws([ban([3]), force([3])])).toThrow("Token 3 is forced, but it cannot be drawn");
    expect(() => draws([force([99])])).toThrow("Token 99 is forced");
    expect(() => draws([bias({ 3: 3e38, 4: 3e38 }), bias({ 3: 3e38 })])).toThrow("made a logit Infinity");
  });

  test.each<[SamplerSteps, string]>([
    [[greedy(), topP(0.5)], "top-p comes after greedy, which leaves one token"],
    [[topP(0.5), mirostat()], "mirostat and top-p do not go together"],
    [[mirostat1(), xtc()], "mirostat-1 and xtc do not go together"],
    [[mirostat(), temperature(2)], "temperature comes after mirostat"],
    [[mirostat(), mirostat()], "mirostat comes after mirostat"],
    [[mirostat(), greedy()], "greedy comes after mirostat"],
  ])("steps that contradict each other are refused (%#)", (steps, message) => {
    expect(() => createChain(steps)).toThrow(UsageError);
    expect(() => createChain(steps)).toThrow(message);
  });

  test("one list of steps serves several chains, each with a state of its own", () => {
    const steps = [temperature(1.2), mirostat(3, 0.5)];
    const want = draws(steps);
    const [a, b] = [createChain(steps, 7), createChain(steps, 8)];
    const got = want.map(() => {
      b.sample(logits);
      return a.sample(logits);
    });
    expect(got).toEqual(want);
  });
});
