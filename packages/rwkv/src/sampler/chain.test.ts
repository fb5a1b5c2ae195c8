import { describe, expect, test } from "vitest";
import { UsageError } from "../core/errors.ts";
import {
  ban,
  bias,
  dry,
  force,
  greedy,
  minP,
  mirostat,
  mirostat1,
  penalties,
  repetition,
  sequenceRepetition,
  tailFree,
  temperature,
  topP,
  typical,
  xtc,
} from "./all-steps.ts";
import { createChain, type Sampler } from "./chain.ts";
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

describe("going on elsewhere", () => {
  const logits = someLogits(60, 6);
  const STEPS: SamplerSteps = [
    force([5, 6, 7]),
    penalties({ presence: 0.5, frequency: 0.5 }),
    repetition(1.3),
    dry({ allowedLength: 1 }),
    sequenceRepetition({ flat: 1, minLength: 2 }),
    mirostat(3, 0.3),
  ];

  test("a chain restored after any number of draws gives the tokens of one that was never stopped", () => {
    const whole = createChain(STEPS, 7);
    const prompt = [1, 2, 3, 1, 2];
    whole.begin(prompt);
    const want = Array.from({ length: 2500 }, () => whole.sample(logits));
    for (const stop of [0, 1, 2, 40, 1023, 1024, 1500, 2048]) {
      const first = createChain(STEPS, 7);
      first.begin(prompt);
      const begun = want.slice(0, stop).map(() => first.sample(logits));
      const second = createChain(STEPS, 99);
      second.restore(JSON.parse(JSON.stringify(first.state())) as number[]);
      // A session keeps the last 1,024 tokens.
      second.begin([...prompt, ...begun].slice(-1024), prompt.length + stop);
      expect([...begun, ...want.slice(stop).map(() => second.sample(logits))]).toEqual(want);
    }
  });

  test("after other tokens a new answer begins: what was drawn before is not counted, and not forced again", () => {
    const chain = createChain([force([5]), penalties({ presence: 40 })], 7);
    chain.begin([1, 2]);
    const first = [chain.sample(logits), chain.sample(logits)];
    expect(first[0]).toBe(5);
    chain.begin([1, 2, ...first]);
    expect(new Set([...first, chain.sample(logits)]).size).toBe(3);
    chain.begin([1, 2, ...first, 9]);
    expect(chain.sample(logits)).toBe(5);
  });

  test("steps take what their names have kept; others begin anew", () => {
    const first = createChain([mirostat(3, 0.5)], 7);
    for (let i = 0; i < 30; i++) first.sample(logits);
    const other = createChain([mirostat1(3, 0.5)], 1);
    const fresh = other.state();
    other.restore(first.state());
    expect(other.state().slice(7)).toEqual(fresh.slice(7));
    const same = createChain([temperature(1), mirostat(3, 0.5)], 1);
    same.restore(first.state());
    expect(same.state()).toEqual(first.state());
    // Of a sampler that keeps the generator alone.
    same.restore(first.state().slice(0, 4));
    expect(same.state().slice(0, 4)).toEqual(first.state().slice(0, 4));
    expect(same.state().slice(8)).toEqual(
      createChain([mirostat(3, 0.5)], 1)
        .state()
        .slice(8),
    );
  });

  test.each([
    [[]],
    [[1, 2, 3]],
    [[0, 0, 0, 0]],
    [[1, 2, 3, 4, 5]],
    [[1, 2, 3, 4, 5, 6]],
    [[1, 2, 3, 4, 5, 6, 7, 8]],
    [[1, 2, 3, 4, 5, 6, 7, 8, 1, 2]],
    [[1, 2, 3, 4, 5, 6, -7]],
    [[1, 2, 3, 4, 5, 6, 7.5]],
    [[1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 2 ** 32]],
  ])("%j is no state, and changes nothing", (state) => {
    const chain = createChain([mirostat()], 7);
    const before = chain.state();
    expect(() => chain.restore(state)).toThrow(UsageError);
    expect(chain.state()).toEqual(before);
  });
});

