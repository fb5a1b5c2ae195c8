// WebGPU for tests: the machine's own adapter, or SwiftShader, which computes on the CPU and comes with Chromium. Where there
// is neither, tests are skipped, and why is printed.

import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createWebgpuBackend, type WebgpuBackend } from "../../packages/rwkv/src/backends/webgpu/webgpu.ts";
import { loadWebgpu } from "../../packages/rwkv/src/platform/node/webgpu.ts";

const SWIFTSHADER = "/usr/lib/chromium/libvk_swiftshader.so";

// The loader of Vulkan reads this when the first adapter is asked for.
if (process.env["VK_ICD_FILENAMES"] === undefined && existsSync(SWIFTSHADER)) {
  const driver = join(mkdtempSync(join(tmpdir(), "rwkv-test-vulkan-")), "swiftshader.json");
  const content = {
    file_format_version: "1.0.0",
    ICD: { library_path: SWIFTSHADER, api_version: "1.0.5" },
  };
  writeFileSync(driver, JSON.stringify(content));
  process.env["VK_ICD_FILENAMES"] = driver;
}

/** An adapter that has not answered by then is taken for none. */
const PATIENCE_MS = 20_000;

async function find(): Promise<{ create: () => Promise<WebgpuBackend> } | null> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`no answer to the request for an adapter within ${PATIENCE_MS / 1000} s`));
    }, PATIENCE_MS);
  });
  try {
    const create = async (): Promise<WebgpuBackend> => createWebgpuBackend(await loadWebgpu());
    await Promise.race([create(), tooLate]);
    return { create };
  } catch (error) {
    console.log(`skipped: webgpu: ${(error as Error).message}`);
    return null;
  } finally {
    clearTimeout(timer);
  }
}

const found = await find();

interface WebgpuTestBackend {
  readonly name: string;
  readonly create: () => Promise<WebgpuBackend>;
}

/** The webgpu backend; empty where no adapter is found. */
export const WEBGPU: readonly WebgpuTestBackend[] =
  found === null ? [] : [{ name: "webgpu", create: found.create }];

const IS_LONG = process.env["RWKV_TEST_LONG"] !== undefined;

/** As `WEBGPU`, for tests that take minutes where the processor imitates the GPU; empty otherwise. */
export const WEBGPU_IF_LONG = IS_LONG ? WEBGPU : [];
if (!IS_LONG && found !== null) console.log("skipped: long tests of webgpu: RWKV_TEST_LONG is not set");
