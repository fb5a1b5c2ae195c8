// Loading and long steps on a GPU: kernels are compiled once and counted, an abort is seen inside a step, and any number of loads
// leaves nothing behind.

import { describe, expect, test } from "vitest";
import { restrict, type Restrictions } from "../../packages/rwkv/src/backends/webgpu/restrictions.ts";
import { createWebgpuBackend } from "../../packages/rwkv/src/backends/webgpu/webgpu.ts";
import { nodePlatform } from "../../packages/rwkv/src/platform/node/platform.ts";
import { createApi } from "../../packages/rwkv/src/runtime/api.ts";
import type { LoadProgress } from "../../packages/rwkv/src/runtime/progress.ts";
import { tinyModel } from "../support/tiny-model.ts";
import { WEBGPU, WEBGPU_API } from "../support/webgpu.ts";

const MODEL = tinyModel({ layers: 2 });
const PROMPT = Array.from({ length: 40 }, (_, i) => (7 * i) % 256);
const LONG = process.env["RWKV_TEST_LONG"] === "1";

function gpuWith(restrictions: Restrictions) {
  const gpu = restrict(WEBGPU_API!, restrictions);
  return { gpu, api: createApi({ ...nodePlatform, loadWebgpu: () => Promise.resolve(gpu) }) };
}

describe.skipIf(WEBGPU.length === 0)("webgpu loading", { timeout: LONG ? 3_600_000 : 300_000 }, () => {
  test("a step cut into many submissions gives the same bits, and an abort stops it between two", async () => {
    const whole = await gpuWith({}).api.loadModel(MODEL, { device: "webgpu" });
    const want = await (await whole.createSession()).forward(PROMPT);
    whole.dispose();

    const model = await gpuWith({ submittedWork: 1 }).api.loadModel(MODEL, { device: "webgpu" });
    const session = await model.createSession();
    const reason = new Error("enough");
    const aborting = new AbortController();
    let nStepsDone = 0;
    const onProgress = (): void => {
      nStepsDone += 1;
    };
    const reading = session.append(PROMPT, { signal: aborting.signal, onProgress });
    setTimeout(() => aborting.abort(reason), 1);
    await expect(reading).rejects.toBe(reason);
    expect(nStepsDone).toBe(0);
    expect(session.nTokens).toBe(0);
    expect(await session.forward(PROMPT)).toEqual(want);
    model.dispose();
  });

  test("kernels are compiled once, and each of them is told", async () => {
    const { api } = gpuWith({});
    const events: LoadProgress[] = [];
    const onProgress = (progress: LoadProgress): void => {
      events.push(progress);
    };
    (await api.loadModel(MODEL, { device: "webgpu", onProgress })).dispose();
    const compiled = events.filter(({ phase }) => phase === "compile").map(({ kernels }) => kernels!);
    const { total } = compiled[0]!;
    expect(total).toBeGreaterThan(5);
    expect(compiled).toEqual(Array.from({ length: total }, (_, i) => ({ done: i + 1, total })));
    expect(events.at(-1)!.bytesDone).toBe(events.at(-1)!.bytesTotal);

    events.length = 0;
    (await api.loadModel(MODEL, { device: "webgpu", onProgress })).dispose();
    expect(events.every(({ phase }) => phase === "load")).toBe(true);
  });

  const nCycles = LONG ? 1000 : 15;
  test(`${nCycles} times loaded, used and disposed leaves no buffer behind and no memory`, async () => {
    const { gpu, api } = gpuWith({});
    const cycle = async (): Promise<void> => {
      const model = await api.loadModel(MODEL, { device: "webgpu" });
      const session = await model.createSession();
      await session.forward([1, 2, 3]);
      model.dispose();
    };
    const rss = (): number => Math.round(process.memoryUsage.rss() / 2 ** 20);
    // The heap finds its size first.
    const nFirst = LONG ? 200 : 5;
    for (let i = 0; i < nFirst; i++) await cycle();
    const before = rss();
    for (let i = nFirst; i < nCycles; i++) await cycle();
    const after = rss();
    console.log(`${nCycles} cycles: ${before} MiB resident after ${nFirst}, ${after} MiB at the end`);
    expect((await createWebgpuBackend(gpu)).countBuffers()).toEqual({ nBuffers: 0, byteLength: 0 });
    // A quarter of what it would be if the bytes of each model were kept; a few cycles are lost in the noise of the heap.
    if (LONG) expect(after - before).toBeLessThan((0.25 * (nCycles - nFirst) * MODEL.byteLength) / 2 ** 20);
  });
});
