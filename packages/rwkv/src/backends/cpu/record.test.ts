// Programs with taps beside the one they come from: what they share, and what is left of them.

import { describe, expect, test } from "vitest";
import { UsageError } from "../../core/errors.ts";
import type { Backend, Program } from "../../ops/backend.ts";
import type { Tensor } from "../../ops/tensor.ts";
import type { Tap } from "../../ops/taps.ts";
import { nodeThreads } from "../../platform/node/threads.ts";
import { compileKernels } from "./kernels.ts";
import { Pacer } from "./pacer.ts";
import { threadPool } from "./pool.ts";
import { singleThread, type Replayer } from "./replay.ts";
import { backendOf, buildProgram, seededRandom, stepAll, uploadOf } from "./testing.ts";

const WIDTH = 40;
const N_LAYERS = 3;
const random = seededRandom(3);
const randomValues = (n: number): Float32Array => Float32Array.from({ length: n }, () => random() - 0.5);
const MATRICES = Array.from({ length: N_LAYERS }, () => randomValues(WIDTH * WIDTH));
const ROWS = randomValues(6 * WIDTH);

/** Layers of a product, an activation that is fused into it, and a token shift whose vector crosses memories. */
async function layersProgram(backend: Backend): Promise<Program> {
  const builder = backend.createBuilder({ maxRows: 16 });
  const mix = await builder.weight(uploadOf("mix", [WIDTH], new Float32Array(WIDTH).fill(0.25)));
  const matrices: Tensor[] = [];
  for (const [i, values] of MATRICES.entries()) {
    matrices.push(await builder.weight(uploadOf(`w ${i}`, [WIDTH, WIDTH], values)));
  }
  const shifts = matrices.map((_, i) => builder.state(`shift ${i}`, [WIDTH], 0));
  return buildProgram(builder, WIDTH, WIDTH, ({ x }) => {
    const [a, b] = [builder.scratch("a", [WIDTH], "token"), builder.scratch("b", [WIDTH], "token")];
    return (ops) => {
      ops.copy(b, x);
      matrices.forEach((w, i) => {
        ops.tokenShift([a], b, shifts[i]!, [mix]);
        ops.matmul(b, w, a);
        ops.activate(b, b, "tanh");
      });
      return b;
    };
  });
}

/** Products before the activation, and their inputs. */
function tapsOf(program: Program): Tap[] {
  return program.recording!.calls.flatMap((call, i) =>
    call.op === "matmul"
      ? [
          { tensor: call.x, nCalls: i },
          { tensor: call.out, nCalls: i + 1 },
        ]
      : [],
  );
}

/** A backend, and the memories that its programs have. */
interface Watched {
  readonly backend: Backend;
  readonly memories: WebAssembly.Memory[];
}

function watched(replayer: Replayer, mostWeightBytes?: number): Watched {
  const memories: WebAssembly.Memory[] = [];
  const createMemory = (): WebAssembly.Memory => {
    const memory = replayer.createMemory();
    memories.push(memory);
    return memory;
  };
  return { backend: backendOf("test", { ...replayer, createMemory }, mostWeightBytes), memories };
}

const MATRIX_BYTES = 4 * WIDTH * (WIDTH + 2);

describe.each([
  ["on the calling thread", async () => watched(singleThread(await compileKernels("own"), new Pacer()))],
  [
    "with a memory for each layer",
    async () => watched(singleThread(await compileKernels("own"), new Pacer()), MATRIX_BYTES),
  ],
  ["on 2 threads", async () => watched(threadPool(await compileKernels("shared"), nodeThreads, 2, 0))],
])("%s", (place, create) => {
  test("taps hold what was there, and the results are those of the program beside it", async () => {
    const { backend, memories } = await create();
    const program = await layersProgram(backend);
    const want = await stepAll(program, program.createSlot(), ROWS, WIDTH);
    const tapped = await program.recording!.tapped(tapsOf(program), 6);
    expect(await stepAll(tapped, tapped.createSlot(), ROWS, WIDTH)).toEqual(want);
    for (let layer = 0; layer < N_LAYERS; layer++) {
      const [inputs, products] = [tapped.readTap(2 * layer), tapped.readTap(2 * layer + 1)];
      expect(inputs).toHaveLength(ROWS.length);
      for (let i = 0; i < products.length; i++) {
        const [row, out] = [Math.floor(i / WIDTH), i % WIDTH];
        let sum = 0;
        for (let c = 0; c < WIDTH; c++) sum += MATRICES[layer]![out * WIDTH + c]! * inputs[row * WIDTH + c]!;
        expect(Math.abs(products[i]! - sum)).toBeLessThan(1e-5); // 40 terms below 0.5
      }
    }
    // A step of fewer rows leaves no rows of the one before.
    await stepAll(tapped, tapped.createSlot(), ROWS.subarray(0, WIDTH), WIDTH);
    expect(tapped.readTap(0)).toHaveLength(WIDTH);
    if (place === "with a memory for each layer") expect(memories).toHaveLength(N_LAYERS);
    program.dispose();
  });

  test("what is disposed is used again: the memories do not grow with the number of programs", async () => {
    const { backend, memories } = await create();
    const program = await layersProgram(backend);
    const slot = program.createSlot();
    const want = await stepAll(program, slot, ROWS, WIDTH);
    const lengths: number[][] = [];
    for (let i = 0; i < 10; i++) {
      const tapped = await program.recording!.tapped(tapsOf(program), 16);
      await stepAll(tapped, tapped.createSlot(), ROWS, WIDTH);
      tapped.dispose();
      tapped.dispose();
      expect(() => tapped.createSlot()).toThrow(UsageError);
      lengths.push(memories.map(({ buffer }) => buffer.byteLength));
    }
    expect(lengths.at(-1)).toEqual(lengths[0]);
    await program.resetSlot(slot);
    expect(await stepAll(program, slot, ROWS, WIDTH)).toEqual(want);
    program.dispose();
  });

  test("disposing the program disposes those with taps, also in the middle of a step", async () => {
    const { backend } = await create();
    const program = await layersProgram(backend);
    const tapped = await program.recording!.tapped(tapsOf(program), 16);
    const slot = tapped.createSlot();
    const step = stepAll(tapped, slot, ROWS, WIDTH).then(() => tapped.readTap(0));
    program.dispose();
    await expect(step).rejects.toThrow(UsageError);
    expect(() => tapped.createSlot()).toThrow("was disposed");
  });

  test("one that is being recorded when the program is disposed is never seen", async () => {
    const { backend } = await create();
    const program = await layersProgram(backend);
    const tapped = program.recording!.tapped(tapsOf(program), 16);
    program.dispose();
    await expect(tapped).rejects.toThrow("was disposed while another was recorded from it");
  });
});
