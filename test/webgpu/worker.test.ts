// A model on a GPU whose engine is behind a line of messages: shortlists come over it, and so does the loss of the device.

import { beforeAll, describe, expect, test } from "vitest";
import { restrict } from "../../packages/rwkv/src/backends/webgpu/restrictions.ts";
import { createWebgpuBackend } from "../../packages/rwkv/src/backends/webgpu/webgpu.ts";
import { DeviceError, UsageError } from "../../packages/rwkv/src/core/errors.ts";
import type { Platform } from "../../packages/rwkv/src/core/platform.ts";
import { portOf } from "../../packages/rwkv/src/core/port.ts";
import { shortlistElements, shortlistOf } from "../../packages/rwkv/src/core/shortlist.ts";
import { nodePlatform } from "../../packages/rwkv/src/platform/node/platform.ts";
import { createApi, type Api } from "../../packages/rwkv/src/runtime/api.ts";
import type { EngineCalls, PageCalls } from "../../packages/rwkv/src/runtime/worker/calls.ts";
import { Channel } from "../../packages/rwkv/src/runtime/worker/channel.ts";
import { SharedSources } from "../../packages/rwkv/src/runtime/worker/files.ts";
import { WorkerProgram } from "../../packages/rwkv/src/runtime/worker/program.ts";
import { engineWorker, type TestWorker } from "../support/engine-worker.ts";
import { tinyModel } from "../support/tiny-model.ts";
import { WEBGPU, WEBGPU_API } from "../support/webgpu.ts";

const MODEL = tinyModel({ layers: 2 });
const GREEDY = { temperature: 0, maxTokens: 12 } as const;

interface There {
  readonly api: Api;
  readonly worker: TestWorker;
  readonly loseDevice: () => Promise<void>;
  /** The GPU is not there any longer. */
  readonly unplug: () => void;
}

/** A worker with a GPU of its own, which is taken for a real one. */
function there(): There {
  const gpu = restrict(WEBGPU_API!, { isSoftware: false });
  let isThere = true;
  const platform: Platform = {
    ...nodePlatform,
    loadWebgpu: () => (isThere ? Promise.resolve(gpu) : Promise.reject(new DeviceError("the cable is out"))),
  };
  return {
    api: createApi(nodePlatform),
    worker: engineWorker(platform),
    loseDevice: async () => (await createWebgpuBackend(gpu)).loseDevice(),
    unplug: () => {
      isThere = false;
    },
  };
}

describe.skipIf(WEBGPU.length === 0)("a GPU in a worker", { timeout: 300_000 }, () => {
  let want: readonly number[];
  beforeAll(async () => {
    const { api, worker } = there();
    const model = await api.loadModel(MODEL, { device: "webgpu", worker });
    const session = await model.createSession();
    want = (await session.generate([1, 2, 3], GREEDY)).tokens;
    model.dispose();
  });

  test("returns shortlists, and the logits that they are of", async () => {
    const { worker } = there();
    const nothing = (): { value: undefined } => ({ value: undefined });
    const channel = new Channel<EngineCalls, PageCalls>(portOf(worker), {
      ...new SharedSources().handlers,
      progress: nothing,
      log: nothing,
      lost: nothing,
    });
    const { program: facts, inputWidths } = await channel.call("load", {
      file: { kind: "value", value: MODEL },
      options: { device: "webgpu" },
      lora: undefined,
      tokenizer: null,
      wantsProgress: false,
    });
    const program = new WorkerProgram(channel, facts, () => channel.close(new Error("over")));
    expect([program.hasShortlists, program.isLost]).toEqual([true, false]);
    const inputs = inputWidths.map((width) =>
      Float32Array.from({ length: 2 * width }, (_, i) => Math.sin(i)),
    );
    const [short, whole] = [program.createSlot(), program.createSlot()];
    const shortlist = { listed: new Uint32Array(0), nIds: 256 };
    const run = { nRows: 1, logits: "last" } as const;
    const got = await program.step(
      [
        { ...run, slot: short, shortlist },
        { ...run, slot: whole },
      ],
      inputs,
    );
    const nElements = shortlistElements(shortlist);
    expect(got.length).toBe(nElements + 256);
    const row = await program.readLogits(short);
    const { ids, logits } = shortlistOf(got.subarray(0, nElements));
    expect([...ids].sort((a, b) => a - b)).toEqual(Array.from({ length: 256 }, (_, i) => i));
    expect([...logits]).toEqual([...ids].map((id) => row[id]));
    await expect(program.readLogits(whole)).rejects.toThrow(UsageError);
    program.dispose();
  });

  test("that is lost is a DeviceError; after a reload sessions and forks go on with the same tokens", async () => {
    const { api, worker, loseDevice } = there();
    const model = await api.loadModel(MODEL, { device: "auto", worker });
    expect(model.info).toMatchObject({ backend: "webgpu", isInWorker: true });
    await model.reload(); // nothing is lost
    const session = await model.createSession();
    const tokens: number[] = [];
    const answer = async (): Promise<void> => {
      for await (const chunk of session.generate([1, 2, 3], GREEDY)) {
        tokens.push(...chunk.tokens);
        if (tokens.length === 5) await loseDevice();
      }
    };
    await expect(answer()).rejects.toThrow(/was lost.*model\.reload\(\)/);
    expect(tokens).toEqual(want.slice(0, 5));
    await expect(session.save()).rejects.toThrow(DeviceError);

    const { info } = model;
    const mistake = new TypeError("in the page's own code");
    const onProgress = (): void => {
      throw mistake;
    };
    await expect(model.reload({ onProgress })).rejects.toBe(mistake);
    await expect(session.save()).rejects.toThrow(DeviceError);
    expect(model.info).toBe(info);
    let bytesDone = 0;
    await model.reload({ onProgress: (progress) => (bytesDone = progress.bytesDone) });
    expect(bytesDone).toBeGreaterThan(0);
    expect(model.info).toEqual(info);
    const fork = await session.fork();
    for (const one of [session, fork]) {
      const rest = await one.generate(null, { ...GREEDY, maxTokens: 7 });
      expect([...tokens, ...rest.tokens]).toEqual(want);
    }
    expect(worker.isTerminated).toBe(false);
    model.dispose();
    expect(worker.isTerminated).toBe(true);
    await expect(model.reload()).rejects.toThrow(UsageError);
  });

  test("with device auto gives way to the processor where it does not come back, also before an error was met", async () => {
    const { api, worker, loseDevice, unplug } = there();
    const model = await api.loadModel(MODEL, { device: "auto", worker });
    const session = await model.createSession();
    const { tokens } = await session.generate([1, 2, 3], { ...GREEDY, maxTokens: 5 });
    await loseDevice();
    unplug();
    await model.reload();
    expect(model.info).toMatchObject({ backend: "cpu", isInWorker: true });
    expect(model.info.fallbackReason).toContain("the cable is out");
    const rest = await session.generate(null, { ...GREEDY, maxTokens: 7 });
    expect([...tokens, ...rest.tokens]).toEqual(want);
    await model.reload(); // what cannot be lost is there
    expect(model.info.backend).toBe("cpu");
    model.dispose();
  });
});
