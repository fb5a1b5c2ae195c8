// Which kernels a training uses, by name, so that workers can load the same. RWKV_NATIVE decides about native kernels as
// it does for inference: 0 leaves them alone, 1 or the name of a kernel set insists.

import { isMainThread } from "node:worker_threads";
import { DeviceError, UsageError } from "rwkv";
import { findNative, type NativeAddon } from "rwkv/native";
import type { KernelModule } from "./kernels.ts";
import { nativeKernels, type NativeTrainAddon } from "./native/native.ts";
import { referenceKernels } from "./reference/reference.ts";
import { wasmKernels } from "./wasm-kernels.ts";

/** `auto` takes the fastest that this machine has: native, or else WebAssembly. */
export type KernelName = "auto" | "native" | "wasm" | "reference" | "reference-f64";

/** All of them. */
export const KERNEL_NAMES: readonly KernelName[] = ["auto", "native", "wasm", "reference", "reference-f64"];

/** @throws UsageError for another name, DeviceError if native kernels are required and cannot be used */
export async function loadKernels(name: KernelName): Promise<KernelModule> {
  switch (name) {
    case "auto":
      return loadTrainKernels();
    case "native": {
      const native = await findNativeKernels(process.env["RWKV_NATIVE"] ?? "1");
      if (native !== null) return native;
      throw new DeviceError(`native kernels are asked for, but RWKV_NATIVE forbids them.`);
    }
    case "wasm":
      return wasmKernels();
    case "reference":
      return referenceKernels("f32");
    case "reference-f64":
      return referenceKernels("f64");
    default:
      throw new UsageError(
        `There are no kernels called ${String(name)}; expected one of ${KERNEL_NAMES.join(", ")}.`,
      );
  }
}

/**
 * The fastest kernels that this machine has: native, or else WebAssembly with plain TypeScript for what that lacks. One
 * line on stderr says why native kernels are not used.
 * @throws UsageError for an unknown RWKV_NATIVE, DeviceError if it requires what cannot be used
 */
export async function loadTrainKernels(): Promise<KernelModule> {
  return (await findNativeKernels(process.env["RWKV_NATIVE"])) ?? wasmKernels();
}

/** @returns null if WebAssembly is to be used */
async function findNativeKernels(setting: string | undefined): Promise<KernelModule | null> {
  const found = await findNative({
    setting,
    load: async () => (await import("rwkv-native")).addon as NativeAddon,
    // Signatures are compared instead.
    layout: null,
    report: (line) => {
      if (isMainThread) process.stderr.write(`${line}\n`);
    },
  });
  if (found === null) return null;
  return nativeKernels(found.addon as NativeAddon & NativeTrainAddon, found.kernelSet);
}
