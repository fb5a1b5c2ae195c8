// Holds every backend to the contract of a program's slots and steps (ops/backend.ts): initial values, copies, what
// is released, which rows' logits come back, and aborting.

import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { ShapeError, UsageError } from "../../packages/rwkv/src/core/errors.ts";
import type { Backend, Program, Run } from "../../packages/rwkv/src/ops/backend.ts";
import { BACKENDS } from "../support/backends.ts";
import { WEBGPU } from "../support/webgpu.ts";

const WIDTH = 5;

/** Returns the row before each row less the row: sums of small whole numbers, exact on every backend. */
async function buildDelta(backend: Backend): Promise<Program> {
  const builder = backend.createBuilder({ maxRows: 8 });
  builder.state("pp", [3], -1e30);
  const shift = builder.state("shift", [WIDTH], 0.5);
  const x = builder.input("x", [WIDTH]);
  const delta = builder.scratch("delta", [WIDTH], "token");
  const out = builder.output("out", [WIDTH]);
  return builder.build((ops) => {
    ops.shiftDelta(delta, x, shift);
    ops.selectRows(out, delta);
  });
}

/** The state of a slot whose last row was `value`. */
const stateAfter = (value: number): number[] => [
  ...new Float32Array(3).fill(-1e30),
  ...new Array<number>(WIDTH).fill(value),
];

/** Rows filled with one value each. */
const rowsOf = (...values: readonly number[]): Float32Array =>
  Float32Array.from(values.flatMap((value) => new Array<number>(WIDTH).fill(value)));

const run = (slot: number, nRows: number, logits: Run["logits"] = "all"): Run => ({ slot, nRows, logits });

