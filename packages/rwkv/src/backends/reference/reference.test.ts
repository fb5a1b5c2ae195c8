import { describe, expect, test } from "vitest";
import type { WeightDType } from "../../core/dtype.ts";
import { DeviceError, ShapeError, UsageError } from "../../core/errors.ts";
import type { ProgramBuilder, Run, WeightUpload } from "../../ops/backend.ts";
import type { ReferenceProgram } from "./program.ts";
import { createReferenceBackend } from "./reference.ts";
import type { Storage } from "./values.ts";

function upload(dtype: WeightDType, shape: readonly number[], bytes: Uint8Array): WeightUpload {
  return {
    name: "w",
    dtype,
    shape,
    byteLength: bytes.byteLength,
    read: (target) => {
      target.set(bytes);
      return Promise.resolve();
    },
  };
}

const bytesOf = (values: Float32Array | Float64Array): Uint8Array => new Uint8Array(values.buffer);

/** y = w x with w [1, 2], behind a state that keeps the last x. */
async function buildProduct(storage: Storage, weight: WeightUpload): Promise<ReferenceProgram> {
  const builder = createReferenceBackend({ storage }).createBuilder({ maxRows: 4 });
  const w = await builder.weight(weight);
  const shift = builder.state("shift", [2], 0);
  const x = builder.input("x", [2]);
  const delta = builder.scratch("delta", [2], "token");
  const last = builder.scratch("last", [2], "logit");
  const y = builder.output("y", [1]);
  return builder.build((ops) => {
    ops.shiftDelta(delta, x, shift);
    ops.selectRows(last, x);
    ops.matmul(y, w, last);
  });
}

const PLAIN = upload("f32", [1, 2], bytesOf(Float32Array.of(2, -1)));
const one = (slot: number, nRows = 1): Run[] => [{ slot, nRows, logits: "all" }];

describe("storage", () => {
  test("f32 rounds every stored value once, f64 keeps f64 weights and sums whole", async () => {
    const fine = 1 + 2 ** -40;
    const weight = upload("f64", [1, 2], bytesOf(Float64Array.of(fine, 2 ** -30)));
    const results = new Map<Storage, { y: number; isRounded: boolean }>();
    for (const storage of ["f32", "f64"] as const) {
      const program = await buildProduct(storage, weight);
      const [exact] = await program.stepF64(one(program.createSlot()), [Float32Array.of(1, 1)]);
      const [rounded] = await program.step(one(program.createSlot()), [Float32Array.of(1, 1)]);
      results.set(storage, { y: exact!, isRounded: rounded === Math.fround(exact!) });
    }
    expect(results.get("f64")).toEqual({ y: fine + 2 ** -30, isRounded: true });
    expect(results.get("f32")).toEqual({ y: 1, isRounded: true });
  });

  test("f64 decodes other weight types to what they stand for", async () => {
    const weight = upload("f16", [1, 2], Uint8Array.of(0, 0x3c, 0, 0xc0)); // 1, -2
    const program = await buildProduct("f64", weight);
    expect([...(await program.step(one(program.createSlot()), [Float32Array.of(3, 5)]))]).toEqual([-7]);
  });

  test("f64 states are kept beyond f32 and shown by readSlotF64", async () => {
    const builder = createReferenceBackend({ storage: "f64" }).createBuilder({ maxRows: 1 });
    const S = builder.state("wkv", [1, 1, 1], 0);
    const rows = ["r", "w", "k", "v", "kk", "a"].map((name) => builder.input(name, [1]));
    const [y, out] = [builder.scratch("y", [1], "token"), builder.output("out", [1])];
    const program = await builder.build((ops) => {
      const [r, w, k, v, kk, a] = rows as [typeof y, typeof y, typeof y, typeof y, typeof y, typeof y];
      ops.wkv7(y, S, r, w, k, v, kk, a);
      ops.selectRows(out, y);
    });
    const slot = program.createSlot();
    const tenth = Math.fround(0.1);
    await program.step(
      one(slot),
      [1, 0.5, tenth, tenth, 0, 0].map((value) => Float32Array.of(value)),
    );
    expect(await program.readSlotF64(slot)).toEqual(Float64Array.of(tenth * tenth));
    expect(await program.readSlot(slot)).toEqual(Float32Array.of(tenth * tenth));
  });

  test("the program tells the bytes its decoded weights take", async () => {
    expect((await buildProduct("f32", PLAIN)).weightByteLength).toBe(8);
    expect((await buildProduct("f64", PLAIN)).weightByteLength).toBe(16);
  });
});

