// The logits that stay on a GPU where a step returns shortlists of them.

import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { restrict } from "../../packages/rwkv/src/backends/webgpu/restrictions.ts";
import { createWebgpuBackend, type WebgpuBackend } from "../../packages/rwkv/src/backends/webgpu/webgpu.ts";
import { DeviceError, UsageError } from "../../packages/rwkv/src/core/errors.ts";
import type { ShortlistWanted } from "../../packages/rwkv/src/core/shortlist.ts";
import { WEBGPU, WEBGPU_API } from "../support/webgpu.ts";
import { buildEcho } from "./echo.ts";

describe.skipIf(WEBGPU.length === 0)("kept logits", { timeout: 300_000 }, () => {
  let backend: WebgpuBackend;
  beforeAll(async () => {
    backend = await WEBGPU[0]!.create();
  });

  test("are those of the slot's last step, whatever others do", async () => {
    const width = 300;
    const program = await buildEcho(backend, width);
    const wanted: ShortlistWanted = { listed: new Uint32Array(0), nIds: width };
    const row = (value: number): Float32Array => new Float32Array(width).fill(value);
    const step = (slot: number, value: number, shortlist?: ShortlistWanted): Promise<Float32Array> =>
      program.step([{ slot, nRows: 1, logits: "last", shortlist }], [row(value)]);
    const slot = program.createSlot();
    await expect(program.readLogits!(slot)).rejects.toThrow(/slot \d+ returned no shortlist/);
    await step(slot, 1, wanted);
    // More slots than there was room for.
    const others = Array.from({ length: 20 }, () => program.createSlot());
    for (const [i, other] of others.entries()) await step(other, 100 + i, wanted);
    await step(program.createSlot(), 2);
    const stepping = step(others[0]!, 3, wanted);
    expect(await program.readLogits!(slot)).toEqual(row(1));
    await stepping;
    for (const [i, other] of others.entries()) {
      expect(await program.readLogits!(other)).toEqual(row(i === 0 ? 3 : 100 + i));
    }
    await step(slot, 4);
    await expect(program.readLogits!(slot)).rejects.toThrow(UsageError);
    program.releaseSlot(others[0]!);
    await expect(program.readLogits!(others[0]!)).rejects.toThrow(/does not exist or was released/);
    await step(slot, 5, wanted);
    expect(await program.readLogits!(slot)).toEqual(row(5));
    expect(await program.readLogits!(others[1]!)).toEqual(row(101));
    program.dispose();
  });

  test("go with the state into copies, and end with it", async () => {
    const program = await buildEcho(backend, 300);
    const shortlist: ShortlistWanted = { listed: new Uint32Array(0), nIds: 300 };
    const row = (value: number): Float32Array => new Float32Array(300).fill(value);
    const step = (slot: number, value: number, wanted?: ShortlistWanted): Promise<Float32Array> =>
      program.step([{ slot, nRows: 1, logits: "last", shortlist: wanted }], [row(value)]);
    const slot = program.createSlot();
    await step(slot, 1, shortlist);
    const backup = program.createSlot(slot);
    // A read that fails is undone by the copy.
    await step(slot, 2, shortlist);
    expect(await program.readLogits!(slot)).toEqual(row(2));
    expect(await program.readLogits!(backup)).toEqual(row(1));
    await program.copySlot(slot, backup);
    program.releaseSlot(backup);
    expect(await program.readLogits!(slot)).toEqual(row(1));
    await step(slot, 3);
    await expect(program.readLogits!(slot)).rejects.toThrow(UsageError);

    const operation = fc.record({
      kind: fc.constantFrom("short", "whole", "fork", "copy", "reset", "write", "release"),
      a: fc.nat(99),
      b: fc.nat(99),
      value: fc.integer({ min: -50, max: 50 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 30 }), async (operations) => {
        const want = new Map<number, number | null>([[program.createSlot(), null]]);
        for (const { kind, a, b, value } of operations) {
          const slots = [...want.keys()];
          const [one, other] = [slots[a % slots.length]!, slots[b % slots.length]!];
          if (kind === "short") {
            await step(one, value, shortlist);
            want.set(one, value);
          } else if (kind === "whole") {
            await step(one, value);
            want.set(one, null);
          } else if (kind === "fork") want.set(program.createSlot(one), want.get(one)!);
          else if (kind === "copy") {
            await program.copySlot(one, other);
            want.set(one, want.get(other)!);
          } else if (kind === "reset") {
            await program.resetSlot(one);
            want.set(one, null);
          } else if (kind === "write") {
            await program.writeSlot(one, Float32Array.of(value));
            want.set(one, null);
          } else if (slots.length > 1) {
            program.releaseSlot(one);
            want.delete(one);
          }
        }
        for (const [one, value] of want) {
          const read = program.readLogits!(one);
          if (value === null) await expect(read).rejects.toThrow(UsageError);
          else expect((await read)[7]).toBe(value);
          program.releaseSlot(one);
        }
      }),
      { seed: 7, numRuns: 30 },
    );
    program.dispose();
  });

  test("for which there is no memory are a DeviceError, and steps without them go on", async () => {
    const gpu = restrict(WEBGPU_API!, { limits: { maxStorageBufferBindingSize: 4 * 5000 * 15 } });
    const program = await buildEcho(await createWebgpuBackend(gpu), 5000);
    const shortlist = { listed: new Uint32Array(0), nIds: 5000 };
    const step = (slot: number, wanted?: ShortlistWanted): Promise<Float32Array> =>
      program.step(
        [{ slot, nRows: 1, logits: "last", shortlist: wanted }],
        [new Float32Array(5000).fill(slot)],
      );
    const slots = Array.from({ length: 16 }, () => program.createSlot());
    for (const slot of slots.slice(0, 15)) await step(slot, shortlist);
    await expect(step(slots[15]!, shortlist)).rejects.toThrow(DeviceError);
    await expect(step(slots[15]!, shortlist)).rejects.toThrow(
      /which holds 15 rows of them. Release sessions/,
    );
    expect((await step(slots[15]!))[0]).toBe(15);
    program.releaseSlot(slots[3]!);
    program.releaseSlot(slots[15]!);
    const another = program.createSlot();
    await step(another, shortlist);
    expect((await program.readLogits!(another))[0]).toBe(another);
    expect((await program.readLogits!(slots[4]!))[0]).toBe(4);
    program.dispose();
  });
});
