// Programs whose weights lie in several memories: slots and steps behave as with one, on the calling thread and on
// threads. That whole models keep their bits is in test/golden/memories.test.ts.

import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { UsageError } from "../../core/errors.ts";
import type { ThreadHost } from "../../core/platform.ts";
import type { Backend, Program, Run } from "../../ops/backend.ts";
import type { Tensor } from "../../ops/tensor.ts";
import { nodeThreads } from "../../platform/node/threads.ts";
import { createCpuBackend } from "./cpu.ts";
import {
  buildProgram,
  seededRandom,
  smallMemoryBackend,
  stepAll,
  threadedBackend,
  uploadOf,
} from "./testing.ts";

const N_LAYERS = 4;
const random = seededRandom(5);
const randomValues = (n: number): Float32Array => Float32Array.from({ length: n }, () => random() - 0.5);

const open: Program[] = [];
afterAll(() => {
  for (const program of open) program.dispose();
});

/**
 * Layers of a token shift, whose state is the layer's last input, and products; the first layer's result is read again at
 * the end. With memories for one matrix each layer has its own.
 */
async function layersProgram(backend: Backend, width: number, maxRows = 16, nProducts = 1): Promise<Program> {
  const builder = backend.createBuilder({ maxRows });
  const values = Float32Array.from({ length: width * width }, (_, i) => ((i * 37) % 101) / 101 - 0.5);
  const layers: { mix: Tensor; w: Tensor }[] = [];
  for (let i = 0; i < N_LAYERS; i++) {
    layers.push({
      mix: await builder.weight(uploadOf(`mix ${i}`, [width], new Float32Array(width).fill(0.25 + i / 8))),
      w: await builder.weight(uploadOf(`w ${i}`, [width, width], values)),
    });
  }
  const shifts = layers.map((_, i) => builder.state(`shift ${i}`, [width], i / 4));
  const program = await buildProgram(builder, width, width, ({ x }) => {
    const rows = (name: string): Tensor => builder.scratch(name, [width], "token");
    const [a, b, first] = [rows("a"), rows("b"), rows("first")];
    return (ops) => {
      ops.copy(b, x);
      layers.forEach(({ mix, w }, i) => {
        ops.tokenShift([a], b, shifts[i]!, [mix]);
        for (let n = 0; n < nProducts; n++) {
          ops.matmul(b, w, a);
          ops.activate(b, b, "tanh");
        }
        if (i === 0) ops.copy(first, b);
      });
      ops.mul(b, first);
      ops.add(b, x, 1);
      return b;
    };
  });
  open.push(program);
  return program;
}

const bytesOf = (width: number): number => 4 * width * (width + 1);
const one = await createCpuBackend({ threads: 1 });

