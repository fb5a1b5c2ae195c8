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
import type { SamplerSteps } from "./step.ts";
import { someLogits } from "./testing.ts";

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
