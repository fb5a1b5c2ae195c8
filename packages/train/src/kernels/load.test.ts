// Which kernels are loaded, and what is said where they cannot be.

import { afterEach, describe, expect, test, vi } from "vitest";
import { DeviceError, UsageError } from "rwkv";
import { SIGNATURES, type KernelCalls } from "./calls.ts";
import { loadKernels, loadTrainKernels, type KernelName } from "./load.ts";
import { nativeKernels, type NativeTrainAddon } from "./native/native.ts";
import { wasmKernels } from "./wasm-kernels.ts";

afterEach(() => void vi.unstubAllEnvs());

test("RWKV_NATIVE=0 means WebAssembly, and forbids what asks for native kernels", async () => {
  vi.stubEnv("RWKV_NATIVE", "0");
  expect((await loadTrainKernels()).name).toMatch(/^wasm-(simd|relaxed)$/);
  expect((await loadKernels("auto")).name).toMatch(/^wasm/);
  await expect(loadKernels("native")).rejects.toThrow(/RWKV_NATIVE forbids them/);
});

test("without RWKV_NATIVE native kernels are taken where they are", async () => {
  vi.stubEnv("RWKV_NATIVE", undefined);
  const isBuilt = await import("rwkv-native").then(
    ({ addon }) => (addon as { kernelSets: readonly string[] }).kernelSets.length > 0,
    () => false,
  );
  expect((await loadKernels("auto")).name).toMatch(isBuilt ? /^native-/ : /^wasm-/);
});

test("kernels by name, and a name that there is not", async () => {
  expect((await loadKernels("wasm")).name).toMatch(/^wasm/);
  expect((await loadKernels("reference")).precision).toBe("f32");
  expect((await loadKernels("reference-f64")).precision).toBe("f64");
  await expect(loadKernels("fast" as KernelName)).rejects.toThrow(UsageError);
});

describe("native kernels are refused", () => {
  const addonWith = (signatures: Readonly<Record<string, string>>): NativeTrainAddon => ({
    trainKernels: () => ({ roomElements: 0, wkv4RoomElements: 0, signatures, calls: {} as KernelCalls }),
  });

  test("of an addon without kernels of training", () => {
    expect(() => nativeKernels({} as NativeTrainAddon, "avx2")).toThrow(/has no kernels of training/);
  });

  test("of a set that this processor lacks", () => {
    expect(() => nativeKernels({ trainKernels: () => null }, "avx512")).toThrow(/lacks .* set avx512/);
  });

  test("of another version", () => {
    expect(() => nativeKernels(addonWith(SIGNATURES), "avx2")).not.toThrow();
    expect(() => nativeKernels(addonWith({ ...SIGNATURES, mul: "ppppn" }), "avx2")).toThrow(
      /kernel mul takes ppppn, expected pppn/,
    );
    const rest = Object.entries(SIGNATURES).filter(([name]) => name !== "mul");
    expect(() => nativeKernels(addonWith(Object.fromEntries(rest)), "avx2")).toThrow(
      /kernel mul takes nothing/,
    );
  });
});

describe("WebAssembly", () => {
  test("refuses memory that is not its own, and more than it can address", async () => {
    const module = await wasmKernels();
    expect(() => module.open(new SharedArrayBuffer(64))).toThrow(/not WebAssembly's/);
    expect(() => module.createMemory(5e9)).toThrow(DeviceError);
  });

  test("says so if a memory has no room left for a thread", async () => {
    const module = await wasmKernels();
    const full = new WebAssembly.Memory({ initial: 1, maximum: 1, shared: true });
    expect(() => module.open(full)).toThrow(/no room for \d+ bytes more/);
  });

  test("takes runs and targets wherever they lie, and more of them than it has room for at first", async () => {
    const module = await wasmKernels();
    const memory = module.createMemory(1 << 22) as WebAssembly.Memory;
    const kernels = module.open(memory);
    const nRows = 70_000;
    const numbers = (place: number, length: number): Float32Array =>
      new Float32Array(memory.buffer, module.reservedByteLength + 4 * place, length);
    const losses = numbers(0, nRows);
    const logits = numbers(nRows, 2 * nRows);
    const weights = numbers(3 * nRows, nRows).fill(1);
    kernels.crossEntropy(losses, null, logits, new Int32Array(nRows).fill(1), weights, nRows, 2, 0);
    expect([losses[0], losses[nRows - 1]]).toEqual([Math.fround(Math.LN2), Math.fround(Math.LN2)]);
  });
});
