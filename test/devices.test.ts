// The choice of a device where there is no GPU: `auto` runs on the processor and says why, `webgpu` is an error.

import { describe, expect, test } from "vitest";
import { DeviceError, UsageError } from "../packages/rwkv/src/core/errors.ts";
import type { Platform } from "../packages/rwkv/src/core/platform.ts";
import { nodePlatform } from "../packages/rwkv/src/platform/node/platform.ts";
import { createApi } from "../packages/rwkv/src/runtime/api.ts";
import { tinyModel } from "./support/tiny-model.ts";

/** Ways in which a machine has no GPU, and what is said of each. */
const MISSING: readonly (readonly [string, Platform["loadWebgpu"], RegExp])[] = [
  ["no package", () => Promise.reject(new DeviceError("the package is not installed")), /not installed/],
  ["no adapter", () => Promise.resolve(gpuOf(() => Promise.resolve(null))), /finds no adapter/],
  [
    "a driver that fails",
    () => Promise.resolve(gpuOf(() => Promise.reject(new Error("driver too old")))),
    /gives no adapter: driver too old/,
  ],
];

function gpuOf(requestAdapter: GPU["requestAdapter"]): GPU {
  return { requestAdapter } as GPU;
}

describe.each(MISSING)("%s", (_title, loadWebgpu, reason) => {
  const api = createApi({ ...nodePlatform, loadWebgpu });

  test("auto takes the processor and says why", async () => {
    const model = await api.loadModel(tinyModel(), { device: "auto" });
    expect(model.info.backend).toBe("cpu");
    expect(model.info.fallbackReason).toMatch(reason);
    model.dispose();
  });

  test("webgpu is an error with the reason", async () => {
    const loading = api.loadModel(tinyModel(), { device: "webgpu" });
    await expect(loading).rejects.toThrow(DeviceError);
    await expect(loading).rejects.toThrow(reason);
  });

  test("the list prefers the processor and gives the reason", async () => {
    const [gpu, cpu] = await api.listDevices();
    expect(gpu).toMatchObject({ name: "webgpu", isUsable: false, isPreferred: false });
    expect(gpu!.description).toMatch(reason);
    expect(cpu).toMatchObject({ name: "cpu", isUsable: true, isPreferred: true });
  });
});

test("each adapter is listed by the name that loads it", async () => {
  const adapterOf = (description: string): GPUAdapter =>
    ({
      info: { description, isFallbackAdapter: false },
      limits: {},
      features: new Set(),
      requestDevice: () => Promise.reject(new Error("busy")),
    }) as unknown as GPUAdapter;
  const gpu = gpuOf((options) =>
    Promise.resolve(adapterOf(options?.powerPreference === "low-power" ? "frugal" : "fast")),
  );
  const api = createApi({ ...nodePlatform, loadWebgpu: () => Promise.resolve(gpu) });
  const load = (device: "webgpu" | "webgpu:1" | "webgpu:Fru"): Promise<unknown> =>
    api.loadModel(tinyModel(), { device });
  await expect(load("webgpu")).rejects.toThrow("The GPU (fast) gives no device: busy");
  await expect(load("webgpu:1")).rejects.toThrow("The GPU (frugal) gives no device");
  await expect(load("webgpu:Fru")).rejects.toThrow("The GPU (frugal) gives no device");
});

test("without a choice nobody looks for a GPU", async () => {
  const loadWebgpu = (): never => {
    throw new Error("looked");
  };
  const { loadModel } = createApi({ ...nodePlatform, loadWebgpu });
  const model = await loadModel(tinyModel());
  expect(model.info).toMatchObject({ backend: "cpu", fallbackReason: null });
  model.dispose();
});

test("an unknown device, or a device and a backend, are refused", async () => {
  const { loadModel } = createApi(nodePlatform);
  await expect(loadModel(tinyModel(), { device: "gpu" as "auto" })).rejects.toThrow(/Unknown device "gpu"/);
  await expect(loadModel(tinyModel(), { device: "cpu", backend: "cpu" })).rejects.toThrow(UsageError);
});
