// Finds the native addon, which is there only where it was built. RWKV_NATIVE decides: 0 leaves it alone, 1 insists on
// it, the name of a kernel set insists on that set. Otherwise WebAssembly is used without it, and one line says so.

import { DeviceError, UsageError } from "../../core/errors.ts";
import { KERNEL_SETS, type KernelSet, type NativeAddon, type NativeKernels } from "../../core/native.ts";

const BUILD_COMMAND = "npm run build:native";

/** What is asked for and what was found; replaced by tests. */
export interface NativeSearch {
  /** The value of RWKV_NATIVE. */
  readonly setting: string | undefined;
  /** Loads the addon; throws if it is not there. */
  readonly load: () => Promise<NativeAddon>;
  /** The layout that the addon must have been built for; null for a caller that replays no command list. */
  readonly layout: string | null;
  /** Takes the line that says why WebAssembly is used. */
  readonly report: (line: string) => void;
}

let isReported = false;

/**
 * @param layout - what the command list looks like; an addon built for another is not used
 * @returns null if WebAssembly is to be used
 * @throws UsageError for an unknown setting, DeviceError if the addon is required and cannot be used
 */
export function loadNative(layout: string): Promise<NativeKernels | null> {
  return findNative({
    setting: process.env["RWKV_NATIVE"],
    load: loadAddon,
    layout,
    report: (line) => {
      if (isReported) return;
      isReported = true;
      process.stderr.write(`${line}\n`);
    },
  });
}

/** As `loadNative`, with the search in the caller's hands. */
export async function findNative(search: NativeSearch): Promise<NativeKernels | null> {
  const { setting = "", report } = search;
  const kernelSet = KERNEL_SETS.find((name) => name === setting) ?? null;
  if (kernelSet === null && !["", "0", "1"].includes(setting)) {
    throw new UsageError(
      `RWKV_NATIVE is "${setting}"; expected 0 (off), 1 (required), one of ${KERNEL_SETS.join(", ")} ` +
        `(that kernel set), or nothing.`,
    );
  }
  if (setting === "0") return null;
  const found = await tryLoad(search, kernelSet);
  if (typeof found !== "string") return found;
  if (setting === "") {
    report(`rwkv: WebAssembly kernels are used: ${found}`);
    return null;
  }
  throw new DeviceError(`RWKV_NATIVE=${setting} requires the native kernels, but ${found}`);
}

/** @returns the kernels, or why there are none */
async function tryLoad(
  { load, layout }: NativeSearch,
  asked: KernelSet | null,
): Promise<NativeKernels | string> {
  let addon: NativeAddon;
  try {
    addon = await load();
  } catch (error) {
    const message = error instanceof Error ? error.message.split("\n")[0]! : String(error);
    return `the native addon is not there (${message}). "${BUILD_COMMAND}" builds it where a C++ compiler is installed.`;
  }
  if (layout !== null && addon.layout !== layout) {
    return `the native addon was built for another version. "${BUILD_COMMAND}" builds it anew.`;
  }
  const usable = addon.kernelSets;
  if (asked !== null && !usable.includes(asked)) {
    return `this processor has no ${asked}; it has ${usable.join(" and ") || `none of ${KERNEL_SETS.join(", ")}`}.`;
  }
  const kernelSet = asked ?? usable[0];
  if (kernelSet === undefined) return `this processor has none of ${KERNEL_SETS.join(", ")}.`;
  return { addon, kernelSet };
}

async function loadAddon(): Promise<NativeAddon> {
  const { addon } = await import("rwkv-native");
  return addon as NativeAddon;
}
