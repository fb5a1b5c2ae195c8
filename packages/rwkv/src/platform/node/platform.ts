// Node's side of the platform: paths and file addresses are opened as files, web addresses by range requests.

import { access } from "node:fs/promises";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import type { Platform } from "../../core/platform.ts";
import { httpSource } from "../http.ts";
import { openHttpBeside } from "../http-beside.ts";
import { findDemoModel } from "./demo-model.ts";
import { fileSource } from "./file.ts";
import { loadNative } from "./native.ts";
import { nodeThreads } from "./threads.ts";
import { loadWebgpu } from "./webgpu.ts";

export const nodePlatform: Platform = {
  open(location, signal) {
    const path = toPath(location);
    return path === null ? httpSource(location, { signal }) : fileSource(path);
  },

  async openBeside(location, fileName, signal) {
    const path = toPath(location);
    if (path === null) return openHttpBeside(location, fileName, signal);
    const beside = join(dirname(path), fileName);
    try {
      await access(beside);
    } catch {
      return null;
    }
    return fileSource(beside);
  },

  isLocal: (location) => toPath(location) !== null,
  threads: nodeThreads,
  loadNative,
  loadWebgpu,
  findDemoModel: () => findDemoModel(),
};

/** The path in the file system that a location names; null for a web address. */
function toPath(location: string | URL): string | null {
  if (typeof location === "string") return /^https?:\/\//i.test(location) ? null : location;
  return location.protocol === "file:" ? fileURLToPath(location) : null;
}
