// Replays the command lists on several threads. Each of them runs the whole list on its own columns (schedule.ts) and
// waits for the others inside the kernels (wasm/work.ts); nothing but the beginning and the end of a part passes through
// JavaScript. The calling thread only awaits the end, so its event loop stays free. The same threads run all parts.

import { DeviceError } from "../../core/errors.ts";
import type { Thread, ThreadHost, ThreadTask } from "../../core/platform.ts";
import * as abi from "./abi.ts";
import { Pacer } from "./pacer.ts";
import {
  disposedMeanwhile,
  startSliced,
  type Replay,
  type Replayer,
  type SlicedReplay,
  type StepRows,
  type WasmPart,
} from "./replay.ts";

/**
 * A shared memory cannot grow beyond what it announces at the beginning: the whole address space, of which the system
 * provides only what is used.
 */
const MAX_PAGES = 65536;

/**
 * Multiply-adds of the least part of a step that threads share: waking them and their barriers take some 100
 * microseconds, in which one thread does about half of these.
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
 * @param leastWork - multiply-adds below which a part of a step is not worth waking them
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
    createMemory: createSharedMemory,
    async start(parts) {
      const pool = new PooledReplay(parts, await startSliced(module, parts, pacer), leastWork);
      try {
        await pool.start(module, parts, host, nThreads);
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
  /** By which threads learn of a part to run (ThreadTask). */
  readonly #gate = new Int32Array(new SharedArrayBuffer(8));
  /** Of each part the words by which threads wait for one another. They stay where they are when the memory grows. */
  readonly #controls: readonly Int32Array[];
  /** For parts of less than this many multiply-adds. */
  readonly #alone: SlicedReplay;
  readonly #leastWork: number;
  #threads: Thread[] = [];
  #step: Step | null = null;
  #failure: Error | null = null;

  constructor(parts: readonly WasmPart[], alone: SlicedReplay, leastWork: number) {
    this.#alone = alone;
    this.#leastWork = leastWork;
    this.#controls = parts.map(
      ({ memory, encoded }) => new Int32Array(memory.buffer, encoded.control, abi.CONTROL_BYTES / 4),
    );
  }

  /** Resolves when all threads have their instances. */
  async start(
    module: WebAssembly.Module,
    wasmParts: readonly WasmPart[],
    host: ThreadHost,
    nThreads: number,
  ): Promise<void> {
    const parts = wasmParts.map(({ memory, encoded: { context } }) => ({ memory, context }));
    const ready: Promise<void>[] = [];
    for (let thread = 0; thread < nThreads && this.#failure === null; thread++) {
      const task: ThreadTask = { module, parts, gate: this.#gate, thread };
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
            this.#threads.push(host.spawnThread(task, listener));
          } catch (cause) {
            listener.onFail(cause); // a page's policy may forbid workers
          }
        }),
      );
    }
    await Promise.all(ready);
    for (const thread of this.#threads) thread.keepAlive(false);
  }

  async run(part: number, rows: StepRows, signal: AbortSignal | undefined): Promise<void> {
    if (this.#failure !== null) throw this.#failure;
    if (this.#alone.workOfPart(part, rows) < this.#leastWork) await this.#alone.run(part, rows, signal);
    else await this.#share(part, signal);
  }

  dispose(): void {
    this.#alone.dispose();
    this.#end(disposedMeanwhile());
  }

  async #share(part: number, signal: AbortSignal | undefined): Promise<void> {
    const control = this.#controls[part]!;
    const abort = (): void => {
      Atomics.store(control, abi.CONTROL_ABORT / 4, 1);
    };
    Atomics.store(control, abi.CONTROL_ABORT / 4, 0);
    signal?.addEventListener("abort", abort);
    // One thread is enough to keep the process alive until the last of them tells that the part has ended.
    this.#threads[0]!.keepAlive(true);
    try {
      await new Promise<void>((resolve, reject) => {
        this.#step = { resolve, reject };
        Atomics.store(this.#gate, 1, part);
        Atomics.add(this.#gate, 0, 1);
        Atomics.notify(this.#gate, 0);
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
