// Adapters through the library: what `writeAdapter` wrote, `loadModel` merges, on every backend and into packed files too.

import { describe, expect, test } from "vitest";
import { MemorySink } from "../../packages/rwkv/src/formats/safetensors/testing.ts";
import {
  loadModel,
  quantize,
  UsageError,
  writeAdapter,
  type LoadOptions,
  type LoraFactors,
} from "../../packages/rwkv/src/node.ts";
import { tinyModel } from "../support/tiny-model.ts";

const TOKENS = [34, 105, 110, 7];
const ALPHA = 8;
const RANK = 4;

function wave(length: number, phase: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => 0.2 * Math.sin(i + phase));
}

/** Changes of matrices of the tiny model, [out, in]. */
const PAIRS: LoraFactors[] = (
  [
    ["blocks.0.att.receptance", 64, 64],
    ["blocks.1.ffn.value", 64, 96],
    ["emb", 256, 64],
  ] as const
).map(([name, nOut, nIn], i) => ({ name, rank: RANK, a: wave(RANK * nIn, i), b: wave(nOut * RANK, i + 5) }));

async function adapter(format: "pth" | "safetensors"): Promise<Uint8Array> {
  const sink = new MemorySink();
  await writeAdapter(sink, { alpha: ALPHA, pairs: PAIRS }, { format });
  return sink.bytes();
}

/** The tiny model with the adapter in its weights. */
function changedModel(): Uint8Array {
  return tinyModel({
    edit(tensors) {
      for (const { name, a, b } of PAIRS) {
        const { shape, values } = tensors.get(`${name}.weight`)!;
        const nIn = shape[1]!;
        for (let e = 0; e < values.length; e++) {
          let delta = 0;
          for (let k = 0; k < RANK; k++)
            delta += b[Math.floor(e / nIn) * RANK + k]! * a[k * nIn + (e % nIn)]!;
          values[e] = values[e]! + (ALPHA / RANK) * delta;
        }
      }
    },
  });
}

async function logitsOf(file: Uint8Array, options: LoadOptions = {}): Promise<Float32Array> {
  await using model = await loadModel(file, { threads: 1, ...options });
  return await (await model.createSession()).forward(TOKENS);
}

describe.each(["cpu", "reference"] as const)("on %s", (backend) => {
  test("a merged model computes the bits of the changed one", async () => {
    const want = await logitsOf(changedModel(), { backend });
    const file = await adapter("pth");
    expect(await logitsOf(tinyModel(), { backend, lora: { file, alpha: ALPHA } })).toEqual(want);
    expect(await logitsOf(tinyModel(), { backend })).not.toEqual(want);
  });
});

test("the sum is what an asked-for type rounds", async () => {
  const want = await logitsOf(changedModel(), { dtype: "q8" });
  const file = await adapter("pth");
  expect(await logitsOf(tinyModel(), { dtype: "q8", lora: { file, alpha: ALPHA } })).toEqual(want);
});

test("a packed file takes an adapter like any other", async () => {
  const sink = new MemorySink();
  await quantize(tinyModel(), sink);
  const lora = { file: await adapter("safetensors") };
  expect(await logitsOf(sink.bytes(), { lora })).toEqual(await logitsOf(changedModel()));
});

test("alpha comes from a file that says it, else from the caller, who wins; without either it is asked for", async () => {
  const [pth, safetensors] = [await adapter("pth"), await adapter("safetensors")];
  const want = await logitsOf(changedModel());
  expect(await logitsOf(tinyModel(), { lora: { file: safetensors } })).toEqual(want);
  expect(await logitsOf(tinyModel(), { lora: { file: safetensors, alpha: 1 } })).not.toEqual(want);
  const withoutAlpha = logitsOf(tinyModel(), { lora: { file: pth } });
  await expect(withoutAlpha).rejects.toThrow(UsageError);
  await expect(withoutAlpha).rejects.toThrow(/does not say its alpha.*--lora-alpha/s);
  await expect(logitsOf(tinyModel(), { lora: { file: pth, alpha: Infinity } })).rejects.toThrow(
    /lora.alpha is Infinity/,
  );
});

test("a merged model has a fingerprint of its own, and takes no states of its base", async () => {
  const lora = { file: await adapter("pth"), alpha: ALPHA };
  await using base = await loadModel(tinyModel(), { threads: 1 });
  await using merged = await loadModel(tinyModel(), { threads: 1, lora });
  await using again = await loadModel(tinyModel(), {
    threads: 1,
    lora: { file: await adapter("safetensors") },
  });
  expect(merged.info.fingerprint).not.toBe(base.info.fingerprint);
  expect(again.info.fingerprint).toBe(merged.info.fingerprint);
  const session = await base.createSession();
  await session.append([1, 2, 3]);
  await expect(merged.restore(await session.save())).rejects.toThrow(
    /A state continues only on its own model/,
  );
});
