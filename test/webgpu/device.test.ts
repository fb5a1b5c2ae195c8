// A device that fails: lost in mid-answer and brought back, out of memory, with lower limits, with a driver that computes wrongly.

import { beforeAll, describe, expect, test } from "vitest";
import { restrict, type Restrictions } from "../../packages/rwkv/src/backends/webgpu/restrictions.ts";
import { createWebgpuBackend } from "../../packages/rwkv/src/backends/webgpu/webgpu.ts";
import { DeviceError } from "../../packages/rwkv/src/core/errors.ts";
import { nodePlatform } from "../../packages/rwkv/src/platform/node/platform.ts";
import { createApi, type Api } from "../../packages/rwkv/src/runtime/api.ts";
import { tinyModel } from "../support/tiny-model.ts";
import { WEBGPU, WEBGPU_API } from "../support/webgpu.ts";

const MODEL = tinyModel({ layers: 2 });
const GREEDY = { temperature: 0, maxTokens: 12 } as const;

/** The library on a GPU with less than it has, which is taken for a real one. */
function apiOn(restrictions: Restrictions): { readonly api: Api; readonly gpu: GPU } {
  const gpu = restrict(WEBGPU_API!, { isSoftware: false, ...restrictions });
  return { api: createApi({ ...nodePlatform, loadWebgpu: () => Promise.resolve(gpu) }), gpu };
}

describe.skipIf(WEBGPU.length === 0)("webgpu device", { timeout: 300_000 }, () => {
  describe("lost in mid-answer", () => {
    let want: readonly number[];
    beforeAll(async () => {
      const model = await apiOn({}).api.loadModel(MODEL, { device: "webgpu" });
      const session = await model.createSession();
      want = (await session.generate([1, 2, 3], GREEDY)).tokens;
      model.dispose();
    });

    test("is a DeviceError; after a reload sessions and forks go on with the same tokens", async () => {
      const { api, gpu } = apiOn({});
      const model = await api.loadModel(MODEL, { device: "auto" });
      expect(model.info).toMatchObject({ backend: "webgpu", fallbackReason: null });
      const session = await model.createSession();
      const tokens: number[] = [];
      let fork = await session.fork();
      const answer = async (): Promise<void> => {
        for await (const chunk of session.generate([1, 2, 3], GREEDY)) {
          tokens.push(...chunk.tokens);
          if (tokens.length === 5) await (await createWebgpuBackend(gpu)).loseDevice();
        }
      };
      await expect(answer()).rejects.toThrow(/was lost.*model\.reload\(\)/);
      expect(tokens).toEqual(want.slice(0, 5));
      await expect(session.save()).rejects.toThrow(DeviceError);
      fork.dispose();

      await model.reload();
      fork = await session.fork();
      for (const one of [session, fork]) {
        const rest = await one.generate(null, { ...GREEDY, maxTokens: 7 });
        expect([...tokens, ...rest.tokens]).toEqual(want);
      }
      const restored = await model.restore(await session.save());
      expect(restored.nTokens).toBe(15);
      model.dispose();
      expect((await createWebgpuBackend(gpu)).countBuffers().nBuffers).toBe(0);
    });

    test("goes on on the processor with device auto, where the GPU does not come back", async () => {
      const gpu = restrict(WEBGPU_API!, { isSoftware: false });
      let isThere = true;
      const loadWebgpu = (): Promise<GPU> =>
        isThere ? Promise.resolve(gpu) : Promise.reject(new DeviceError("unplugged"));
      const api = createApi({ ...nodePlatform, loadWebgpu });
      const model = await api.loadModel(MODEL, { device: "auto" });
      const session = await model.createSession();
      const { tokens } = await session.generate([1, 2, 3], { ...GREEDY, maxTokens: 5 });
      await (await createWebgpuBackend(gpu)).loseDevice();
      isThere = false;
      await model.reload();
      expect(model.info).toMatchObject({ backend: "cpu", fallbackReason: "unplugged" });
      const rest = await session.generate(null, { ...GREEDY, maxTokens: 7 });
      expect([...tokens, ...rest.tokens]).toEqual(want);
      model.dispose();
    });
  });

  describe("out of memory", () => {
    const memoryBytes = 100_000;

    test("is a DeviceError with the arithmetic, and leaves nothing behind", async () => {
      const { api, gpu } = apiOn({ memoryBytes });
      await expect(api.loadModel(MODEL, { device: "webgpu" })).rejects.toThrow(
        /no memory for weight ".*": \d+ bytes beside \d+ in use/,
      );
      expect((await createWebgpuBackend(gpu)).countBuffers()).toEqual({ nBuffers: 0, byteLength: 0 });
    });

    test("makes auto take the processor and say why", async () => {
      const model = await apiOn({ memoryBytes }).api.loadModel(MODEL, { device: "auto" });
      expect(model.info.backend).toBe("cpu");
      expect(model.info.fallbackReason).toMatch(/no memory for weight/);
      model.dispose();
    });
  });

  test("with bindings too small for a row auto takes the processor and says why", async () => {
    const { api } = apiOn({ limits: { maxStorageBufferBindingSize: 64 } });
    const model = await api.loadModel(MODEL, { device: "auto" });
    expect(model.info.backend).toBe("cpu");
    expect(model.info.fallbackReason).toMatch(/kernels of this GPU see at most 64 of a buffer/);
    model.dispose();
  });

  test("without subgroups and packed products a model runs as well", async () => {
    const { api } = apiOn({ without: ["subgroups", "packed_4x8_integer_dot_product"] });
    const model = await api.loadModel(MODEL, { device: "auto", dtype: "q8" });
    expect(model.info).toMatchObject({ backend: "webgpu", activations: "int8" });
    const { tokens } = await (await model.createSession()).generate([1, 2, 3], GREEDY);
    expect(tokens).toHaveLength(GREEDY.maxTokens);
    model.dispose();
  });

  describe("a driver that computes wrongly", () => {
    // One thread too few in a sum, as a miscompiled barrier gives.
    const compiles = (text: string): string => text.replace("mean = total", "mean = 0.5 * total");

    test("is refused, at once the second time, and auto takes the processor", async () => {
      const { api, gpu } = apiOn({ compiles });
      const refusal = /computes wrongly: in its self-test the logits .* are off by/;
      for (let i = 0; i < 2; i++) {
        await expect(api.loadModel(MODEL, { device: "webgpu" })).rejects.toThrow(refusal);
      }
      const model = await api.loadModel(MODEL, { device: "auto" });
      expect(model.info.backend).toBe("cpu");
      expect(model.info.fallbackReason).toMatch(refusal);
      model.dispose();
      expect((await createWebgpuBackend(gpu)).countBuffers().nBuffers).toBe(0);
    });
  });

  test("an adapter that is not there is an error that lists those that are", async () => {
    const { api } = apiOn({});
    await expect(api.loadModel(MODEL, { device: "webgpu:no such card" })).rejects.toThrow(
      /no adapter "no such card". It gives 0: /,
    );
    const model = await api.loadModel(MODEL, { device: "webgpu:0" });
    expect(model.info.backend).toBe("webgpu");
    model.dispose();
  });
});
