// What the engine asks of the place it runs in. Node and the browser each implement it below platform/; everything
// else sees only this interface.

import type { ByteSource } from "./byte-source.ts";
import type { NativeKernels } from "./native.ts";

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
  /**
   * Finds the native kernels; absent where there can be none.
   * @param layout - what the addon must have been built for
   * @returns null if WebAssembly is to be used
   * @throws DeviceError if they are required and not there
   */
  loadNative?: (layout: string) => Promise<NativeKernels | null>;
}
