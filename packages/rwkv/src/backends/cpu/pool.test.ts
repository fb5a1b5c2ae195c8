import { afterAll, describe, expect, test } from "vitest";
import { DeviceError, UsageError } from "../../core/errors.ts";
import type { Thread, ThreadHost, ThreadTask } from "../../core/platform.ts";
import type { Backend, Program, Run } from "../../ops/backend.ts";
import { nodeThreads } from "../../platform/node/threads.ts";
import { createCpuBackend } from "./cpu.ts";
import { buildProgram, seededRandom, stepAll, threadedBackend, uploadOf } from "./testing.ts";

const random = seededRandom(3);
const randomValues = (n: number): Float32Array => Float32Array.from({ length: n }, () => random() - 0.5);

const open: Program[] = [];
afterAll(() => {
  for (const program of open) program.dispose();
});

interface Shape {
  readonly width: number;
  readonly maxRows: number;
  readonly nThreads: number;
  readonly nProducts?: number;
  readonly host?: ThreadHost;
}

/** x -> shift with the row before -> products that read each other's whole rows, a barrier before each. */
async function productsProgram({ width, maxRows, nThreads, nProducts = 2, host }: Shape): Promise<Program> {
  const backend =
    nThreads === 1
      ? await createCpuBackend({ threads: 1 })
      : await threadedBackend(nThreads, host ?? nodeThreads);
  return buildProducts(backend, width, maxRows, nProducts);
}

async function buildProducts(
  backend: Backend,
  width: number,
  maxRows: number,
  nProducts: number,
): Promise<Program> {
  const builder = backend.createBuilder({ maxRows });
  const values = Float32Array.from({ length: width * width }, (_, i) => ((i * 37) % 101) / 101 - 0.5);
  const w = await builder.weight(uploadOf("w", [width, width], values));
  const mix = await builder.weight(uploadOf("mix", [width], new Float32Array(width).fill(0.25)));
  const shift = builder.state("shift", [width], 0.25);
  const program = await buildProgram(builder, width, width, ({ x }) => {
    const a = builder.scratch("a", [width], "token");
    const b = builder.scratch("b", [width], "token");
    return (ops) => {
      ops.tokenShift([a], x, shift, [mix]);
      for (let i = 0; i < nProducts; i++) {
        ops.matmul(b, w, a);
        ops.activate(a, b, "tanh");
      }
      return a;
    };
  });
  open.push(program);
  return program;
}

describe("the number of threads", () => {
  test("is the one asked for, told in the backend's description", async () => {
    const backend = await createCpuBackend({ threads: 3, host: nodeThreads });
    expect(backend.description).toBe("cpu: WebAssembly SIMD, 3 threads");
  });

  test("is by default that of the cores, up to 4", async () => {
    const described = async (nCores: number): Promise<string> =>
      (await createCpuBackend({ host: { ...nodeThreads, nCores } })).description;
    expect(await described(1)).toBe("cpu: WebAssembly SIMD, 1 thread");
    expect(await described(3)).toContain("3 threads");
    expect(await described(64)).toContain("4 threads");
  });

  test("is one where there are none to share memory with, which the description says", async () => {
    const { description } = await createCpuBackend({ threads: 2, host: null });
    expect(description).toBe("cpu: WebAssembly SIMD, 1 thread (threads cannot share memory here)");
    expect((await createCpuBackend({ threads: 1, host: null })).description).toMatch(/1 thread$/);
  });

  test("is one where the engine refuses a shared memory of full size", async () => {
    const { Memory } = WebAssembly;
    try {
      WebAssembly.Memory = class extends Memory {
        constructor(descriptor: WebAssembly.MemoryDescriptor) {
          if (descriptor.shared === true) throw new RangeError("no address space");
          super(descriptor);
        }
      };
      const { description } = await createCpuBackend({ threads: 2, host: nodeThreads });
      expect(description).toContain("1 thread (threads cannot share memory here)");
    } finally {
      WebAssembly.Memory = Memory;
    }
  });
});

