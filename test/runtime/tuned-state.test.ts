// Tuned states through the library: written as files, read back by `restore`, the same bits as from memory.

import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { MemorySink } from "../../packages/rwkv/src/formats/safetensors/testing.ts";
import { loadModel, writeTunedState, type Model } from "../../packages/rwkv/src/node.ts";
import { tinyModel } from "../support/tiny-model.ts";

const TOKENS = [34, 105, 110, 7];

let model: Model;
beforeAll(async () => {
  model = await loadModel(tinyModel(), { threads: 1 });
});
afterAll(() => model.dispose());

/** Some numbers in every wkv, zeros in the shifts. */
function someState(): Float32Array {
  const state = new Float32Array(model.info.stateByteLength / 4);
  for (const { name, offset, shape } of model.stateLayout) {
    if (!name.endsWith(".wkv")) continue;
    const end = offset + shape.reduce((product, dimension) => product * dimension, 1);
    for (let i = offset; i < end; i++) state[i] = Math.sin(i);
  }
  return state;
}

describe.each(["pth", "safetensors"] as const)("a state written as %s", (format) => {
  test("is what a session starts from, and returns to", async () => {
    const state = someState();
    const sink = new MemorySink();
    await writeTunedState(sink, model.config, state, { format });
    const fromFile = await model.restore(sink.bytes());
    const fromMemory = await model.createSession({ initialState: state });
    const want = await fromMemory.forward(TOKENS);
    expect(await fromFile.forward(TOKENS)).toEqual(want);
    expect(await (await model.createSession()).forward(TOKENS)).not.toEqual(want);
    await fromFile.reset();
    expect(await fromFile.forward(TOKENS)).toEqual(want);
  });

  test("is read in the order that the caller says, whatever the file says", async () => {
    const state = someState();
    const sink = new MemorySink();
    await writeTunedState(sink, model.config, state, { format });
    const orientation = format === "pth" ? "key-value" : "value-key";
    const session = await model.restore(sink.bytes(), { orientation });
    const { offset, shape } = model.stateLayout.find(({ name }) => name === "blocks.0.wkv")!;
    const headSize = shape[2]!;
    expect((await session.readState())[offset + 3 * headSize + 5]).toBe(state[offset + 5 * headSize + 3]);
  });
});
