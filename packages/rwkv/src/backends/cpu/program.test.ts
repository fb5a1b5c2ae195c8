import { describe, expect, test, vi } from "vitest";
import { DeviceError, ShapeError, UnsupportedError, UsageError } from "../../core/errors.ts";
import type { Program } from "../../ops/backend.ts";
import type { Tensor } from "../../ops/tensor.ts";
import { createCpuBackend } from "./cpu.ts";
import { buildProgram, seededRandom, stepAll, uploadOf } from "./testing.ts";

const backend = await createCpuBackend();
const random = seededRandom(7);
const randomValues = (n: number): Float32Array => Float32Array.from({ length: n }, () => random() - 0.5);

/** x -> shift with the row before -> nProducts products with one matrix [width, width]; the state is the last row. */
async function shiftingProgram(width: number, maxRows: number, nProducts = 1): Promise<Program> {
  const builder = backend.createBuilder({ maxRows });
  const w = await builder.weight(uploadOf("w", [width, width], randomValues(width * width)));
  const mix = await builder.weight(uploadOf("mix", [width], randomValues(width)));
  const shift = builder.state("shift", [width], 0.25);
  return buildProgram(builder, width, width, ({ x }) => {
    const mixed = builder.scratch("mixed", [width], "token");
    const product = builder.scratch("product", [width], "token");
    return (ops) => {
      ops.tokenShift([mixed], x, shift, [mix]);
      for (let i = 0; i < nProducts; i++) ops.matmul(product, w, mixed);
      return product;
    };
  });
}

test("the backend names itself and its instruction set", () => {
  expect(backend.name).toBe("cpu");
  expect(backend.description).toContain("SIMD");
});

describe("rows", () => {
  test("a step larger than all before it has the bits of its rows one by one", async () => {
    const width = 37;
    const program = await shiftingProgram(width, 50);
    const rows = randomValues(50 * width);
    const single = program.createSlot();
    const one: Float32Array[] = [];
    for (let row = 0; row < 50; row++) {
      one.push(await stepAll(program, single, rows.subarray(row * width, (row + 1) * width), width));
    }
    for (const nRows of [2, 3, 50]) {
      const slot = program.createSlot();
      const together = await stepAll(program, slot, rows.subarray(0, nRows * width), width);
      for (let row = 0; row < nRows; row++) {
        expect(together.subarray(row * width, (row + 1) * width)).toEqual(one[row]);
      }
    }
  });

  test("a command that is cut into parts has the bits of the whole", async () => {
    // 200 rows of 512 x 512 are 52 million multiply-adds: more than one slice by far.
    const width = 512;
    const program = await shiftingProgram(width, 200);
    const rows = randomValues(200 * width);
    const together = await stepAll(program, program.createSlot(), rows, width);
    const last = program.createSlot();
    await program.writeSlot(last, rows.slice(198 * width, 199 * width));
    const alone = await stepAll(program, last, rows.subarray(199 * width), width);
    expect(together.subarray(199 * width)).toEqual(alone);
  });

  test("only wanted logits come back, in the order of the runs", async () => {
    const program = await shiftingProgram(4, 8);
    const slots = [0, 1, 2].map(() => program.createSlot());
    const rows = randomValues(6 * 4);
    const runs = [
      { slot: slots[0]!, nRows: 2, logits: "last" as const },
      { slot: slots[1]!, nRows: 1, logits: "none" as const },
      { slot: slots[2]!, nRows: 3, logits: "all" as const },
    ];
    const logits = (await program.step(runs, [rows])).slice();
    expect(logits.length).toBe(4 * 4);
    const fresh = program.createSlot();
    const first = await stepAll(program, fresh, rows.subarray(0, 8), 4);
    expect(logits.subarray(0, 4)).toEqual(first.subarray(4));
    await program.resetSlot(fresh);
    expect(logits.subarray(4)).toEqual(await stepAll(program, fresh, rows.subarray(12), 4));
  });

  test("a step without wanted logits returns none", async () => {
    const program = await shiftingProgram(4, 8);
    const logits = await program.step(
      [{ slot: program.createSlot(), nRows: 1, logits: "none" }],
      [randomValues(4)],
    );
    expect(logits.length).toBe(0);
  });
});

