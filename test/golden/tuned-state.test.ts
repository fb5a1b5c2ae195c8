// A tuned state written here is the one that was read: byte for byte as PyTorch wrote it, and with the reference's logits.

import { expect, test } from "vitest";
import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import { bytesSource } from "../../packages/rwkv/src/core/byte-source.ts";
import { openCheckpoint } from "../../packages/rwkv/src/formats/open.ts";
import { MemorySink, readTensor } from "../../packages/rwkv/src/formats/safetensors/testing.ts";
import { loadProgram } from "../../packages/rwkv/src/model/load.ts";
import { tunedState } from "../../packages/rwkv/src/model/tuned-state.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import { writeTunedState, type WriteTunedStateOptions } from "../../packages/rwkv/src/runtime/tuned-state.ts";
import { hasFixture, openFixture, readF32, readJson } from "./fixtures.ts";
import { expectClose, runTokens } from "./run-model.ts";

const FOLDER = "golden/v7-time-state";
const isThere = hasFixture(FOLDER);

async function readFixture() {
  const model = canonicalWeights(await openCheckpoint(openFixture(`${FOLDER}/model.pth`)));
  const file = await openCheckpoint(openFixture(`${FOLDER}/time_state.pth`));
  return { model, file, state: await tunedState(file, model.config) };
}

test.skipIf(!isThere)(
  "as .pth in bf16 it has the names, shapes and bytes of the file it came from",
  async () => {
    const { model, file, state } = await readFixture();
    const sink = new MemorySink();
    await writeTunedState(sink, model.config, state, { format: "pth", dtype: "bf16" });
    const again = await openCheckpoint(bytesSource(sink.bytes(), "again.pth"));
    expect([...again.tensors.keys()]).toEqual([...file.tensors.keys()]);
    for (const [name, tensor] of file.tensors) {
      expect(again.tensors.get(name)).toMatchObject({ dtype: tensor.dtype, shape: tensor.shape });
      expect(await readTensor(again.tensors.get(name))).toEqual(await readTensor(tensor));
    }
  },
);

test
  .skipIf(!isThere)
  .each<WriteTunedStateOptions>([
    { format: "pth" },
    { format: "safetensors" },
    { format: "safetensors", dtype: "bf16" },
  ])("written with %o it gives the reference's logits", async (options) => {
  const { model, state } = await readFixture();
  const sink = new MemorySink();
  await writeTunedState(sink, model.config, state, options);
  const again = await openCheckpoint(bytesSource(sink.bytes(), "again"));
  const restored = await tunedState(again, model.config);
  expect(restored).toEqual(state);
  const loaded = await loadProgram(createReferenceBackend(), model, { maxRows: 32 });
  const { logits } = await runTokens(loaded, readJson(`${FOLDER}/tokens.json`) as number[], 32, restored);
  const { tolerance } = readJson(`${FOLDER}/manifest.json`) as { tolerance: { logits_f32_max_abs: number } };
  expectClose("logits", logits, readF32(`${FOLDER}/logits.f32`), tolerance.logits_f32_max_abs);
});

test.skipIf(!isThere)("safetensors hold [key, value], and say so", async () => {
  const { model, file, state } = await readFixture();
  const sink = new MemorySink();
  await writeTunedState(sink, model.config, state, { format: "safetensors", dtype: "bf16" });
  const again = await openCheckpoint(bytesSource(sink.bytes(), "again"));
  expect(again.metadata.get("rwkv.stateOrientation")).toBe("key-value");
  const name = "blocks.1.att.time_state";
  const [swapped, straight] = [
    await readTensor(again.tensors.get(name)),
    await readTensor(file.tensors.get(name)),
  ];
  const { headSize } = model.config;
  const element = (bytes: Uint8Array, row: number, column: number): string =>
    String(bytes.subarray(2 * (row * headSize! + column), 2 * (row * headSize! + column) + 2));
  expect(element(swapped, 3, 7)).toBe(element(straight, 7, 3));
  expect(element(swapped, 3, 7)).not.toBe(element(straight, 3, 7));
});
