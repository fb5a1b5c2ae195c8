// WebGPU for tests: SwiftShader, which computes on the processor and comes with Chromium, or without it the machine's own
// adapter; VK_ICD_FILENAMES names another driver. Where there is none, tests are skipped, and why is printed.

import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GpuFeature } from "../../packages/rwkv/src/backends/webgpu/features.ts";
import { restrict } from "../../packages/rwkv/src/backends/webgpu/restrictions.ts";
import { createWebgpuBackend, type WebgpuBackend } from "../../packages/rwkv/src/backends/webgpu/webgpu.ts";
import { DISABLED_DAWN_FEATURES, IS_WEBGPU_REQUIRED, IS_WEBGPU_WANTED } from "./dawn.ts";

const SWIFTSHADER = "/usr/lib/chromium/libvk_swiftshader.so";

// The loader of Vulkan reads this when the first adapter is asked for; without the folder it complains on stderr.
process.env["XDG_RUNTIME_DIR"] ??= tmpdir();
if (process.env["VK_ICD_FILENAMES"] === undefined && existsSync(SWIFTSHADER)) {
  const driver = join(mkdtempSync(join(tmpdir(), "rwkv-test-vulkan-")), "swiftshader.json");
  const content = {
    file_format_version: "1.0.0",
    ICD: { library_path: SWIFTSHADER, api_version: "1.0.5" },
  };
  writeFileSync(driver, JSON.stringify(content));
  process.env["VK_ICD_FILENAMES"] = driver;
}

/** For commands, that their Dawn has these options too. */
export const WEBGPU_ENVIRONMENT = {
  DAWN_OPTIONS: JSON.stringify([DISABLED_DAWN_FEATURES]),
  NODE_OPTIONS: `--import ${join(import.meta.dirname, "dawn-options.js")}`,
};

/** An adapter that has not answered by then is taken for none. */
const PATIENCE_MS = 20_000;

/** @param without - features that the backend is not to use */
type CreateWebgpu = (without?: readonly GpuFeature[]) => Promise<WebgpuBackend>;

interface WebgpuTestBackend {
  readonly name: string;
  readonly create: CreateWebgpu;
  /** For platforms. */
  readonly gpu: GPU;
}

async function find(): Promise<WebgpuTestBackend> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`no answer to the request for an adapter within ${PATIENCE_MS / 1000} s`));
    }, PATIENCE_MS);
  });
  try {
    const { create: createGpu } = await import("webgpu");
    const gpu = createGpu([DISABLED_DAWN_FEATURES]);
    const restricted = new Map([["", gpu]]);
    const create: CreateWebgpu = (without = []) => {
      const key = without.join(" ");
      const own = restricted.get(key) ?? restrict(gpu, { without });
      restricted.set(key, own);
      return createWebgpuBackend(own);
    };
    await Promise.race([create(), tooLate]);
    return { name: "webgpu", create, gpu };
  } finally {
    clearTimeout(timer);
  }
}

async function findIfWanted(): Promise<WebgpuTestBackend[]> {
  if (!IS_WEBGPU_WANTED) return [];
  try {
    return [await find()];
  } catch (error) {
    if (IS_WEBGPU_REQUIRED) throw error;
    console.log(`skipped: webgpu: ${(error as Error).message}`);
    return [];
  }
}

/** The webgpu backend; empty where no adapter is found. */
export const WEBGPU: readonly WebgpuTestBackend[] = await findIfWanted();

/** What the backend is made of; null where there is none. */
export const WEBGPU_API: GPU | null = WEBGPU[0]?.gpu ?? null;
