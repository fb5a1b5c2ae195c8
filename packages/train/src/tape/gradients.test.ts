// Whole models of every version: the gradient of each parameter against central differences, in f64.

import { describe, expect, test } from "vitest";
import { countElements, stateLayout } from "rwkv/model";
import { referenceKernels } from "../kernels/reference/reference.ts";
import type { TrainedParts } from "../parameters/parameters.ts";
import { writeUsed } from "../parameters/used.ts";
import {
  centralDifferences,
  relativeError,
  someTokens,
  tinyConfig,
  tinyTraining,
  VERSIONS,
  type TinyTraining,
} from "../testing.ts";
import { viewsOf, type Sequence } from "../threads/share.ts";

/** Runs of 19 rows (two chunks), 1 and 5. */
function threeSequences(nVocab: number): Sequence[] {
  return [19, 1, 5].map((nTokens, slot) => ({
    slot,
    isStart: true,
    isEnd: true,
    tokens: someTokens(nTokens, nVocab, slot),
    targets: someTokens(nTokens, nVocab, 10 + slot).map((id, i) => (i % 5 === 3 ? -1 : id)),
  }));
}

/** The relative error of every trained parameter's gradient. */
function errorsOf({ plan, blocks, share }: TinyTraining): { name: string; error: number }[] {
  const sequences = threeSequences(plan.setup.config.nVocab);
  const weight = 1 / 7;
  share.accumulate(sequences, weight);
  share.reduce();
  const trained = plan.table.parameters.filter(({ isTrained }) => isTrained);
  return trained.map((parameter) => {
    const { gradientOffset, nElements, name, usedOffset } = parameter;
    const start = gradientOffset!;
    const gradient = blocks.threads[0]!.gradients.subarray(start, start + nElements);
    const { stored, used } = viewsOf(parameter, blocks);
    const numeric = centralDifferences(stored, () => {
      if (usedOffset !== null) writeUsed(parameter, stored, used);
      return weight * share.evaluate(sequences);
    });
    if (usedOffset !== null) writeUsed(parameter, stored, used);
    return { name, error: relativeError(gradient, numeric) };
  });
}

describe.each(VERSIONS)("RWKV %s", (version) => {
  const isBelow = (error: number): boolean => error < 1e-5;

  test("every parameter's gradient is that of central differences to 1e-5", () => {
    const errors = errorsOf(tinyTraining(tinyConfig(version), referenceKernels("f64")));
    expect(errors.length).toBeGreaterThan(20);
    expect(errors.filter(({ error }) => !isBelow(error))).toEqual([]);
  });

  // adapters stand beside matrices, which are alike in versions 5 and 6
  const hasOwnMatrices = ["4", "5.2", "7"].includes(version);
  test.skipIf(!hasOwnMatrices)("so is that of adapters and of vectors beside them", () => {
    const parts: TrainedParts = { kind: "lora", rank: 2, alpha: 3, withVectors: version !== "7" };
    const errors = errorsOf(tinyTraining(tinyConfig(version), referenceKernels("f64"), parts));
    expect(errors.some(({ name }) => name.endsWith("att.key.lora_A"))).toBe(true);
    expect(errors.filter(({ error }) => !isBelow(error))).toEqual([]);
  });

  test.skipIf(version === "4")("so is that of an initial state", () => {
    const errors = errorsOf(tinyTraining(tinyConfig(version), referenceKernels("f64"), { kind: "state" }));
    expect(errors.map(({ name }) => name)).toEqual(["blocks.0.att.time_state", "blocks.1.att.time_state"]);
    expect(errors.filter(({ error }) => !isBelow(error))).toEqual([]);
  });
});

test("a sequence in two pieces has the losses of the whole", () => {
  for (const version of VERSIONS) {
    const config = tinyConfig(version);
    const { share } = tinyTraining(config, referenceKernels("f64"));
    const tokens = someTokens(30, config.nVocab, 1);
    const targets = someTokens(30, config.nVocab, 2);
    const piece = (from: number, to: number): Sequence => ({
      slot: 5,
      isStart: from === 0,
      isEnd: to === 30,
      tokens: tokens.slice(from, to),
      targets: targets.slice(from, to),
    });
    const whole = share.accumulate([piece(0, 30)], 1);
    expect(share.readStates().size).toBe(0);
    const first = share.accumulate([piece(0, 17)], 1);
    expect(share.readStates().get(5)!.length).toBe(
      stateLayout(config).tensors.reduce((sum, { shape }) => sum + countElements(shape), 0),
    );
    const both = first + share.accumulate([piece(17, 30)], 1);
    expect(Math.abs(both - whole) / whole).toBeLessThan(1e-14);
  }
});
