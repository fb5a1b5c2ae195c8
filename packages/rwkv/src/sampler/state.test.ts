import { describe, expect, test } from "vitest";
import { UsageError } from "../core/errors.ts";
import {
  dry,
  force,
  mirostat,
  mirostat1,
  penalties,
  repetition,
  sequenceRepetition,
  temperature,
} from "./all-steps.ts";
import { createChain } from "./chain.ts";
import type { SamplerSteps } from "./step.ts";
import { someLogits } from "./testing.ts";

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