describe("the bits are those of one thread", () => {
  test.each([1, 3, 15, 16, 17, 33, 100])("for rows of %d, some threads without a column", async (width) => {
    const rows = randomValues(5 * width);
    const results: Float32Array[] = [];
    for (const nThreads of [1, 2, 3]) {
      const program = await productsProgram({ width, maxRows: 5, nThreads });
      results.push(await stepAll(program, program.createSlot(), rows, width));
      program.dispose();
    }
    expect(results[1]).toEqual(results[0]);
    expect(results[2]).toEqual(results[0]);
  });

  test("for matrices that are decoded into panels, each thread in its own", async () => {
    const [width, nOut] = [64, 200];
    const bytes = Uint8Array.from({ length: (nOut * width * 18) / 32 }, () => random() * 256);
    for (let block = 1; block < bytes.length; block += 18) bytes[block]! &= 0x3f; // f16 scales below 2
    const rows = randomValues(9 * width);
    const results: Float32Array[] = [];
    for (const nThreads of [1, 3]) {
      const backend =
        nThreads === 1
          ? await createCpuBackend({ threads: 1 })
          : await threadedBackend(nThreads, nodeThreads);
      const builder = backend.createBuilder({ maxRows: 9 });
      const w = await builder.weight(uploadOf("w", [nOut, width], bytes, "q4_0"));
      const program = await buildProgram(builder, width, nOut, ({ x }) => {
        const product = builder.scratch("product", [nOut], "token");
        return (ops) => {
          ops.matmul(product, w, x);
          return product;
        };
      });
      open.push(program);
      results.push(await stepAll(program, program.createSlot(), rows, width));
    }
    expect(results[1]).toEqual(results[0]);
  });

  test("while slots made meanwhile move the end of the memory", async () => {
    const program = await productsProgram({ width: 256, maxRows: 256, nThreads: 2, nProducts: 20 });
    const rows = randomValues(256 * 256);
    const alone = await stepAll(program, program.createSlot(), rows, 256);
    const step = stepAll(program, program.createSlot(), rows, 256);
    for (let i = 0; i < 500; i++) program.createSlot();
    expect(await step).toEqual(alone);
  });
});

test("steps too short to be worth waking threads stay on the calling one, with the same bits", async () => {
  let nFinished = 0;
  const host: ThreadHost = {
    nCores: 2,
    spawnThread: (task, listener) =>
      nodeThreads.spawnThread(task, {
        ...listener,
        onFinish() {
          nFinished += 1;
          listener.onFinish();
        },
      }),
  };
  const backend = await createCpuBackend({ threads: 2, host });
  const width = 256;
  const program = await buildProducts(backend, width, 64, 2); // 131,072 multiply-adds a row
  const slot = program.createSlot();
  const rows = randomValues(64 * width);
  const together = await stepAll(program, slot, rows, width);
  expect(nFinished).toBe(1);
  await program.resetSlot(slot);
  for (let row = 0; row < 64; row++) {
    const alone = await stepAll(program, slot, rows.subarray(row * width, (row + 1) * width), width);
    expect(alone).toEqual(together.subarray(row * width, (row + 1) * width));
  }
  expect(nFinished).toBe(1);
});

test("10,000 short steps end, with the bits of one thread", async () => {
  const width = 32;
  const rows = Array.from({ length: 50 }, () => randomValues(width));
  const lasts: Float32Array[] = [];
  for (const nThreads of [1, 2]) {
    const program = await productsProgram({ width, maxRows: 1, nThreads });
    const slot = program.createSlot();
    const run: Run = { slot, nRows: 1, logits: "last" };
    const sums = new Float32Array(width);
    for (let i = 0; i < 10_000; i++) {
      const logits = await program.step([run], [rows[i % 50]!]);
      for (let j = 0; j < width; j++) sums[j]! += logits[j]!;
    }
    lasts.push(sums);
  }
  expect(lasts[1]).toEqual(lasts[0]);
});

describe("a long step", () => {
  const width = 512;
  const rows = randomValues(256 * width);
  const long = productsProgram({ width, maxRows: 256, nThreads: 2, nProducts: 60 });

  test("leaves the event loop free and stops inside after an abort, with the signal's reason", async () => {
    const program = await long;
    const run: Run = { slot: program.createSlot(), nRows: 256, logits: "last" };
    const before = performance.now();
    const whole = (await program.step([run], [rows])).slice();
    const wholeMs = performance.now() - before;

    const controller = new AbortController();
    const reason = new Error("enough");
    let nTicks = 0;
    const timer = setInterval(() => nTicks++, wholeMs / 50);
    setTimeout(() => controller.abort(reason), wholeMs / 10);
    const started = performance.now();
    await expect(program.step([run], [rows], { signal: controller.signal })).rejects.toBe(reason);
    expect(performance.now() - started).toBeLessThan(wholeMs);
    clearInterval(timer);
    expect(nTicks).toBeGreaterThan(0);

    // The next step is whole again.
    await program.resetSlot(run.slot);
    expect(await program.step([run], [rows])).toEqual(whole);
  });

  test("refuses a second step meanwhile", async () => {
    const program = await long;
    const run: Run = { slot: program.createSlot(), nRows: 256, logits: "none" };
    const controller = new AbortController();
    const first = program.step([run], [rows], { signal: controller.signal });
    await expect(program.step([run], [rows])).rejects.toThrow(UsageError);
    controller.abort();
    await expect(first).rejects.toBe(controller.signal.reason);
  });

  test("a hundred aborts at any moment leave a program that works", async () => {
    const program = await productsProgram({ width: 64, maxRows: 64, nThreads: 3, nProducts: 10 });
    const few = randomValues(64 * 64);
    const slot = program.createSlot();
    const want = await stepAll(program, slot, few, 64);
    for (let i = 0; i < 100; i++) {
      const controller = new AbortController();
      const run: Run = { slot, nRows: 64, logits: "none" };
      const step = program.step([run], [few], { signal: controller.signal });
      if (i % 2 === 0) await new Promise((resolve) => setImmediate(resolve));
      controller.abort();
      await step.catch((error: unknown) => expect(error).toBe(controller.signal.reason));
    }
    await program.resetSlot(slot);
    expect(await stepAll(program, slot, few, 64)).toEqual(want);
  });

  test("fails with a UsageError if the program is disposed meanwhile", async () => {
    const program = await productsProgram({ width, maxRows: 256, nThreads: 2, nProducts: 60 });
    const run: Run = { slot: program.createSlot(), nRows: 256, logits: "none" };
    const step = program.step([run], [rows]);
    program.dispose();
    await expect(step).rejects.toThrow(/disposed/);
    expect(() => program.createSlot()).toThrow(/disposed/);
  });
});

