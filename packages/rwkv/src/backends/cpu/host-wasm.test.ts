import { describe, expect, test, vi } from "vitest";
import { DeviceError } from "../../core/errors.ts";
import type { WeightUpload } from "../../ops/backend.ts";
import { createCpuBackend } from "./cpu.ts";
import { wasmHosts } from "./host-wasm.ts";
import { compileKernels } from "./kernels.ts";
import type { Replayer } from "./replay.ts";
import { uploadOf } from "./testing.ts";

const MODULE = await compileKernels("own");

/** Makes at most `nMemories` memories, and starts nothing. */
function replayerWith(nMemories: number, nThreads = 1): Replayer {
  let nMade = 0;
  return {
    nThreads,
    module: MODULE,
    createMemory() {
      if (nMade++ >= nMemories) throw new RangeError("no address space");
      return new WebAssembly.Memory({ initial: 1 });
    },
    start: () => Promise.reject(new Error("not here")),
  };
}

const upload = (name: string, nElements: number): WeightUpload =>
  uploadOf(name, [nElements], new Float32Array(nElements));

test("weights go on in another memory when one is full, in the order in which they come", () => {
  const host = wasmHosts(replayerWith(9), "simd", "", 1000).create(0);
  const memories = [100, 150, 1, 249, 250, 10].map((n) => host.placeWeight(upload("w", n)).memory);
  expect(memories).toEqual([0, 0, 1, 1, 2, 3]);
  expect(host.arenas.length).toBe(4);
});

test("a weight that was not read leaves its room to the next", () => {
  const host = wasmHosts(replayerWith(9), "simd", "", 1000).create(0);
  const first = host.placeWeight(upload("w", 200));
  first.release();
  expect(host.placeWeight(upload("w", 250))).toMatchObject({ memory: 0, address: first.address });
});

test("each memory grows once for all weights that are to come", () => {
  const grow = vi.spyOn(WebAssembly.Memory.prototype, "grow");
  try {
    const host = wasmHosts(replayerWith(9), "simd", "", 4e6).create(11e6);
    for (let i = 0; i < 110; i++) host.placeWeight(upload("w", 25_000));
    expect(host.arenas.length).toBe(3);
    expect(grow).toHaveBeenCalledTimes(3);
    // The last one takes only what is left.
    const sizes = host.arenas.map(({ bytes }) => bytes.byteLength / 1e6);
    expect(sizes[0]).toBeGreaterThan(4);
    expect(sizes[2]).toBeLessThan(3.5);
  } finally {
    grow.mockRestore();
  }
});

describe("a DeviceError with the arithmetic and what to do", () => {
  test("for a weight that no memory takes", async () => {
    const builder = (await createCpuBackend({ threads: 1 })).createBuilder({ maxRows: 1 });
    const huge = { ...upload("huge", 1), shape: [875_000_000], byteLength: 3.5e9 };
    await expect(builder.weight(huge)).rejects.toThrow(DeviceError);
    await expect(builder.weight(huge)).rejects.toThrow(
      /weight "huge" needs 3\.5 GB, but .* ends at 4\.29 GB, takes 3\.22 GB of weights.*smaller type/,
    );
  });

  test("for another memory that the system refuses", () => {
    const host = wasmHosts(replayerWith(2, 3), "simd", "", 1e6).create(0);
    for (let i = 0; i < 2; i++) host.placeWeight(upload("w", 250_000));
    const place = (): unknown => host.placeWeight(upload("next", 10));
    expect(place).toThrow(DeviceError);
    expect(place).toThrow(
      /weight "next" needs another memory .* refuses its address space, 4\.29 GB reserved at once for 3 threads\. The program has 2 with 0\.002 GB of weights\. .*threads: 1/,
    );
  });

  test("for the first memory", () => {
    const create = (): unknown => wasmHosts(replayerWith(0), "simd", "").create(0);
    expect(create).toThrow(DeviceError);
    expect(create).toThrow(/the program needs a memory .* its address space\. Dispose other models, or/);
  });

  test("for more weights than the system gives memory for, before any is read", () => {
    const replayer: Replayer = {
      ...replayerWith(1),
      createMemory: () => new WebAssembly.Memory({ initial: 1, maximum: 2 }),
    };
    const create = (): unknown => wasmHosts(replayer, "simd", "").create(5e6);
    expect(create).toThrow(DeviceError);
    expect(create).toThrow(/room for the weights needs 0\.00526 GB more than .*gives no more memory/);
  });
});
