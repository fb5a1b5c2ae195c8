// What the webgpu backend does beyond the contract of all backends: matrices cut by rows, nothing left after dispose, and a
// device that is lost.

import { describe, expect, test } from "vitest";
import { createReferenceBackend } from "../../packages/rwkv/src/backends/reference/reference.ts";
import type { WebgpuProgram } from "../../packages/rwkv/src/backends/webgpu/program.ts";
import { createWebgpuBackend, type WebgpuBackend } from "../../packages/rwkv/src/backends/webgpu/webgpu.ts";
import { DeviceError } from "../../packages/rwkv/src/core/errors.ts";
import { loadProgram, type LoadedProgram } from "../../packages/rwkv/src/model/load.ts";
import { canonicalWeights } from "../../packages/rwkv/src/model/weights/canonical.ts";
import type { Backend } from "../../packages/rwkv/src/ops/backend.ts";
import { runTokens } from "../golden/run-model.ts";
import { checkpointOf, syntheticModel, type SyntheticVersion } from "../golden/synthetic.ts";
import { DISABLED_DAWN_FEATURES } from "../support/dawn.ts";
import { WEBGPU } from "../support/webgpu.ts";
import { buildEcho } from "./echo.ts";

const TOKENS = [1, 5, 3, 9, 2, 2, 7];

const load = (
  backend: Backend,
  version: SyntheticVersion = "7",
  skipZeros?: boolean,
): Promise<LoadedProgram> =>
  loadProgram(backend, canonicalWeights(checkpointOf(syntheticModel(version))), { maxRows: 8, skipZeros });

function indexOfMost(values: Float32Array): number {
  return values.reduce((best, value, i) => (value > values[best]! ? i : best), 0);
}

const create = () => WEBGPU[0]!.create();

/** A GPU of its own that writes down what is asked of its device, and whose work is done when the test says so. */
async function watchedGpu(): Promise<{
  gpu: GPU;
  events: string[];
  /** Of each buffer that was mapped. */
  readBytes: number[];
  holdWork: () => () => void;
}> {
  const { create: createGpu } = await import("webgpu");
  const gpu = createGpu([DISABLED_DAWN_FEATURES]);
  const events: string[] = [];
  const readBytes: number[] = [];
  let held: Promise<void> | null = null;
  const requestAdapter = gpu.requestAdapter.bind(gpu);
  gpu.requestAdapter = async (options) => {
    const adapter = (await requestAdapter(options))!;
    const requestDevice = adapter.requestDevice.bind(adapter);
    adapter.requestDevice = async (descriptor) => {
      const device = await requestDevice(descriptor);
      const { queue } = device;
      const [bind, encode] = [device.createBindGroup.bind(device), device.createCommandEncoder.bind(device)];
      const [submit, done] = [queue.submit.bind(queue), queue.onSubmittedWorkDone.bind(queue)];
      device.createBindGroup = (group) => (events.push("bind"), bind(group));
      device.createCommandEncoder = (encoder) => (events.push("encode"), encode(encoder));
      const createBuffer = device.createBuffer.bind(device);
      device.createBuffer = (made) => {
        const buffer = createBuffer(made);
        const mapAsync = buffer.mapAsync.bind(buffer);
        buffer.mapAsync = (mode, offset, byteLength) => {
          readBytes.push(byteLength!);
          return mapAsync(mode, offset, byteLength);
        };
        return buffer;
      };
      queue.submit = (commands) => {
        events.push("submit");
        submit(commands);
        return undefined;
      };
      queue.onSubmittedWorkDone = async () => {
        await done();
        await held;
        return undefined;
      };
      return device;
    };
    return adapter;
  };
  const holdWork = (): (() => void) => {
    let release!: () => void;
    held = new Promise((resolve) => {
      release = resolve;
    });
    return release;
  };
  return { gpu, events, readBytes, holdWork };
}

