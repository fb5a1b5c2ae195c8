// Small programs for tests: uploads from arrays, one run in one slot, and a backend whose threads are imagined.

import { byteLengthOf, type WeightDType } from "../../core/dtype.ts";
import type { ThreadHost } from "../../core/platform.ts";
import type { Backend, Program, ProgramBuilder, WeightUpload } from "../../ops/backend.ts";
import type { Tensor } from "../../ops/tensor.ts";
import { backendOn } from "./cpu.ts";
import { wasmHosts } from "./host-wasm.ts";
import { compileKernels, findSimd, instantiateKernels, type Simd } from "./kernels.ts";
import { Pacer } from "./pacer.ts";
import { threadPool } from "./pool.ts";
import { singleThread, type Replayer } from "./replay.ts";
import type { ScheduledCommand } from "./schedule.ts";

export function uploadOf(
  name: string,
  shape: readonly number[],
  values: Float32Array | Uint8Array,
  dtype: WeightDType = "f32",
): WeightUpload {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return {
    name,
    shape,
    dtype,
    byteLength: byteLengthOf(dtype, shape),
    read: (target) => {
      target.set(bytes);
      return Promise.resolve();
    },
  };
}

export interface Inputs {
  readonly builder: ProgramBuilder;
  readonly x: Tensor;
  readonly output: Tensor;
}

/** A program with one input [width] and an output [outWidth] that copies the rows of what `body` returns. */
export async function buildProgram(
  builder: ProgramBuilder,
  width: number,
  outWidth: number,
  body: (inputs: Inputs) => (ops: Parameters<Parameters<ProgramBuilder["build"]>[0]>[0]) => Tensor,
): Promise<Program> {
  const x = builder.input("x", [width]);
  const output = builder.output("output", [outWidth]);
  const forward = body({ builder, x, output });
  return builder.build((ops) => ops.selectRows(output, forward(ops)));
}

/** Runs all rows of `values` in one step and returns all rows of the output. */
export async function stepAll(
  program: Program,
  slot: number,
  values: Float32Array,
  width: number,
): Promise<Float32Array> {
  const nRows = values.length / width;
  return (await program.step([{ slot, nRows, logits: "all" }], [values])).slice();
}

/** Numbers in [0, 1), the same on every machine (mulberry32). */
export function seededRandom(seed: number): () => number {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 2 ** 32;
  };
}

/** The cpu backend on the calling thread, with kernels of that kind. */
export async function wasmBackend(simd: Simd): Promise<Backend> {
  return backendOn(
    wasmHosts(singleThread(await compileKernels("own", simd), new Pacer()), simd, `cpu: ${simd}`),
  );
}

/**
 * The cpu backend on threads that take part in every step, however small.
 * @param mostWeightBytes - what one memory takes of the weights
 */
export async function threadedBackend(
  nThreads: number,
  host: ThreadHost,
  mostWeightBytes?: number,
): Promise<Backend> {
  const replayer = threadPool(await compileKernels("shared"), host, nThreads, 0);
  return backendOf(`${nThreads} threads`, replayer, mostWeightBytes);
}

/** The cpu backend on the calling thread, with memories that take only so many bytes of weights. */
export async function smallMemoryBackend(mostWeightBytes: number): Promise<Backend> {
  const replayer = singleThread(await compileKernels("own"), new Pacer());
  return backendOf("1 thread", replayer, mostWeightBytes);
}

export function backendOf(threads: string, replayer: Replayer, mostWeightBytes?: number): Backend {
  return backendOn(wasmHosts(replayer, findSimd(), `cpu: ${threads}`, mostWeightBytes));
}

/** Which of the threads that can go on does so next, given what each of them has yet to run before the next barrier. */
export type PickThread = (nLeft: readonly number[]) => number;

/** A random one. */
export function anyThread(random: () => number): PickThread {
  return (nLeft) => {
    const able = nLeft.flatMap((n, thread) => (n > 0 ? [thread] : []));
    return able[Math.floor(random() * able.length)]!;
  };
}

/** One thread runs as far as it can before the next begins. */
export const firstThreadFirst: PickThread = (nLeft) => nLeft.findIndex((n) => n > 0);
export const lastThreadFirst: PickThread = (nLeft) => nLeft.findLastIndex((n) => n > 0);

/**
 * The cpu backend with `nThreads` threads that are played by the calling one: between two barriers it runs their
 * commands in an order that the threads could fall into. Whatever lacks a barrier gives other bits in some order.
 * @param isBarrier - false for barriers to leave out
 * @param onCommands - hears of the commands of each part
 */
export async function interleavedBackend(
  nThreads: number,
  pick: PickThread,
  isBarrier: (index: number) => boolean = () => true,
  onCommands: (commands: readonly ScheduledCommand[]) => void = () => undefined,
  mostWeightBytes?: number,
): Promise<Backend> {
  const module = await compileKernels("own");
  const replayer: Replayer = {
    nThreads,
    module,
    createMemory: () => new WebAssembly.Memory({ initial: 1 }),
    async start(parts) {
      const runs = parts.map(async ({ memory, encoded: { context }, commands }) => {
        onCommands(commands);
        const run = await instantiateKernels(module, memory);
        const starts = commands.flatMap(({ needsBarrier }, i) => (needsBarrier && isBarrier(i) ? [i] : []));
        const ends = [...starts, commands.length];
        return () => {
          const next = new Array<number>(nThreads).fill(0);
          for (const end of ends) {
            while (next.some((at) => at < end)) {
              const thread = pick(next.map((at) => end - at));
              const at = next[thread]!++;
              run(context, at, at + 1, thread, nThreads, thread);
            }
          }
        };
      });
      const runParts = await Promise.all(runs);
      return {
        run(part) {
          runParts[part]!();
          return Promise.resolve();
        },
        dispose: () => undefined,
      };
    },
  };
  return backendOf(`${nThreads} imagined threads`, replayer, mostWeightBytes);
}