describe("slots", () => {
  test("begin with the initial value and advance with the rows", async () => {
    const program = await shiftingProgram(4, 8);
    const slot = program.createSlot();
    expect(program.stateElements).toBe(4);
    expect([...(await program.readSlot(slot))]).toEqual([0.25, 0.25, 0.25, 0.25]);
    const rows = randomValues(8);
    await stepAll(program, slot, rows, 4);
    expect(await program.readSlot(slot)).toEqual(rows.slice(4));
    const copy = program.createSlot();
    await program.copySlot(copy, slot);
    expect(await program.readSlot(copy)).toEqual(rows.slice(4));
    await program.resetSlot(slot);
    expect([...(await program.readSlot(slot))]).toEqual([0.25, 0.25, 0.25, 0.25]);
  });

  test("use released memory again: many sequences and many steps do not grow it", async () => {
    const grow = vi.spyOn(WebAssembly.Memory.prototype, "grow");
    try {
      const program = await shiftingProgram(256, 16);
      const rows = randomValues(16 * 256);
      const round = async (): Promise<void> => {
        const slots = Array.from({ length: 40 }, () => program.createSlot());
        for (const slot of slots) await stepAll(program, slot, rows, 256);
        for (const slot of slots) program.releaseSlot(slot);
      };
      await round();
      grow.mockClear();
      for (let i = 0; i < 50; i++) await round();
      expect(grow).not.toHaveBeenCalled();
    } finally {
      grow.mockRestore();
    }
  });

  test("made as copies have their memory at once: steps that make them differ do not grow it", async () => {
    const program = await shiftingProgram(256, 16);
    const slot = program.createSlot();
    await stepAll(program, slot, randomValues(16 * 256), 256);
    const before = await program.readSlot(slot);
    const copies = Array.from({ length: 2000 }, () => program.createSlot(slot));
    const grow = vi.spyOn(WebAssembly.Memory.prototype, "grow");
    try {
      const rows = randomValues(256);
      for (const copy of copies) await stepAll(program, copy, rows, 256);
      expect(grow).not.toHaveBeenCalled();
      expect(await program.readSlot(copies[7]!)).toEqual(rows);
      expect(await program.readSlot(slot)).toEqual(before);
    } finally {
      grow.mockRestore();
    }
  });

  test("that were released or never made are refused, with what to do", async () => {
    const program = await shiftingProgram(4, 8);
    const slot = program.createSlot();
    program.releaseSlot(slot);
    expect(() => program.releaseSlot(slot)).toThrow(UsageError);
    await expect(program.readSlot(slot)).rejects.toThrow(/slot 0 does not exist or was released/);
    await expect(program.resetSlot(7)).rejects.toThrow(UsageError);
    await expect(stepAll(program, slot, randomValues(4), 4)).rejects.toThrow(UsageError);
  });

  test("refuse a state of another length", async () => {
    const program = await shiftingProgram(4, 8);
    const slot = program.createSlot();
    await expect(program.writeSlot(slot, new Float32Array(5))).rejects.toThrow(
      /has 4 elements, but 5 were given/,
    );
  });
});

