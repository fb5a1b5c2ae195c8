// How fast this machine's memory can be read, by the native addon: JavaScript and WebAssembly are slower than memory.
// In a process of its own, so that neither its gigabyte nor its time counts as the caller's.

import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { DeviceError } from "../../core/errors.ts";

/**
 * Bytes per second in which threads read memory, each its own part of 1 GB: the best of five times. What a decoded token
 * can cost at least follows from it, since each reads all weights. `RWKV_NATIVE` does not matter here.
 * @param nThreads - of the model to compare with
 * @returns null where the native addon was not built
 * @throws DeviceError if there is no memory for it, the signal's reason if aborted
 */
export async function readBandwidth(nThreads: number, signal?: AbortSignal): Promise<number | null> {
  signal?.throwIfAborted();
  const script = fileURLToPath(new URL("./bandwidth-process.js", import.meta.url));
  return new Promise((resolve, reject) => {
    execFile(process.execPath, [script, String(nThreads)], { signal }, (error, stdout, stderr) => {
      if (error === null) resolve(JSON.parse(stdout) as number | null);
      else reject(signal?.aborted === true ? (signal.reason as Error) : failure(stderr.trim(), error));
    });
  });
}

function failure(stderr: string, cause: Error): DeviceError {
  return new DeviceError(
    `The read bandwidth could not be measured, which takes 1 GB of memory. Close other programs and try again. ` +
      `The process that measures ended so: ${stderr === "" ? cause.message : stderr}`,
    { cause },
  );
}