describe.each([...BACKENDS, ...WEBGPU])("$name", ({ name: backendName, create }) => {
  let backend: Backend;
  let program: Program;
  beforeAll(async () => {
    backend = await create();
    program = await buildDelta(backend);
    return () => {
      program.dispose();
    };
  });
  const read = async (slot: number): Promise<number[]> => [...(await program.readSlot(slot))];

  test("the backend tells its name, and the program its sizes", () => {
    expect(backendName).toContain(backend.name);
    expect(backend.description).not.toContain("\n");
    expect([program.maxRows, program.stateElements, program.weightByteLength]).toEqual([8, 3 + WIDTH, 0]);
  });

  test("a slot begins with the initial values, in order of declaration", async () => {
    expect(await read(program.createSlot())).toEqual(stateAfter(0.5));
  });

  test("a step advances the slots of its runs and no other", async () => {
    const [a, b, c] = [program.createSlot(), program.createSlot(), program.createSlot()];
    const logits = await program.step([run(c, 2), run(a, 1)], [rowsOf(1, 4, 2)]);
    expect([...logits]).toEqual([...rowsOf(-0.5, -3, -1.5)]);
    expect([await read(a), await read(b), await read(c)]).toEqual([2, 0.5, 4].map(stateAfter));
  });

  test("the rows asked for come back in the order of the runs", async () => {
    const slots = [0, 1, 2].map(() => program.createSlot());
    const step = async (...modes: readonly Run["logits"][]): Promise<number[]> => {
      for (const slot of slots) await program.resetSlot(slot);
      const runs = modes.map((logits, i) => run(slots[i]!, i + 1, logits));
      return [...(await program.step(runs, [rowsOf(1, 2, 4, 8, 16, 32)]))];
    };
    expect(await step("all", "all", "all")).toEqual([...rowsOf(-0.5, -1.5, -2, -7.5, -8, -16)]);
    expect(await step("last", "last", "last")).toEqual([...rowsOf(-0.5, -2, -16)]);
    expect(await step("none", "all", "last")).toEqual([...rowsOf(-1.5, -2, -16)]);
    expect(await step("last", "none", "none")).toEqual([...rowsOf(-0.5)]);
    expect(await step("none", "none", "none")).toEqual([]);
    expect(await read(slots[2]!)).toEqual(stateAfter(32));
  });

  test("a copied slot goes its own way", async () => {
    const [a, b] = [program.createSlot(), program.createSlot()];
    await program.step([run(a, 1, "none")], [rowsOf(3)]);
    await program.copySlot(b, a);
    await program.step([run(a, 1, "none")], [rowsOf(7)]);
    expect([await read(a), await read(b)]).toEqual([stateAfter(7), stateAfter(3)]);
  });

  test("slots made as copies keep their states apart, whatever is done to which of them", async () => {
    const operation = fc.record({
      kind: fc.constantFrom("create", "fork", "copy", "step", "reset", "write", "release"),
      a: fc.nat(99),
      b: fc.nat(99),
      value: fc.integer({ min: -50, max: 50 }),
    });
    await fc.assert(
      fc.asyncProperty(fc.array(operation, { maxLength: 40 }), async (operations) => {
        const want = new Map([[program.createSlot(), stateAfter(0.5)]]);
        for (const { kind, a, b, value } of operations) {
          const slots = [...want.keys()];
          const [one, other] = [slots[a % slots.length]!, slots[b % slots.length]!];
          if (kind === "create") want.set(program.createSlot(), stateAfter(0.5));
          else if (kind === "fork") want.set(program.createSlot(one), want.get(one)!);
          else if (kind === "copy") {
            await program.copySlot(one, other);
            want.set(one, want.get(other)!);
          } else if (kind === "step") {
            await program.step([run(one, 1, "none")], [rowsOf(value)]);
            want.set(one, [...want.get(one)!.slice(0, 3), ...stateAfter(value).slice(3)]);
          } else if (kind === "reset") {
            await program.resetSlot(one);
            want.set(one, stateAfter(0.5));
          } else if (kind === "write") {
            const state = new Array<number>(3 + WIDTH).fill(value);
            await program.writeSlot(one, Float32Array.from(state));
            want.set(one, state);
          } else if (slots.length > 1) {
            program.releaseSlot(one);
            want.delete(one);
          }
          for (const [slot, state] of want) expect(await read(slot)).toEqual(state);
        }
        for (const slot of want.keys()) program.releaseSlot(slot);
      }),
      { seed: 7, numRuns: 30 },
    );
  });

  test("what is written is read back bit for bit, and used by the next step", async () => {
    const slot = program.createSlot();
    const values = Float32Array.of(-0, 1e-45, 3.4e38, 1, 2, 3, 4, 5);
    await program.writeSlot(slot, values);
    values.fill(0);
    const got = await program.readSlot(slot);
    expect([...got]).toEqual([...Float32Array.of(-0, 1e-45, 3.4e38, 1, 2, 3, 4, 5)]);
    got.fill(0);
    expect([...(await program.step([run(slot, 1)], [rowsOf(1)]))]).toEqual([0, 1, 2, 3, 4]);
  });

  test("a reset slot, and a new one in the place of a released one, begin anew", async () => {
    const slot = program.createSlot();
    await program.step([run(slot, 1, "none")], [rowsOf(3)]);
    await program.resetSlot(slot);
    expect(await read(slot)).toEqual(stateAfter(0.5));
    await program.step([run(slot, 1, "none")], [rowsOf(3)]);
    program.releaseSlot(slot);
    expect(await read(program.createSlot())).toEqual(stateAfter(0.5));
  });

  test("a hundred slots keep their states apart", async () => {
    const slots = Array.from({ length: 100 }, () => program.createSlot());
    for (const [i, slot] of slots.entries()) await program.step([run(slot, 1, "none")], [rowsOf(i)]);
    for (const [i, slot] of slots.entries()) expect(await read(slot)).toEqual(stateAfter(i));
    for (const slot of slots) program.releaseSlot(slot);
  });

  test("a released slot is refused everywhere", async () => {
    const [slot, other] = [program.createSlot(), program.createSlot()];
    program.releaseSlot(slot);
    expect(() => {
      program.releaseSlot(slot);
    }).toThrow(UsageError);
    await expect(program.readSlot(slot)).rejects.toThrow(UsageError);
    await expect(program.resetSlot(slot)).rejects.toThrow(UsageError);
    await expect(program.copySlot(slot, other)).rejects.toThrow(UsageError);
    expect(() => program.createSlot(slot)).toThrow(UsageError);
    await expect(program.copySlot(other, slot)).rejects.toThrow(UsageError);
    await expect(program.writeSlot(slot, new Float32Array(3 + WIDTH))).rejects.toThrow(UsageError);
    await expect(program.step([run(slot, 1)], [rowsOf(1)])).rejects.toThrow(UsageError);
  });

  test("an aborted step rejects with the signal's reason, and the program goes on", async () => {
    const slot = program.createSlot();
    const reason = new Error("enough");
    const aborted = program.step([run(slot, 2)], [rowsOf(1, 2)], { signal: AbortSignal.abort(reason) });
    await expect(aborted).rejects.toBe(reason);
    await program.resetSlot(slot);
    expect([...(await program.step([run(slot, 1)], [rowsOf(1)]))]).toEqual([...rowsOf(-0.5)]);
  });

  test("a forward pass with wrong shapes is refused when it is built", async () => {
    const builder = backend.createBuilder({ maxRows: 1 });
    const [x, out] = [builder.input("x", [2]), builder.output("out", [3])];
    const built = builder.build((ops) => {
      ops.selectRows(out, x);
    });
    await expect(built).rejects.toThrow(ShapeError);
  });
});
