// Replays the command list on several threads. Each of them runs the whole list on its own columns (schedule.ts) and
// waits for the others inside the kernels (wasm/work.ts); nothing but the beginning and the end of a step passes through
// JavaScript. The calling thread only awaits the end, so its event loop stays free.

import { DeviceError } from "../../core/errors.ts";
import type { Thread, ThreadHost } from "../../core/platform.ts";
import * as abi from "./abi.ts";
import { instantiateKernels } from "./kernels.ts";
import { Pacer } from "./pacer.ts";
import { disposedMeanwhile, SlicedReplay, type Replay, type Replayer, type StepRows } from "./replay.ts";

/**
 * A shared memory cannot grow beyond what it announces at the beginning: the whole address space, of which the system
 * provides only what is used.
 */
const MAX_PAGES = 65536;

/**
 * Multiply-adds of the least step that threads share: waking them and their barriers take some 100 microseconds, in
 * which one thread does about half of these.
 */
const LEAST_WORK = 1_000_000;

/** @throws RangeError where the engine or the system has no room for it */
function createSharedMemory(): WebAssembly.Memory {
  return new WebAssembly.Memory({ initial: 1, maximum: MAX_PAGES, shared: true });
}

/** Whether threads can share a memory as large as a model may need. */
export function canShareMemory(): boolean {
  try {
    return createSharedMemory().buffer instanceof SharedArrayBuffer;
  } catch {
    // No shared memories at all, or no room for the address space of one, as on phones.
    return false;
  }
}

/**
 * Replays on `nThreads` threads, which every program starts for itself.
 * @param leastWork - multiply-adds below which a step is not worth waking them
 */
export function threadPool(
  module: WebAssembly.Module,
  host: ThreadHost,
  nThreads: number,
  leastWork = LEAST_WORK,
): Replayer {
  const pacer = new Pacer();
  return {
    nThreads,
    module,
    createMemory() {
      try {
        return createSharedMemory();
      } catch (cause) {
        throw new DeviceError(
          `A program on ${nThreads} threads needs ${(MAX_PAGES * 65536) / 1e9} GB of address space for its shared memory, which ` +
            `the system refuses. Dispose other models, or load with one thread (threads: 1).`,
          { cause },
        );
      }
    },
    async start(memory, encoded, commands) {
      const alone = new SlicedReplay(await instantiateKernels(module, memory), encoded, commands, pacer);
      const pool = new PooledReplay(memory, encoded.control, alone, leastWork);
      try {
        await pool.start(module, memory, encoded.context, host, nThreads);
      } catch (error) {
        pool.dispose();
        throw error;
      }
      return pool;
    },
  };
}

interface Step {
  resolve(): void;
  reject(error: unknown): void;
}

class PooledReplay implements Replay {
  /** The words by which threads wait for one another. They stay where they are when the memory grows. */
  readonly #control: Int32Array;
  /** For steps of less than this many multiply-adds. */
  readonly #alone: SlicedReplay;
  readonly #leastWork: number;
  #threads: Thread[] = [];
  #step: Step | null = null;
  #failure: Error | null = null;

  constructor(memory: WebAssembly.Memory, control: number, alone: SlicedReplay, leastWork: number) {
    this.#alone = alone;
    this.#leastWork = leastWork;
    this.#control = new Int32Array(memory.buffer, control, abi.CONTROL_BYTES / 4);
  }

  /** Resolves when all threads have their instances. */
  async start(
    module: WebAssembly.Module,
    memory: WebAssembly.Memory,
    context: number,
    host: ThreadHost,
    nThreads: number,
  ): Promise<void> {
    const ready: Promise<void>[] = [];
    for (let thread = 0; thread < nThreads && this.#failure === null; thread++) {
      ready.push(
        new Promise<void>((resolve, reject) => {
          const listener = {
            onReady: resolve,
            onFinish: () => this.#finish(),
            onFail: (cause: unknown) => {
              this.#fail(cause);
              reject(this.#failure!);
            },
          };
          try {
            this.#threads.push(host.spawnThread({ module, memory, context, thread }, listener));
          } catch (cause) {
            listener.onFail(cause); // a page's policy may forbid workers
          }
        }),
      );
    }
    await Promise.all(ready);
    for (const thread of this.#threads) thread.keepAlive(false);
  }

  async run(rows: StepRows, signal: AbortSignal | undefined): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    if (this.#alone.totalWork(rows) < this.#leastWork) await this.#alone.run(rows, signal);
    else await this.#share(signal);
  }

  dispose(): void {
    this.#alone.dispose();
    this.#end(disposedMeanwhile());
  }

  async #share(signal: AbortSignal | undefined): Promise<void> {
    const control = this.#control;
    const abort = (): void => {
      Atomics.store(control, abi.CONTROL_ABORT / 4, 1);
    };
    Atomics.store(control, abi.CONTROL_ABORT / 4, 0);
    signal?.addEventListener("abort", abort);
    // One thread is enough to keep the process alive until the last of them tells that the step has ended.
    this.#threads[0]!.keepAlive(true);
    try {
      await new Promise<void>((resolve, reject) => {
        this.#step = { resolve, reject };
        Atomics.add(control, abi.CONTROL_STEP / 4, 1);
        Atomics.notify(control, abi.CONTROL_STEP / 4);
      });
    } finally {
      this.#step = null;
      this.#threads[0]?.keepAlive(false);
      signal?.removeEventListener("abort", abort);
    }
    if ((Atomics.load(control, abi.CONTROL_PHASE / 4) & 1) !== 0) signal?.throwIfAborted();
  }

  #finish(): void {
    this.#step?.resolve();
  }

  /** One thread less is a pool that waits for ever: all of it ends. */
  #fail(cause: unknown): void {
    const reason = cause instanceof Error ? cause.message : String(cause);
    this.#end(
      new DeviceError(
        `A thread of the cpu backend failed: ${reason} Load the model again, with one thread (threads: 1) if that does not help.`,
        { cause },
      ),
    );
  }

  #end(failure: Error): void {
    this.#failure ??= failure;
    for (const thread of this.#threads) thread.terminate();
    this.#threads = [];
    this.#step?.reject(this.#failure);
  }
}
