// Which kernels a training uses, by name, so that workers can load the same.

import { UsageError } from "rwkv";
import type { KernelModule } from "./kernels.ts";
import { nativeKernels, type NativeTrainAddon } from "./native/native.ts";
import { referenceKernels } from "./reference/reference.ts";

/** `auto` takes the fastest that this machine has. */
export type KernelName = "auto" | "native" | "reference" | "reference-f64";

/** All of them. */
export const KERNEL_NAMES: readonly KernelName[] = ["auto", "native", "reference", "reference-f64"];

/** @throws UsageError for another name */
export async function loadKernels(name: KernelName): Promise<KernelModule> {
  switch (name) {
    case "auto":
    case "native": {
      const { addon } = (await import("rwkv-native")) as {
        addon: NativeTrainAddon & { kernelSets: readonly string[] };
      };
      return nativeKernels(addon, addon.kernelSets[0]!);
    }
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
