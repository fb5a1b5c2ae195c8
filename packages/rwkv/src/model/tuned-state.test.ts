import { describe, expect, test } from "vitest";
import {
  addTimeState,
  checkpointOf,
  syntheticModel,
  syntheticValues,
  type SyntheticVersion,
  type TensorValues,
} from "../../../../test/golden/synthetic.ts";
import { FormatError, UsageError } from "../core/errors.ts";
import type { ModelConfig } from "./config.ts";
import { stateLayout } from "./state.ts";
import { tunedState, tunedStateTensors } from "./tuned-state.ts";
import { canonicalWeights } from "./weights/canonical.ts";
import { STATE_ORIENTATION_KEY } from "./weights/orientation.ts";

function configOf(version: SyntheticVersion): ModelConfig {
  return canonicalWeights(checkpointOf(syntheticModel(version))).config;
}

function states(): Map<string, TensorValues> {
  const model = new Map<string, TensorValues>();
  addTimeState(model);
  return model;
}

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

  test("a file that says its order is taken at its word, and one that says nonsense refused", async () => {
    const saying = (order: string) =>
      checkpointOf(states(), { format: "safetensors", metadata: new Map([[STATE_ORIENTATION_KEY, order]]) });
    expect(element(await tunedState(saying("value-key"), configOf("7")), 2, 5)).toBe(inFile(2, 5));
    expect(element(await tunedState(saying("key-value"), configOf("7")), 2, 5)).toBe(inFile(5, 2));
    await expect(tunedState(saying("upside-down"), configOf("7"))).rejects.toThrow(FormatError);
    await expect(tunedState(saying("upside-down"), configOf("7"))).rejects.toThrow(/"upside-down"; expected/);
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

  test("v4 takes [3, A], aa, bb and pp, and no matrices", async () => {
    const config = configOf("4");
    await expect(tunedState(checkpointOf(states()), config)).rejects.toThrow(
      /\[2, 8, 8\].*this model's state is \[3, 16\]/,
    );
    const vectors = new Map(
      [0, 1].map((i) => [
        `blocks.${i}.att.time_state`,
        { shape: [3, 16], values: Float32Array.from({ length: 48 }, (_, j) => 100 * i + j) },
      ]),
    );
    for (const format of ["pth", "safetensors"] as const) {
      const block = await tunedState(checkpointOf(vectors, { format }), config);
      const { tensors } = stateLayout(config);
      const first = (name: string): number => block[tensors.find((tensor) => tensor.name === name)!.offset]!;
      expect(["aa", "bb", "pp", "ffnShift"].map((part) => first(`blocks.1.${part}`))).toEqual([
        100, 116, 132, 0,
      ]);
    }
  });
});

describe("tunedStateTensors", () => {
  test.each(["4", "5.0", "5.2", "6", "7"] as const)(
    "RWKV %s: read again they are the same state, in both orders",
    async (version) => {
      const config = configOf(version);
      const { tensors: parts, nElements } = stateLayout(config);
      const block = new Float32Array(nElements);
      for (const { name, offset, shape } of parts) {
        if (name.endsWith("Shift")) continue;
        const end = offset + shape.reduce((product, dimension) => product * dimension, 1);
        for (let i = offset; i < end; i++) block[i] = i;
      }
      for (const orientation of ["value-key", "key-value"] as const) {
        const tensors = tunedStateTensors(config, block, "f32", orientation);
        expect(tensors.map(({ name, shape }) => [name, shape])).toEqual(
          [0, 1].map((i) => [`blocks.${i}.att.time_state`, version === "4" ? [3, 16] : [2, 8, 8]]),
        );
        const again = {
          ...checkpointOf(new Map()),
          tensors: new Map(tensors.map((tensor) => [tensor.name, tensor])),
        };
        expect(await tunedState(again, config, { orientation })).toEqual(block);
      }
    },
  );

  test("what is no tuned state of the model is refused", () => {
    const config = configOf("7");
    const { nElements } = stateLayout(config);
    const of =
      (state: Float32Array, dtype: "f32" | "f16" = "f32") =>
      () =>
        tunedStateTensors(config, state, dtype, "value-key");
    expect(of(new Float32Array(nElements - 1))).toThrow(UsageError);
    expect(of(new Float32Array(nElements - 1))).toThrow(/has 319 numbers, but one of this model has 320/);
    const shifted = new Float32Array(nElements);
    shifted[160] = 1;
    expect(of(shifted)).toThrow(UsageError);
    expect(of(shifted)).toThrow(/"blocks.1.attShift" is not zero.*Save the session/);
    const large = new Float32Array(nElements);
    large[20] = 1e6;
    expect(of(large)).not.toThrow();
    expect(of(large, "f16")).toThrow(/"blocks.0.att.time_state" holds 1000000, which f16 cannot/);
    large[20] = NaN;
    expect(of(large)).toThrow(UsageError);
    expect(of(large)).toThrow(/holds NaN at element 20/);
  });
});