describe.skipIf(WEBGPU.length === 0)("webgpu", { timeout: 300_000 }, () => {
  test("in decode a step submits what was encoded before it, and no bind group is made", async () => {
    const { gpu, events, holdWork } = await watchedGpu();
    const { program, inputWidths } = await load(await createWebgpuBackend(gpu));
    const slot = program.createSlot();
    const step = (logits: "last" | "none"): Promise<Float32Array> =>
      program.step([{ slot, nRows: 1, logits }], [new Float32Array(inputWidths[0]!).fill(0.5)]);
    for (let i = 0; i < 3; i++) await step("last");
    expect(events).toContain("bind");
    events.length = 0;
    await step("last");
    expect(events).toEqual(["submit", "encode"]);

    const release = holdWork();
    await step("none");
    let isDone = false;
    const second = step("none").then(() => {
      isDone = true;
    });
    await new Promise((resolve) => setTimeout(resolve, 50));
    expect(isDone).toBe(false);
    release();
    await second;
    program.dispose();
  });

  test("so does a step that returns shortlists, also when more ids are listed, and little is read back", async () => {
    const { gpu, events, readBytes } = await watchedGpu();
    const program = await buildEcho(await createWebgpuBackend(gpu), 3000);
    const slot = program.createSlot();
    const step = (nListed: number): Promise<Float32Array> => {
      const shortlist = { listed: Uint32Array.from({ length: nListed }, (_, i) => 2 * i), nIds: 3000 };
      return program.step([{ slot, nRows: 1, logits: "last", shortlist }], [new Float32Array(3000)]);
    };
    readBytes.length = 0;
    for (let i = 0; i < 3; i++) await step(i);
    for (const nListed of [3, 20, 64]) {
      events.length = 0;
      await step(nListed);
      expect(events).toEqual(["submit", "encode"]);
    }
    expect(readBytes.splice(0)).toEqual(new Array(6).fill(4 * (2 * 256 + 1 + 64)));
    for (const nListed of [65, 66]) await step(nListed);
    events.length = 0;
    await step(128);
    expect(events).toEqual(["submit", "encode"]);
    expect(readBytes).toEqual(new Array(3).fill(4 * (2 * 256 + 1 + 128)));
    program.dispose();
  });

  test.each(["4", "5.0", "5.1", "5.2", "6", "7"] as const)(
    "zeros that are skipped change no bit of version %s, and are counted",
    async (version) => {
      const backend = await create();
      const [skipping, dense] = [await load(backend, version), await load(backend, version, false)];
      for (const nRows of [1, 3, TOKENS.length]) {
        expect(await runTokens(skipping, TOKENS, nRows)).toEqual(await runTokens(dense, TOKENS, nRows));
      }
      const { nInputs, nZeros } = skipping.program.zeroInputs()!;
      const { nLayer, nFfn } = skipping.config;
      expect(nInputs).toBe(3 * TOKENS.length * nLayer * nFfn);
      expect(nZeros / nInputs).toBeGreaterThan(0.2); // squared ReLUs of a random model: about half
      expect(nZeros / nInputs).toBeLessThan(0.8);
      expect(dense.program.zeroInputs()).toBeNull();
      for (const { program } of [skipping, dense]) program.dispose();
    },
  );

  test("matrices cut by rows give the same bits", async () => {
    const backend = await create();
    const cut: Backend = {
      ...backend,
      createBuilder: (options) => backend.createBuilder({ ...options, maxPartBytes: 1024 }),
    };
    const [whole, parts] = [await load(backend), await load(cut)];
    const dispatchesOf = ({ program }: LoadedProgram): number =>
      (program as unknown as Pick<WebgpuProgram, "dispatchReport">).dispatchReport.length;
    expect(dispatchesOf(parts)).toBeGreaterThan(dispatchesOf(whole));
    expect(await runTokens(parts, TOKENS, 3)).toEqual(await runTokens(whole, TOKENS, 3));
    for (const { program } of [whole, parts]) program.dispose();
  });

  test("nothing is left on the device after dispose, nor after a load that fails", async () => {
    const backend = await create();
    const before = backend.countBuffers();
    const loaded = await load(backend);
    await runTokens(loaded, TOKENS, 3);
    expect(backend.countBuffers().nBuffers).toBeGreaterThan(before.nBuffers);
    loaded.program.dispose();
    expect(backend.countBuffers()).toEqual(before);
    const tooSmall: Backend = {
      ...backend,
      createBuilder: (options) => backend.createBuilder({ ...options, maxPartBytes: 4 }),
    };
    await expect(load(tooSmall)).rejects.toThrow(/kernels of this GPU see at most 4 of a buffer/);
    expect(backend.countBuffers()).toEqual(before);
  });

  test("a lost device is an error of every call, and the next load opens another", async () => {
    const backend: WebgpuBackend = await create();
    const loaded = await load(backend);
    const { program } = loaded;
    const slot = program.createSlot();
    await program.readSlot(slot);
    await backend.loseDevice();
    expect(() => program.createSlot()).toThrow(DeviceError);
    await expect(program.readSlot(slot)).rejects.toThrow(/was lost.*model\.reload\(\)/);
    await expect(runTokens(loaded, TOKENS)).rejects.toThrow(DeviceError);
    program.dispose();
    const again = await load(await create());
    const { nVocab } = again.config;
    const reference = await load(createReferenceBackend());
    const [got, want] = [await runTokens(again, TOKENS), await runTokens(reference, TOKENS)];
    expect(indexOfMost(got.logits.subarray(-nVocab))).toBe(indexOfMost(want.logits.subarray(-nVocab)));
    again.program.dispose();
  });
});
