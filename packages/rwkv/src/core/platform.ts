// What the engine asks of the place it runs in. Node and the browser each implement it below platform/; everything
// else sees only this interface.

import type { ByteSource } from "./byte-source.ts";
import type { NativeKernels } from "./native.ts";
import type { Port } from "./port.ts";

export interface Platform {
  /**
   * Opens what a path or address names.
   * @throws UsageError if it does not exist, is a directory, or may not be read
   */
  open(location: string | URL, signal?: AbortSignal): Promise<ByteSource>;
  /** Opens the file of that name in the same folder; null if there is none. */
  openBeside(location: string | URL, fileName: string, signal?: AbortSignal): Promise<ByteSource | null>;
  /** Whether looking for files beside `location` stays on this machine. */
  isLocal(location: string | URL): boolean;
  /** Threads that share memory; null where there are none, such as in a page that is not cross-origin isolated. */
  readonly threads: ThreadHost | null;
  /**
   * Finds the native kernels; absent where there can be none.
   * @param layout - what the addon must have been built for
   * @returns null if WebAssembly is to be used
   * @throws DeviceError if they are required and not there
   */
  loadNative?: (layout: string) => Promise<NativeKernels | null>;
  /**
   * WebGPU; the same object at every call.
   * @throws DeviceError if there is none here, with what to do
   */
  readonly loadWebgpu: () => Promise<GPU>;
  /**
   * Starts a worker that serves an engine to the other end of the port; absent where the engine blocks nobody anyway.
   * @throws DeviceError if the worker cannot be started
   */
  readonly startEngine?: () => Port;
  /** The path of the bundled demo model, null where it is not installed; absent where there can be none. */
  findDemoModel?: () => string | null;
}

/** Starts threads. */
export interface ThreadHost {
  /** Cores that this process may use. */
  readonly nCores: number;
  /**
   * Starts a thread that makes an instance of the task's module on the memory of each part and then, as often as the
   * gate opens, calls `step(context, thread)` of the part that the gate names. The module may import `sleep`, `wake` and
   * `finish` from `thread`.
   */
  spawnThread(task: ThreadTask, listener: ThreadListener): Thread;
}

/** What a thread runs. */
export interface ThreadTask {
  readonly module: WebAssembly.Module;
  /** What it can be asked to run. */
  readonly parts: readonly ThreadPart[];
  /** Two words: the first grows by one when a part is to be run, the second is the number of that part. */
  readonly gate: Int32Array<SharedArrayBuffer>;
  /** Handed to `step`: which of the threads this is, from 0. */
  readonly thread: number;
}

export interface ThreadPart {
  /** Shared with the other threads. */
  readonly memory: WebAssembly.Memory;
  /** Handed to `step`: the address of what the threads share. */
  readonly context: number;
}

/** What is heard of a thread. */
export interface ThreadListener {
  /** It has its instances and waits at the gate. */
  onReady(): void;
  /** Its module has called `finish`. */
  onFinish(): void;
  /** It has ended by itself or could not begin; nothing follows. */
  onFail(cause: unknown): void;
}

/** A thread that was started. */
export interface Thread {
  /** Whether the process stays alive for what this thread will tell; true at first. */
  keepAlive(isWanted: boolean): void;
  /** Ends it wherever it is; its listener hears nothing more. */
  terminate(): void;
}
