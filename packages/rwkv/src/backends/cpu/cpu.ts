// The cpu backend: kernels in WebAssembly SIMD that replay a command list recorded once per model, on one thread or on
// several. Each program has a memory of its own, which bounds a model to 4 GB.

import type { ThreadHost } from "../../core/platform.ts";
import type { Backend } from "../../ops/backend.ts";
import { createCpuBuilder } from "./builder.ts";
import { compileKernels } from "./kernels.ts";
import { Pacer } from "./pacer.ts";
import { canShareMemory, threadPool } from "./pool.ts";
import { singleThread } from "./replay.ts";

export interface CpuOptions {
  /** Threads of each program, at least 1. Default: one per core, up to 4; see docs/backends.md. */
  readonly threads?: number | undefined;
  /** Starts the threads; null where there are none, which leaves the calling one. */
  readonly host?: ThreadHost | null | undefined;
}

/** Few cores use up the bandwidth of a machine's memory, and further ones only make each barrier longer. */
const MOST_THREADS_BY_DEFAULT = 4;

/** @throws DeviceError if this engine has no WebAssembly with 128-bit SIMD */
export async function createCpuBackend({ threads, host = null }: CpuOptions = {}): Promise<Backend> {
  const nThreads = threads ?? Math.min(host?.nCores ?? 2, MOST_THREADS_BY_DEFAULT);
  if (nThreads > 1 && host !== null && canShareMemory()) {
    const replayer = threadPool(await compileKernels("shared"), host, nThreads);
    return {
      name: "cpu",
      description: `cpu: WebAssembly SIMD, ${nThreads} threads`,
      createBuilder: ({ maxRows }) => createCpuBuilder(replayer, maxRows),
    };
  }
  const replayer = singleThread(await compileKernels("own"), new Pacer());
  const reason = nThreads > 1 ? " (threads cannot share memory here)" : "";
  return {
    name: "cpu",
    description: `cpu: WebAssembly SIMD, 1 thread${reason}`,
    createBuilder: ({ maxRows }) => createCpuBuilder(replayer, maxRows),
  };
}
