import { describe, expect, test } from "vitest";
import { checkpointOf, syntheticModel, type SyntheticVersion } from "../../../../test/golden/synthetic.ts";
import type { ModelConfig } from "./config.ts";
import { stateLayout } from "./state.ts";
import { canonicalWeights } from "./weights/canonical.ts";

function configOf(version: SyntheticVersion): ModelConfig {
  return canonicalWeights(checkpointOf(syntheticModel(version))).config;
}

describe("stateLayout", () => {
  test("v4 has shift, aa, bb, pp, shift per layer, and an exponent of nothing", () => {
    const { tensors, nElements } = stateLayout(configOf("4"));
    expect(nElements).toBe(2 * 5 * 16);
    expect(tensors.slice(0, 5).map(({ name }) => name)).toEqual(
      ["attShift", "aa", "bb", "pp", "ffnShift"].map((part) => `blocks.0.${part}`),
    );
    expect(tensors[3]).toEqual({ name: "blocks.0.pp", shape: [16], offset: 48, initial: -1e30 });
    expect(tensors[5]).toEqual({ name: "blocks.1.attShift", shape: [16], offset: 80, initial: 0 });
  });

  test.each(["5.0", "6", "7"] as const)("%s has shift, wkv, shift per layer", (version) => {
    const { tensors, nElements } = stateLayout(configOf(version));
    expect(nElements).toBe(2 * (16 + 2 * 8 * 8 + 16));
    expect(tensors.map(({ offset }) => offset)).toEqual([0, 16, 144, 160, 176, 304]);
    expect(tensors[4]).toEqual({ name: "blocks.1.wkv", shape: [2, 8, 8], offset: 176, initial: 0 });
  });
});