describe.each([
  ["on the calling thread", (bytes: number) => smallMemoryBackend(bytes)],
  ["on 2 threads", (bytes: number) => threadedBackend(2, nodeThreads, bytes)],
])("%s", (_name, split) => {
  const WIDTH = 33;
  let several: Program;
  let whole: Program;
  beforeAll(async () => {
    several = await layersProgram(await split(bytesOf(WIDTH)), WIDTH);
    whole = await layersProgram(one, WIDTH);
  });

  test("there is a memory for each layer", async () => {
    const { Memory } = WebAssembly;
    let nMade = 0;
    try {
      WebAssembly.Memory = class extends Memory {
        constructor(descriptor: WebAssembly.MemoryDescriptor) {
          super(descriptor);
          nMade += 1;
        }
      };
      await layersProgram(await split(bytesOf(WIDTH)), WIDTH);
    } finally {
      WebAssembly.Memory = Memory;
    }
    expect(nMade).toBe(N_LAYERS);
  });

  test("ragged batches have the bits and leave the states of one memory", async () => {
    const rows = randomValues(9 * WIDTH);
    const outcomes = [];
    for (const program of [several, whole]) {
      const slots = [0, 1, 2].map(() => program.createSlot());
      const logits: Float32Array[] = [];
      for (let step = 0; step < 3; step++) {
        const runs: Run[] = [
          { slot: slots[0]!, nRows: 5, logits: "last" },
          { slot: slots[1]!, nRows: 1, logits: "none" },
          { slot: slots[2]!, nRows: 3, logits: "all" },
        ];
        logits.push((await program.step(runs, [rows])).slice());
      }
      outcomes.push({ logits, states: await Promise.all(slots.map((slot) => program.readSlot(slot))) });
    }
    expect(outcomes[0]).toEqual(outcomes[1]);
  });

  test("a state is read and written in order of declaration, and reset and copied whole", async () => {
    const [slot, copy] = [several.createSlot(), several.createSlot()];
    const initial = Float32Array.from({ length: N_LAYERS * WIDTH }, (_, i) => Math.floor(i / WIDTH) / 4);
    expect(await several.readSlot(slot)).toEqual(initial);
    const values = randomValues(N_LAYERS * WIDTH);
    await several.writeSlot(slot, values);
    await several.copySlot(copy, slot);
    await several.resetSlot(slot);
    expect(await several.readSlot(slot)).toEqual(initial);
    expect(await several.readSlot(copy)).toEqual(values);
    await expect(several.writeSlot(slot, new Float32Array(WIDTH))).rejects.toThrow(
      /has 132 elements, but 33/,
    );
    // Another program goes on alike from it.
    const restored = whole.createSlot();
    await whole.writeSlot(restored, values);
    const rows = randomValues(2 * WIDTH);
    expect(await stepAll(several, copy, rows, WIDTH)).toEqual(await stepAll(whole, restored, rows, WIDTH));
  });

  test("released slots are used again in every memory", async () => {
    const round = async (): Promise<void> => {
      const slots = Array.from({ length: 200 }, () => several.createSlot());
      await stepAll(several, slots[0]!, randomValues(16 * WIDTH), WIDTH);
      for (const slot of slots) several.releaseSlot(slot);
    };
    await round();
    const grow = vi.spyOn(WebAssembly.Memory.prototype, "grow");
    try {
      for (let i = 0; i < 20; i++) await round();
      expect(grow).not.toHaveBeenCalled();
    } finally {
      grow.mockRestore();
    }
  });

  test("slots made and released during a step leave its result alone", async () => {
    const program = await layersProgram(await split(bytesOf(256)), 256, 256, 5);
    const rows = randomValues(256 * 256);
    const slot = program.createSlot();
    const want = await stepAll(program, slot, rows, 256);
    await program.resetSlot(slot);
    const step = stepAll(program, slot, rows, 256);
    program.releaseSlot(slot);
    for (let i = 0; i < 500; i++) program.createSlot();
    expect(await step).toEqual(want);
  });

  test("a hundred aborts at any moment leave a program that works", async () => {
    const program = await layersProgram(await split(bytesOf(64)), 64, 64, 5);
    const rows = randomValues(64 * 64);
    const slot = program.createSlot();
    const want = await stepAll(program, slot, rows, 64);
    let nAborted = 0;
    for (let i = 0; i < 100; i++) {
      const controller = new AbortController();
      const run: Run = { slot, nRows: 64, logits: "none" };
      const step = program.step([run], [rows], { signal: controller.signal });
      for (let turn = 0; turn < i % 8; turn++) await new Promise((resolve) => setImmediate(resolve));
      controller.abort();
      await step.catch((error: unknown) => {
        nAborted += 1;
        expect(error).toBe(controller.signal.reason);
      });
    }
    expect(nAborted).toBeGreaterThan(0);
    await program.resetSlot(slot);
    expect(await stepAll(program, slot, rows, 64)).toEqual(want);
  });

  test("a step fails with a UsageError if the program is disposed meanwhile", async () => {
    const program = await layersProgram(await split(bytesOf(512)), 512, 256, 5);
    const run: Run = { slot: program.createSlot(), nRows: 256, logits: "none" };
    const step = program.step([run], [randomValues(256 * 512)]);
    await expect(program.step([run], [randomValues(256 * 512)])).rejects.toThrow(/in progress/);
    program.dispose();
    await expect(step).rejects.toThrow(UsageError);
    await expect(step).rejects.toThrow(/disposed/);
  });
});

test("a step ends between two memories when its signal is aborted there", async () => {
  const program = await layersProgram(await smallMemoryBackend(bytesOf(16)), 16);
  const slot = program.createSlot();
  const controller = new AbortController();
  // Too short for a pause: the signal is seen where the first part ends, which is the only other place that looks.
  const step = program.step([{ slot, nRows: 1, logits: "none" }], [new Float32Array(16).fill(9)], {
    signal: controller.signal,
  });
  controller.abort();
  await expect(step).rejects.toBe(controller.signal.reason);
  const state = await program.readSlot(slot);
  expect(new Set(state.subarray(0, 16))).toEqual(new Set([9]));
  expect(new Set(state.subarray(48))).toEqual(new Set([0.75]));
});

test("one set of threads runs all memories, and ends with the program", async () => {
  const terminated: number[] = [];
  let nSpawned = 0;
  const host: ThreadHost = {
    nCores: 3,
    spawnThread(task, listener) {
      nSpawned += 1;
      expect(task.parts.length).toBe(N_LAYERS);
      const thread = nodeThreads.spawnThread(task, listener);
      return {
        keepAlive: (isWanted) => thread.keepAlive(isWanted),
        terminate() {
          terminated.push(task.thread);
          thread.terminate();
        },
      };
    },
  };
  const program = await layersProgram(await threadedBackend(3, host, bytesOf(48)), 48);
  const whole = await layersProgram(one, 48);
  const rows = randomValues(16 * 48);
  const together = await stepAll(program, program.createSlot(), rows, 48);
  expect(together).toEqual(await stepAll(whole, whole.createSlot(), rows, 48));
  expect(nSpawned).toBe(3);
  program.dispose();
  expect(terminated.sort()).toEqual([0, 1, 2]);
});
