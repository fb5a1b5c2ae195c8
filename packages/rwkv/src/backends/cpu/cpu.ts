// The cpu backend: kernels that replay a command list recorded once per model, in native code where the addon is there,
// else in WebAssembly SIMD, where each program has memories of its own, one for each 3 GB of weights.

import type { NativeKernels } from "../../core/native.ts";
import type { ThreadHost } from "../../core/platform.ts";
import type { Backend } from "../../ops/backend.ts";
import { createCpuBuilder } from "./builder.ts";
import { NATIVE_LAYOUT, nativeHosts } from "./host-native.ts";
import { wasmHosts } from "./host-wasm.ts";
import type { HostFactory } from "./host.ts";
import { compileKernels, findSimd } from "./kernels.ts";
import { Pacer } from "./pacer.ts";
import { canShareMemory, threadPool } from "./pool.ts";
import { singleThread } from "./replay.ts";

export interface CpuOptions {
  /** Threads of each program, at least 1. Default: one per core, up to 4; see docs/backends.md. */
  readonly threads?: number | undefined;
  /** Starts the threads of WebAssembly; null where there are none, which leaves the calling one. */
  readonly host?: ThreadHost | null | undefined;
  /** Finds the native addon, given the layout it must have been built for; absent where there is none. */
  readonly loadNative?: ((layout: string) => Promise<NativeKernels | null>) | undefined;
}

/** Few cores use up the bandwidth of a machine's memory, and further ones only make each barrier longer. */
const MOST_THREADS_BY_DEFAULT = 4;

/** @throws DeviceError if this engine has no WebAssembly with 128-bit SIMD, or what `loadNative` throws */
export async function createCpuBackend({
  threads,
  host = null,
  loadNative,
}: CpuOptions = {}): Promise<Backend> {
  const nThreads = threads ?? Math.min(host?.nCores ?? 2, MOST_THREADS_BY_DEFAULT);
  const native = (await loadNative?.(NATIVE_LAYOUT)) ?? null;
  return backendOn(native === null ? await createWasmHosts(nThreads, host) : nativeHosts(native, nThreads));
}

async function createWasmHosts(nThreads: number, host: ThreadHost | null): Promise<HostFactory> {
  const simd = findSimd();
  const name = simd === "relaxed" ? "relaxed SIMD" : "SIMD";
  if (nThreads > 1 && host !== null && canShareMemory()) {
    const replayer = threadPool(await compileKernels("shared", simd), host, nThreads);
    return wasmHosts(replayer, simd, `cpu: WebAssembly ${name}, ${nThreads} threads`);
  }
  const reason = nThreads > 1 ? " (threads cannot share memory here)" : "";
  const replayer = singleThread(await compileKernels("own", simd), new Pacer());
  return wasmHosts(replayer, simd, `cpu: WebAssembly ${name}, 1 thread${reason}`);
}

/** The backend on hosts of one kind. */
export function backendOn(hosts: HostFactory): Backend {
  return {
    name: "cpu",
    description: hosts.description,
    kernels: hosts.kernels,
    nThreads: hosts.nThreads,
    hasInt8Activations: hosts.hasInt8Activations,
    createBuilder: (options) => createCpuBuilder(hosts, options),
  };
}