describe("a long step", () => {
  /** About 0.5 s of products. */
  const long = shiftingProgram(512, 256, 40);

  test("lets timers run and stops soon after an abort, with the signal's reason", async () => {
    const program = await long;
    const slot = program.createSlot();
    const controller = new AbortController();
    const reason = new Error("enough");
    setTimeout(() => controller.abort(reason), 20);
    let nTicks = 0;
    const timer = setInterval(() => nTicks++, 5);
    const started = performance.now();
    const run = { slot, nRows: 256, logits: "last" as const };
    const rows = randomValues(256 * 512);
    const step = program.step([run], [rows], { signal: controller.signal });
    await expect(step).rejects.toBe(reason);
    const abortedMs = performance.now() - started;
    clearInterval(timer);
    expect(nTicks).toBeGreaterThan(0);

    const whole = performance.now();
    await program.step([run], [rows]); // works again
    expect(abortedMs).toBeLessThan(performance.now() - whole);
  });

  test("refuses a second step meanwhile", async () => {
    const program = await long;
    const run = { slot: program.createSlot(), nRows: 256, logits: "none" as const };
    const controller = new AbortController();
    const rows = randomValues(256 * 512);
    const first = program.step([run], [rows], { signal: controller.signal });
    await expect(program.step([run], [rows])).rejects.toThrow(UsageError);
    controller.abort();
    await expect(first).rejects.toBe(controller.signal.reason);
  });

  test("keeps the memory of a slot released meanwhile until it ends", async () => {
    const width = 512;
    const builder = backend.createBuilder({ maxRows: 256 });
    const w = await builder.weight(uploadOf("w", [width, width], randomValues(width * width)));
    const shift = builder.state("shift", [width], 0.25);
    const program = await buildProgram(builder, width, width, ({ x }) => {
      const product = builder.scratch("product", [width], "token");
      return (ops) => {
        for (let i = 0; i < 20; i++) ops.matmul(product, w, x);
        ops.shiftDelta(product, x, shift); // writes the state after the pauses
        return product;
      };
    });
    const slot = program.createSlot();
    const step = program.step([{ slot, nRows: 256, logits: "none" }], [randomValues(256 * width)]);
    program.releaseSlot(slot);
    const other = program.createSlot(); // would lie in the same place
    await step;
    expect(new Set(await program.readSlot(other))).toEqual(new Set([0.25]));
  });

  test("survives that slots made meanwhile move the memory", async () => {
    const program = await shiftingProgram(512, 256, 20);
    const rows = randomValues(256 * 512);
    const runOf = (slot: number): { slot: number; nRows: number; logits: "last" } => ({
      slot,
      nRows: 256,
      logits: "last",
    });
    const alone = (await program.step([runOf(program.createSlot())], [rows])).slice();
    const step = program.step([runOf(program.createSlot())], [rows]);
    for (let i = 0; i < 500; i++) program.createSlot();
    expect(await step).toEqual(alone);
  });

  test("fails with a UsageError if the program is disposed meanwhile", async () => {
    const program = await shiftingProgram(512, 256, 40);
    const step = program.step(
      [{ slot: program.createSlot(), nRows: 256, logits: "none" }],
      [randomValues(256 * 512)],
    );
    program.dispose();
    await expect(step).rejects.toThrow(/disposed/);
    expect(() => program.createSlot()).toThrow(/disposed/);
  });

  test("does not begin when its signal is aborted already", async () => {
    const program = await shiftingProgram(4, 8);
    const slot = program.createSlot();
    const signal = AbortSignal.abort(new Error("no"));
    const step = program.step([{ slot, nRows: 1, logits: "none" }], [randomValues(4)], { signal });
    await expect(step).rejects.toThrow("no");
    expect([...(await program.readSlot(slot))]).toEqual([0.25, 0.25, 0.25, 0.25]);
  });
});

test("short steps, one after the other, let timers run too", async () => {
  const program = await shiftingProgram(64, 1);
  const slot = program.createSlot();
  const row = randomValues(64);
  let nTicks = 0;
  const timer = setInterval(() => nTicks++, 1);
  const giveUpAt = performance.now() + 10_000;
  while (nTicks < 3 && performance.now() < giveUpAt) {
    await program.step([{ slot, nRows: 1, logits: "last" }], [row]);
  }
  clearInterval(timer);
  expect(nTicks).toBe(3);
});

describe("wrong steps are refused before anything runs", () => {
  test.each([
    ["no runs", [], 0, /1 to 8 rows, but 0/],
    ["too many rows", [{ slot: 0, nRows: 9, logits: "none" as const }], 9, /1 to 8 rows, but 9/],
    ["a run without rows", [{ slot: 0, nRows: 0, logits: "none" as const }], 0, /has 0 rows/],
    ["a fraction of a row", [{ slot: 0, nRows: 1.5, logits: "none" as const }], 1, /has 1.5 rows/],
    ["too few inputs", [{ slot: 0, nRows: 2, logits: "none" as const }], 1, /2 rows of 4, 8 elements, but 4/],
    [
      "two runs of one slot",
      [
        { slot: 0, nRows: 1, logits: "none" as const },
        { slot: 0, nRows: 1, logits: "none" as const },
      ],
      2,
      /two runs/,
    ],
  ])("%s", async (_title, runs, nRows, message) => {
    const program = await shiftingProgram(4, 8);
    program.createSlot();
    const step = program.step(runs, [new Float32Array(4 * nRows)]);
    await expect(step).rejects.toThrow(UsageError);
    await expect(program.step(runs, [new Float32Array(4 * nRows)])).rejects.toThrow(message);
  });

  test("another number of inputs", async () => {
    const program = await shiftingProgram(4, 8);
    const run = { slot: program.createSlot(), nRows: 1, logits: "none" as const };
    await expect(program.step([run], [])).rejects.toThrow(/has 1 inputs, but 0/);
  });
});