describe("options make chains", () => {
  const logits = someLogits(60, 6);
  const PROMPT = [1, 2, 3, 4, 1, 2, 3];
  const drawsOf = (sampler: Sampler): number[] => {
    sampler.begin(PROMPT);
    return Array.from({ length: 80 }, () => sampler.sample(logits));
  };

  test.each<[SamplingOptions, SamplerSteps]>([
    [{ minP: 0.05 }, [minP(0.05)]],
    [{ typical: 0.5 }, [typical(0.5)]],
    [{ tailFree: 0.9, topP: 0.7, temperature: 2 }, [tailFree(0.9), topP(0.7), temperature(2)]],
    [{ mirostat: {} }, [mirostat()]],
    [{ mirostat: { tau: 2, eta: 0.5, version: 1 }, temperature: 2 }, [temperature(2), mirostat1(2, 0.5)]],
    [{ xtc: { threshold: 0.02 } }, [topP(0.85), xtc(0.02, 0.5)]],
    [{ repetitionPenalty: 1.5, repetitionWindow: 5 }, [repetition(1.5, 5), topP(0.85)]],
    [{ presencePenalty: 0.5 }, [penalties({ presence: 0.5 }), topP(0.85)]],
    [{ frequencyPenalty: 0.5, penaltyDecay: 0.9 }, [penalties({ frequency: 0.5, decay: 0.9 }), topP(0.85)]],
    [{ dry: {}, sequenceRepetition: { flat: 1 } }, [sequenceRepetition({ flat: 1 }), dry(), topP(0.85)]],
    [
      { logitBias: { 3: 2 }, banTokens: [4], forceTokens: [9, 9] },
      [bias({ 3: 2 }), ban([4]), force([9, 9]), topP(0.85)],
    ],
    [{ temperature: 0, presencePenalty: 1 }, [penalties({ presence: 1 }), greedy()]],
    [{ sampler: [typical(0.5), temperature(2)] }, [typical(0.5), temperature(2)]],
  ])("%j", (options, steps) => {
    expect(drawsOf(createSampler({ ...options, seed: 7 }))).toEqual(drawsOf(createChain(steps, 7)));
  });

  test.each<[SamplingOptions, string]>([
    [{ mirostat: {}, topK: 5 }, "mirostat and top-k do not go together"],
    [{ mirostat: {}, topP: 0.5 }, "mirostat and top-p do not go together"],
    [{ mirostat: {}, typical: 0.5 }, "mirostat and typical do not go together"],
    [{ temperature: 0, typical: 0.5 }, "temperature 0 always takes the likeliest token, which typical"],
    [{ temperature: 0, mirostat: {} }, "which mirostat is there to avoid"],
    [{ temperature: 0, xtc: {} }, "which xtc is there to avoid"],
    [{ mirostat: { version: 3 as 2 } }, "mirostat has the versions 1 and 2; found 3"],
    [{ mirostat: { tau: 0 } }, "tau of mirostat is 0; expected a number above 0"],
    [{ minP: 1.5 }, "min-p is 1.5; expected a number from 0 to 1"],
    [{ typical: 0 }, "typical is 0; expected a number above 0"],
    [{ tailFree: NaN }, "tail-free is NaN"],
    [{ xtc: { threshold: 2 } }, "threshold of xtc is 2; expected a number from 0 to 1"],
    [{ repetitionPenalty: 0 }, "repetition penalty is 0; expected a number above 0"],
    [{ repetitionWindow: 5 }, "repetitionWindow belongs to repetitionPenalty"],
    [{ repetitionPenalty: 2, repetitionWindow: 0 }, "window of the repetition penalty is 0"],
    [{ presencePenalty: NaN }, "presence is NaN"],
    [{ presencePenalty: 1, penaltyDecay: 0 }, "decay is 0; expected a number above 0 and up to 1"],
    [{ penaltyDecay: 0.9 }, "penaltyDecay belongs to presencePenalty and frequencyPenalty"],
    [{ dry: { base: 0.5 } }, "base of dry is 0.5; expected a number of at least 1"],
    [{ dry: { breakers: [-1] } }, "breakers of dry has the token -1"],
    [{ sequenceRepetition: { minLength: 1 } }, "minLength is 1; expected a whole number of at least 2"],
    [{ logitBias: { 3: Infinity } }, "bias of token 3 is Infinity; expected a number below Infinity"],
    [{ logitBias: { a: 3 } as never }, "bias has the token NaN"],
    [{ banTokens: [0.5] }, "ban has the token 0.5"],
  ])("%j is refused", (options, message) => {
    expect(() => createSampler(options)).toThrow(UsageError);
    expect(() => createSampler(options)).toThrow(message);
  });
});
