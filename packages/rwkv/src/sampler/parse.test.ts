import { describe, expect, test } from "vitest";
import { UsageError } from "../core/errors.ts";
import * as steps from "./all-steps.ts";
import { createChain } from "./chain.ts";
import { createSampler } from "./options.ts";
import { parseChain, STEP_NAMES } from "./parse.ts";
import type { SamplerStep } from "./step.ts";
import { someLogits } from "./testing.ts";

const LOGITS = someLogits(60, 9);

/** Draws that tell chains apart; none of the steps here leaves too little to see. */
function drawsOf(chain: readonly SamplerStep[]): number[] {
  const sampler = createChain(chain, 7);
  sampler.begin([1, 2, 3, 4, 5, 6, 1, 2, 3, 4]);
  return Array.from({ length: 60 }, () => sampler.sample(LOGITS));
}

test.each<[string, SamplerStep[]]>([
  ["", []],
  ["greedy", [steps.greedy()]],
  ["greedy()", [steps.greedy()]],
  ["top-p(0.4)|temperature(0.8)", [steps.topP(0.4), steps.temperature(0.8)]],
  [" top-k( k = 3 ) |  min-p(p=0.01)", [steps.topK(3), steps.minP(0.01)]],
  ["typical(0.5) | tail-free(z=0.9)", [steps.typical(0.5), steps.tailFree(0.9)]],
  ["xtc | temperature(2)", [steps.xtc(), steps.temperature(2)]],
  ["xtc(0.02, probability=0.9)", [steps.xtc(0.02, 0.9)]],
  ["mirostat", [steps.mirostat()]],
  ["mirostat(tau=2)", [steps.mirostat(2)]],
  ["mirostat-1(2, eta=0.5)", [steps.mirostat1(2, 0.5)]],
  [
    "penalties(presence=0.4, frequency=1, decay=0.9)",
    [steps.penalties({ presence: 0.4, frequency: 1, decay: 0.9 })],
  ],
  ["penalties(2)", [steps.penalties({ presence: 2 })]],
  ["repetition(3, window=8)", [steps.repetition(3, 8)]],
  [
    "sequence-repetition(4, stacking=1, minLength=2, tolerance=1, maxMerge=2)",
    [steps.sequenceRepetition({ flat: 4, stacking: 1, minLength: 2, tolerance: 1, maxMerge: 2 })],
  ],
  [
    "dry(multiplier=3, allowedLength=1, breakers=[2, 9])",
    [steps.dry({ multiplier: 3, allowedLength: 1, breakers: [2, 9] })],
  ],
  ["ban([50, 51,52])", [steps.ban([50, 51, 52])]],
  ["ban(50)", [steps.ban([50])]],
  ["force([9, 8, 9])", [steps.force([9, 8, 9])]],
  ["force([])", []],
  ["bias(50=-3, 2=1e1)", [steps.bias({ 50: -3, 2: 10 })]],
  ["bias(50=-Infinity)", [steps.ban([50])]],
])("%s", (text, want) => {
  expect(drawsOf(parseChain(text))).toEqual(drawsOf(want));
});

test("every step that there is has a name in the text, and is named", () => {
  expect(STEP_NAMES).toHaveLength(Object.keys(steps).length);
});

describe("what is no chain is refused, saying where", () => {
  test.each([
    ["top-p(0.4) | ", '"" is no step of a sampler'],
    ["top p(0.4)", '"top p(0.4)" is no step'],
    ["top-p(0.4", '"top-p(0.4" is no step'],
    ["top_p(0.4)", 'There is no step "top_p"; the steps are greedy, temperature, top-k'],
    ["toString", 'There is no step "toString"'],
    ["top-p", "top-p needs the argument p"],
    ["top-p(0.4, 0.5)", "top-p has no argument 2; it takes p"],
    ["top-p(q=0.4)", "top-p has no argument q; it takes p"],
    ["top-p(0.4, p=0.5)", "top-p has the argument p twice"],
    ["greedy(1)", "greedy has no argument 1; it takes none"],
    ["top-p(high)", '"high" is no argument of top-p'],
    ["top-p(0.4,)", '"0.4," is no argument of top-p'],
    ["top-p(NaN)", '"NaN" is no argument of top-p'],
    ["top-p([0.4])", "The argument p of top-p should be a number, not a list"],
    ["ban([1, 2)", '"[1" is no argument of ban'],
    ["ban([1,,2])", '"" is no argument of ban'],
    ["bias(5)", "The arguments of bias are ids with their bias"],
    ["bias(5=[1])", "The arguments of bias are ids with their bias"],
    ["top-p(-1)", "top-p is -1; expected a number of at least 0"],
    ["temperature(0)", "temperature is 0; expected a number above 0. The step greedy"],
    ["ban(1.5)", "ban has the token 1.5"],
  ])("%s", (text, message) => {
    expect(() => parseChain(text)).toThrow(UsageError);
    expect(() => parseChain(text)).toThrow(message);
  });
});

test("a text works as a whole sampler, in place of all options but the seed", () => {
  const sampler = createSampler({ sampler: "top-p(0.4) | temperature(0.8)", seed: 7 });
  const want = createSampler({ topP: 0.4, temperature: 0.8, seed: 7 });
  for (let i = 0; i < 50; i++) expect(sampler.sample(LOGITS)).toBe(want.sample(LOGITS));
  expect(() => createSampler({ sampler: "greedy", topP: 0.4 })).toThrow(
    "sampler is a whole chain, so that topP has no place",
  );
});
