import { describe, expect, test } from "vitest";
import { checkpointOf, syntheticModel, type SyntheticVersion } from "../../../../test/golden/synthetic.ts";
import { FormatError } from "../core/errors.ts";
import { detectConfig, detectVersion, type ModelConfig } from "./config.ts";
import { canonicalWeights } from "./weights/canonical.ts";
import { viewOf, type TensorView } from "./weights/view.ts";

function configOf(version: SyntheticVersion): ModelConfig {
  return canonicalWeights(checkpointOf(syntheticModel(version))).config;
}

describe("detection from names and shapes alone", () => {
  test.each(["4", "5.0", "5.1", "5.2", "6", "7"] as const)(
    "RWKV %s is recognised, with its sizes",
    (version) => {
      const config = configOf(version);
      const noRanks = { tokenShift: 0, decay: 0, rate: 0, value: 0, gate: 0 };
      const ranks = {
        "6": { ...noRanks, tokenShift: 4, decay: 6 },
        "7": { tokenShift: 0, decay: 4, rate: 5, value: 3, gate: 6 },
      };
      expect(config).toEqual({
        version,
        nLayer: 2,
        nEmbd: 16,
        nAtt: 16,
        nFfn: 32,
        nVocab: 12,
        heads: version === "4" ? null : 2,
        headSize: version === "4" ? null : 8,
        ranks: version === "6" || version === "7" ? ranks[version] : noRanks,
        positions: 0,
        hasLn0: true,
      });
    },
  );

  test("the value rank comes from layer 1, since layer 0 may hold a dummy of another rank", () => {
    const model = syntheticModel("7");
    model.set("blocks.0.att.v1", { shape: [16, 5], values: new Float32Array(80) });
    expect(canonicalWeights(checkpointOf(model)).config.ranks.value).toBe(3);
  });

  test("a version 7 model of one layer has no value rank", () => {
    const model = syntheticModel("7");
    for (const name of [...model.keys()]) if (name.startsWith("blocks.1.")) model.delete(name);
    const { config } = canonicalWeights(checkpointOf(model));
    expect(config.nLayer).toBe(1);
    expect(config.ranks.value).toBe(0);
  });

  test("a position table is counted without its last row, which training leaves out", () => {
    const model = syntheticModel("4");
    model.set("blocks.0.pos_emb_x", { shape: [1, 3, 16], values: new Float32Array(48) });
    model.set("blocks.0.pos_emb_y", { shape: [3, 1, 16], values: new Float32Array(48) });
    expect(canonicalWeights(checkpointOf(model)).config.positions).toBe(8);
  });
});

describe("what no model can be", () => {
  const views = (model = syntheticModel("7")): Map<string, TensorView> => {
    const { tensors } = checkpointOf(model);
    return new Map([...tensors].map(([name, tensor]) => [name, viewOf(tensor)]));
  };

  test("names of no version are refused", () => {
    expect(() => detectVersion("x.bin", new Map())).toThrow(FormatError);
    expect(() => detectVersion("x.bin", new Map())).toThrow(/x\.bin: none of the 0 tensors/);
  });

  test("a gap in the layers is refused with its number", () => {
    const model = syntheticModel("7");
    for (const name of [...model.keys()]) {
      if (!name.startsWith("blocks.1.")) continue;
      model.set(name.replace("blocks.1.", "blocks.900000000."), model.get(name)!);
      model.delete(name);
    }
    expect(() => detectConfig("m", views(model))).toThrow(/up to number 900000000, but none of layer 1/);
  });

  test("heads that do not divide the width are refused", () => {
    const tensors = views();
    tensors.set("blocks.0.att.r_k", { ...tensors.get("blocks.0.att.r_k")!, shape: [3, 8] });
    expect(() => detectConfig("m", tensors)).toThrow(/3 heads do not divide the attention width 16/);
  });

  test("a head size beyond any use is refused before a state of its square is made", () => {
    const tensors = views();
    const key = { ...tensors.get("blocks.0.att.key.weight")!, shape: [2 ** 20, 16] };
    tensors.set("blocks.0.att.key.weight", key);
    expect(() => detectConfig("m", tensors)).toThrow(/head size of 524288/);
  });

  test("a matrix that is none, and a missing one, are named", () => {
    const tensors = views();
    tensors.set("emb.weight", { ...tensors.get("emb.weight")!, shape: [192] });
    expect(() => detectConfig("m", tensors)).toThrow(
      /"emb.weight" should be a matrix, but its shape is \[192\]/,
    );
    tensors.delete("emb.weight");
    expect(() => detectConfig("m", tensors)).toThrow(/"emb.weight" is missing/);
  });

  test("a head tensor without rows is refused", () => {
    const tensors = views();
    tensors.set("blocks.0.att.r_k", { ...tensors.get("blocks.0.att.r_k")!, shape: [] });
    expect(() => detectConfig("m", tensors)).toThrow(/should have one row per head/);
  });
});
