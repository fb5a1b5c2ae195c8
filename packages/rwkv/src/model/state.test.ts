import { describe, expect, test } from "vitest";
import {
  addTimeState,
  checkpointOf,
  syntheticModel,
  syntheticValues,
  type SyntheticVersion,
  type TensorValues,
} from "../../../../test/golden/synthetic.ts";
import { FormatError, UnsupportedError } from "../core/errors.ts";
import type { ModelConfig } from "./config.ts";
import { stateLayout, tunedState } from "./state.ts";
import { canonicalWeights } from "./weights/canonical.ts";

function configOf(version: SyntheticVersion): ModelConfig {
  return canonicalWeights(checkpointOf(syntheticModel(version))).config;
}

function states(): Map<string, TensorValues> {
  const model = new Map<string, TensorValues>();
  addTimeState(model);
  return model;
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

describe("tunedState", () => {
  const element = (block: Float32Array, row: number, column: number): number =>
    block[176 + 64 + row * 8 + column]!;
  const stored = syntheticValues("blocks.1.att.time_state", 128);
  const inFile = (row: number, column: number): number => stored[64 + row * 8 + column]!;

  test("a .pth holds [value, key] whatever the version", async () => {
    const block7 = await tunedState(checkpointOf(states()), configOf("7"));
    expect(element(block7, 2, 5)).toBe(inFile(2, 5));
    const block6 = await tunedState(checkpointOf(states()), configOf("6"));
    expect(element(block6, 2, 5)).toBe(inFile(5, 2));
    expect(block6.subarray(0, 16)).toEqual(new Float32Array(16));
  });

  test("safetensors are taken for web-rwkv's [key, value], unless told otherwise", async () => {
    const checkpoint = checkpointOf(states(), { format: "safetensors" });
    expect(element(await tunedState(checkpoint, configOf("7")), 2, 5)).toBe(inFile(5, 2));
    expect(element(await tunedState(checkpoint, configOf("5.2")), 2, 5)).toBe(inFile(2, 5));
    const told = await tunedState(checkpoint, configOf("7"), { orientation: "value-key" });
    expect(element(told, 2, 5)).toBe(inFile(2, 5));
  });

  test("wrappers' prefixes are stripped, and weights beside the states are not looked at", async () => {
    const wrapped = new Map([...states()].map(([name, tensor]) => [`module.${name}`, tensor]));
    const block = await tunedState(checkpointOf(wrapped), configOf("7"));
    const merged = syntheticModel("7");
    addTimeState(merged);
    expect(await tunedState(checkpointOf(merged), configOf("7"))).toEqual(block);
  });

  test("a state of another model is refused", async () => {
    const config = configOf("7");
    const short = states();
    short.delete("blocks.1.att.time_state");
    await expect(tunedState(checkpointOf(short), config)).rejects.toThrow(FormatError);
    await expect(tunedState(checkpointOf(short), config)).rejects.toThrow(
      /"blocks.1.att.time_state" is missing/,
    );
    const long = states();
    long.set("blocks.2.att.time_state", long.get("blocks.1.att.time_state")!);
    await expect(tunedState(checkpointOf(long), config)).rejects.toThrow(/more than the 2 layers/);
    const wide = states();
    wide.set("blocks.1.att.time_state", { shape: [1, 16, 8], values: new Float32Array(128) });
    await expect(tunedState(checkpointOf(wide), config)).rejects.toThrow(
      /\[1, 16, 8\].*this model's state is \[2, 8, 8\]/,
    );
  });

  test("v4 has none", async () => {
    await expect(tunedState(checkpointOf(states()), configOf("4"))).rejects.toThrow(UnsupportedError);
  });
});