describe("building", () => {
  const read = (): Promise<void> => Promise.reject(new Error("must not be read"));

  test("a weight beyond 4 GB is a DeviceError before it is read", async () => {
    const builder = backend.createBuilder({ maxRows: 1 });
    const upload = { name: "huge", shape: [50000, 50000], dtype: "f16" as const, byteLength: 5e9, read };
    await expect(builder.weight(upload)).rejects.toThrow(DeviceError);
    await expect(builder.weight(upload)).rejects.toThrow(/weight "huge" needs 5 GB/);
  });

  test("f64 weights are refused with what to do", async () => {
    const builder = backend.createBuilder({ maxRows: 1 });
    const upload = { name: "w", shape: [2, 2], dtype: "f64" as const, byteLength: 32, read };
    await expect(builder.weight(upload)).rejects.toThrow(UnsupportedError);
  });

  test("a weight of another length than its shape is refused", async () => {
    const builder = backend.createBuilder({ maxRows: 1 });
    const upload = { name: "w", shape: [2, 2], dtype: "f32" as const, byteLength: 12, read };
    await expect(builder.weight(upload)).rejects.toThrow(ShapeError);
  });

  test("weights asked for together are read one after the other, each into memory that stays", async () => {
    const builder = backend.createBuilder({ maxRows: 1 });
    const width = 64;
    const matrices = [1, 2, 3].map((value) => new Float32Array(width * width).fill(value));
    const uploads = matrices.map((values, i) => {
      const upload = uploadOf(`w${i}`, [width, width], values);
      const slowRead = async (target: Uint8Array): Promise<void> => {
        await new Promise((resolve) => setTimeout(resolve, 1));
        await upload.read(target);
      };
      return builder.weight({ ...upload, read: slowRead });
    });
    const weights = await Promise.all(uploads);
    const program = await buildProgram(builder, width, width, ({ x }) => {
      const sum = builder.scratch("sum", [width], "token");
      const product = builder.scratch("product", [width], "token");
      return (ops) => {
        ops.copy(sum, x);
        for (const w of weights) {
          ops.matmul(product, w, x);
          ops.add(sum, product, 1);
        }
        return sum;
      };
    });
    expect(program.weightByteLength).toBe(3 * 4 * width * width);
    const ones = new Float32Array(width).fill(1);
    const [first] = await stepAll(program, program.createSlot(), ones, width);
    expect(first).toBe(1 + width * (1 + 2 + 3));
  });

  test("a weight that cannot be read fails alone; the next one is read", async () => {
    const builder = backend.createBuilder({ maxRows: 1 });
    const failing = builder.weight({ name: "a", shape: [4], dtype: "f32", byteLength: 16, read });
    const working = builder.weight(uploadOf("b", [4], new Float32Array(4)));
    await expect(failing).rejects.toThrow("must not be read");
    await expect(working).resolves.toMatchObject({ name: "b" });
  });

  test("an aborted signal stops before the weight is read", async () => {
    const builder = backend.createBuilder({ maxRows: 1 });
    const upload = { name: "a", shape: [4], dtype: "f32" as const, byteLength: 16, read };
    const signal = AbortSignal.abort(new Error("enough"));
    await expect(builder.weight(upload, signal)).rejects.toThrow("enough");
  });

  test("ends once: afterwards nothing can be declared or built, and one output is needed", async () => {
    const builder = backend.createBuilder({ maxRows: 1 });
    const x = builder.input("x", [4]);
    const output: Tensor = builder.output("output", [4]);
    expect(() => builder.output("another", [4])).toThrow(/one output/);
    await builder.build((ops) => ops.selectRows(output, x));
    expect(() => builder.input("late", [4])).toThrow(UsageError);
    await expect(builder.build(() => undefined)).rejects.toThrow(UsageError);
    await expect(backend.createBuilder({ maxRows: 1 }).build(() => undefined)).rejects.toThrow(/no output/);
  });

  test("a disposed builder takes no more weights", async () => {
    const builder = backend.createBuilder({ maxRows: 1 });
    builder.dispose();
    await expect(builder.weight(uploadOf("w", [4], new Float32Array(4)))).rejects.toThrow(UsageError);
  });

  test.each([0, -1, 1.5, NaN])("maxRows %d is refused", (maxRows) => {
    expect(() => backend.createBuilder({ maxRows })).toThrow(UsageError);
  });
});