describe("threads that end by themselves", () => {
  interface Spawned {
    readonly task: ThreadTask;
    readonly fail: (cause: unknown) => void;
    isTerminated: boolean;
  }

  /** Real threads whose end can be told at will. */
  function failingHost(): { host: ThreadHost; spawned: Spawned[] } {
    const spawned: Spawned[] = [];
    const host: ThreadHost = {
      nCores: 2,
      spawnThread(task, listener): Thread {
        const thread = nodeThreads.spawnThread(task, listener);
        const known: Spawned = { task, fail: (cause) => listener.onFail(cause), isTerminated: false };
        spawned.push(known);
        return {
          keepAlive: (isWanted) => thread.keepAlive(isWanted),
          terminate() {
            known.isTerminated = true;
            thread.terminate();
          },
        };
      },
    };
    return { host, spawned };
  }

  test("fail the step in progress and all later ones, and end the others", async () => {
    const { host, spawned } = failingHost();
    const program = await productsProgram({ width: 512, maxRows: 256, nThreads: 2, nProducts: 60, host });
    const run: Run = { slot: program.createSlot(), nRows: 256, logits: "none" };
    const rows = randomValues(256 * 512);
    const step = program.step([run], [rows]);
    spawned[1]!.fail(new Error("out of memory"));
    await expect(step).rejects.toThrow(DeviceError);
    await expect(program.step([run], [rows])).rejects.toThrow(
      /thread of the cpu backend failed: out of memory/,
    );
    expect(spawned.every(({ isTerminated }) => isTerminated)).toBe(true);
  });

  test("fail the building if they cannot begin", async () => {
    const { host, spawned } = failingHost();
    const broken: ThreadHost = {
      ...host,
      spawnThread(task, listener) {
        // (module (import "x" "y" (func))), which nobody gives it
        const type = [1, 4, 1, 0x60, 0, 0];
        const imports = [2, 7, 1, 1, 0x78, 1, 0x79, 0, 0];
        const module = new WebAssembly.Module(
          Uint8Array.of(0, 0x61, 0x73, 0x6d, 1, 0, 0, 0, ...type, ...imports),
        );
        return host.spawnThread({ ...task, module }, listener);
      },
    };
    const built = productsProgram({ width: 16, maxRows: 1, nThreads: 2, host: broken });
    await expect(built).rejects.toThrow(DeviceError);
    await expect(built).rejects.toThrow(/thread of the cpu backend failed: .*Import/);
    expect(spawned.every(({ isTerminated }) => isTerminated)).toBe(true);
  });

  test("fail the building if the platform refuses them, and end those that were started", async () => {
    const { host, spawned } = failingHost();
    const refusing: ThreadHost = {
      ...host,
      spawnThread(task, listener) {
        if (task.thread === 1) throw new Error("no workers here");
        return host.spawnThread(task, listener);
      },
    };
    const built = productsProgram({ width: 16, maxRows: 1, nThreads: 3, host: refusing });
    await expect(built).rejects.toThrow(DeviceError);
    await expect(built).rejects.toThrow(/failed: no workers here/);
    expect(spawned.map(({ isTerminated }) => isTerminated)).toEqual([true]);
  });

  test("are ended by dispose, while idle", async () => {
    const { host, spawned } = failingHost();
    const program = await productsProgram({ width: 16, maxRows: 1, nThreads: 3, host });
    await stepAll(program, program.createSlot(), randomValues(16), 16);
    program.dispose();
    expect(spawned.map(({ task }) => task.thread)).toEqual([0, 1, 2]);
    expect(spawned.every(({ isTerminated }) => isTerminated)).toBe(true);
  });
});
