// The browser's side of the platform: strings are addresses, relative to the page.

import { DeviceError } from "../core/errors.ts";
import type { Platform } from "../core/platform.ts";
import { openHttpBeside } from "./http-beside.ts";
import { httpSource } from "./http.ts";
import { browserThreads } from "./threads.ts";

export const browserPlatform: Platform = {
  open: (location, signal) => httpSource(location, { signal }),
  openBeside: (location, fileName, signal) => openHttpBeside(location, fileName, signal),
  isLocal: () => false,
  threads: browserThreads,
  loadWebgpu() {
    const { gpu } = navigator as { gpu?: GPU };
    if (gpu !== undefined) return Promise.resolve(gpu);
    return Promise.reject(
      new DeviceError(
        "This browser has no WebGPU, or only in pages that come over https or from this machine.",
      ),
    );
  },
};
