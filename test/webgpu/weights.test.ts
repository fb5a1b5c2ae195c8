// Long matrices reach the GPU piece by piece and lie there as short ones do.

import { describe, expect, test } from "vitest";
import { openGpu } from "../../packages/rwkv/src/backends/webgpu/gpu.ts";
import { USAGE } from "../../packages/rwkv/src/backends/webgpu/usage.ts";
import { Weights } from "../../packages/rwkv/src/backends/webgpu/weights.ts";
import { byteLengthOf } from "../../packages/rwkv/src/core/dtype.ts";
import type { WeightUpload } from "../../packages/rwkv/src/ops/backend.ts";
import type { Tensor } from "../../packages/rwkv/src/ops/tensor.ts";
import { loadWebgpu } from "../../packages/rwkv/src/platform/node/webgpu.ts";
import { WEBGPU } from "../support/webgpu.ts";

const MIB = 2 ** 20;

describe.skipIf(WEBGPU.length === 0)("weights on webgpu", () => {
  test.each([
    ["f32", 64 * MIB, false],
    ["f16", 64 * MIB, false],
    ["q8_0", 64 * MIB, false],
    ["f32", 20 * MIB, false],
    ["f32", 20 * MIB, true],
    ["f16", 64 * MIB, true],
  ] as const)(
    "%s in buffers of %d bytes, sparse inputs %s: read in parts they are the bytes of a whole read",
    async (dtype, maxPartBytes, hasSparseInputs) => {
      const gpu = await openGpu(await loadWebgpu(), null);
      const nIn = 1024;
      const nOut = Math.ceil((37 * MIB) / byteLengthOf(dtype, [nIn]));
      const bytes = new Uint8Array(byteLengthOf(dtype, [nOut, nIn]));
      for (let i = 0; i < bytes.length; i++) bytes[i] = (i * 2654435761) >>> 13;
      let longest = 0;
      const upload: WeightUpload = {
        name: "w",
        shape: [nOut, nIn],
        dtype,
        byteLength: bytes.byteLength,
        hasSparseInputs,
        read(target) {
          target.set(bytes);
          return Promise.resolve();
        },
      };
      const readPart = (offset: number, target: Uint8Array): Promise<void> => {
        longest = Math.max(longest, target.byteLength);
        target.set(bytes.subarray(offset, offset + target.byteLength));
        return Promise.resolve();
      };
      const before = gpu.count().byteLength;
      const held: { firstRow: number; nRows: number; bytes: Buffer }[][] = [];
      for (const one of [upload, { ...upload, readPart }]) {
        const tensor: Tensor = {
          index: 0,
          name: "w",
          kind: "weight",
          shape: [nOut, nIn],
          rows: "none",
          dtype,
        };
        const weights = new Weights(gpu, maxPartBytes);
        await weights.add(tensor, one);
        const parts: (typeof held)[number] = [];
        for (const { firstRow, nRows, place, byteLength } of weights.matrixOf(tensor).parts) {
          const values = new Float32Array(byteLength / 4);
          const copy = gpu.createBuffer("copy", values.byteLength, USAGE.mapRead | USAGE.copyDst);
          const encoder = gpu.device.createCommandEncoder();
          encoder.copyBufferToBuffer(place.memory.buffer!, 0, copy, 0, values.byteLength);
          gpu.device.queue.submit([encoder.finish()]);
          await gpu.read(copy, values);
          gpu.destroyBuffer(copy);
          parts.push({ firstRow, nRows, bytes: Buffer.from(values.buffer) });
        }
        weights.dispose();
        held.push(parts);
      }
      expect(held[1]!.length).toBe(held[0]!.length);
      held[1]!.forEach((part, i) => {
        const want = held[0]![i]!;
        expect([part.firstRow, part.nRows]).toEqual([want.firstRow, want.nRows]);
        expect(part.bytes.equals(want.bytes)).toBe(true);
      });
      expect(longest).toBeGreaterThan(0);
      expect(longest).toBeLessThanOrEqual(16 * MIB);
      expect(gpu.count().byteLength).toBe(before);
    },
  );

  test("a read that fails or is aborted in the middle leaves nothing on the device once disposed of", async () => {
    const gpu = await openGpu(await loadWebgpu(), null);
    const before = gpu.count().byteLength;
    const reason = new Error("cut");
    const weights = new Weights(gpu, 64 * MIB);
    const shape = [10_000, 1024];
    const tensor: Tensor = { index: 0, name: "w", kind: "weight", shape, rows: "none", dtype: "f32" };
    const adding = weights.add(tensor, {
      name: "w",
      shape,
      dtype: "f32",
      byteLength: byteLengthOf("f32", shape),
      read: () => Promise.reject(new Error("not as a whole")),
      readPart: (offset) => (offset === 0 ? Promise.resolve() : Promise.reject(reason)),
    });
    await expect(adding).rejects.toBe(reason);
    expect(gpu.count().byteLength).toBeGreaterThan(before);
    weights.dispose();
    expect(gpu.count().byteLength).toBe(before);
  });
});