describe("refusals", () => {
  const builder = (): ProgramBuilder => createReferenceBackend().createBuilder({ maxRows: 4 });

  test.each([0, 1.5, -1, NaN])("maxRows of %d", (maxRows) => {
    expect(() => createReferenceBackend().createBuilder({ maxRows })).toThrow(UsageError);
  });

  test("a weight whose bytes do not fit its shape", async () => {
    const wrong = upload("f32", [1, 3], new Uint8Array(8));
    await expect(builder().weight(wrong)).rejects.toThrow(ShapeError);
    await expect(builder().weight(wrong)).rejects.toThrow("takes 12 bytes, but the upload announces 8");
  });

  test("a weight beyond all memory, with the arithmetic", async () => {
    const side = 2 ** 22;
    const huge = { ...PLAIN, shape: [side, side], byteLength: 4 * side * side };
    await expect(builder().weight(huge)).rejects.toThrow(DeviceError);
    await expect(builder().weight(huge)).rejects.toThrow(
      `[${side}, ${side}] in f32 takes 70368744177664 bytes`,
    );
  });

  test("a failing read rejects with its error, and so does an aborted one", async () => {
    const failing: WeightUpload = { ...PLAIN, read: () => Promise.reject(new Error("disk")) };
    await expect(builder().weight(failing)).rejects.toThrow("disk");
    const polite: WeightUpload = {
      ...PLAIN,
      read: (_target, signal) => {
        signal?.throwIfAborted();
        return Promise.resolve();
      },
    };
    await expect(builder().weight(polite, AbortSignal.abort(new Error("enough")))).rejects.toThrow("enough");
  });

  test("a second output, a program without one, and use after the building", async () => {
    const twice = builder();
    twice.output("y", [1]);
    expect(() => twice.output("z", [1])).toThrow('output "z": a program has one output');
    await expect(builder().build(() => undefined)).rejects.toThrow("has no output");
    await twice.build(() => undefined);
    await expect(twice.build(() => undefined)).rejects.toThrow(UsageError);
    expect(() => twice.scratch("late", [1], "token")).toThrow('scratch "late" is declared after the end');
    const disposed = builder();
    disposed.dispose();
    expect(() => disposed.state("late", [1], 0)).toThrow(UsageError);
  });

  test("a forward pass with wrong shapes, when it is built", async () => {
    const wrong = builder();
    const [x, y] = [wrong.input("x", [2]), wrong.output("y", [3])];
    await expect(
      wrong.build((ops) => {
        ops.selectRows(y, x);
      }),
    ).rejects.toThrow(ShapeError);
  });

  test("a step whose runs or inputs do not fit", async () => {
    const program = await buildProduct("f32", PLAIN);
    const slot = program.createSlot();
    const rows = (n: number): Float32Array => new Float32Array(2 * n);
    await expect(program.step([], [rows(0)])).rejects.toThrow("a step of this program has 1 to 4 rows");
    await expect(program.step(one(slot, 5), [rows(5)])).rejects.toThrow("but 5 were given");
    await expect(program.step(one(slot, 0), [rows(0)])).rejects.toThrow(`slot ${slot} has 0 rows`);
    await expect(program.step(one(slot, 1e9), [rows(1)])).rejects.toThrow(UsageError);
    await expect(program.step([...one(slot), ...one(slot)], [rows(2)])).rejects.toThrow("has two runs");
    await expect(program.step(one(slot, 2), [rows(1)])).rejects.toThrow(
      'input "x" needs 2 rows of 2, 4 elements, but 2 were given',
    );
    await expect(program.step(one(slot), [])).rejects.toThrow("but none were given");
    await expect(program.step(one(slot), [rows(1), rows(1)])).rejects.toThrow("has 1 inputs, but 2");
    await expect(program.writeSlot(slot, new Float32Array(3))).rejects.toThrow("has 2 elements, but 3");
    expect(await program.readSlot(slot)).toEqual(new Float32Array(2));
  });

  test("everything after dispose", async () => {
    const program = await buildProduct("f32", PLAIN);
    const slot = program.createSlot();
    program.dispose();
    expect(() => program.createSlot()).toThrow("was disposed");
    await expect(program.readSlot(slot)).rejects.toThrow(UsageError);
    await expect(program.step(one(slot), [new Float32Array(2)])).rejects.toThrow(UsageError);
  });
});

test("scratch that a forward pass reads before it writes is NaN, in every step", async () => {
  const builder = createReferenceBackend().createBuilder({ maxRows: 1 });
  builder.input("x", [1]);
  const [unwritten, y] = [builder.scratch("s", [1], "token"), builder.output("y", [1])];
  const program = await builder.build((ops) => {
    ops.selectRows(y, unwritten);
    ops.activate(unwritten, unwritten, "none");
  });
  const slot = program.createSlot();
  expect([...(await program.step(one(slot), [Float32Array.of(1)]))]).toEqual([NaN]);
  expect([...(await program.step(one(slot), [Float32Array.of(1)]))]).toEqual([NaN]);
});

test("a long step lets timers through, and stops between two operations when one of them aborts it", async () => {
  const builder = createReferenceBackend().createBuilder({ maxRows: 1 });
  const x = builder.input("x", [64]);
  const counter = builder.state("counter", [64], 0);
  const [s, y] = [builder.scratch("s", [64], "token"), builder.output("y", [64])];
  const program = await builder.build((ops) => {
    for (let i = 0; i < 100_000; i++) ops.activate(s, x, "tanh");
    ops.shiftDelta(s, x, counter);
    ops.selectRows(y, s);
  });
  const slot = program.createSlot();
  const controller = new AbortController();
  const reason = new Error("enough");
  const step = program.step(one(slot), [new Float32Array(64).fill(1)], { signal: controller.signal });
  setTimeout(() => {
    controller.abort(reason);
  }, 1);
  await expect(step).rejects.toBe(reason);
  expect(await program.readSlot(slot)).toEqual(new Float32Array(64));
});
