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

async function find(): Promise<{ create: () => Promise<WebgpuBackend> } | null> {
  try {
    const create = async (): Promise<WebgpuBackend> => createWebgpuBackend(await loadWebgpu());
    await create();
    return { create };
  } catch (error) {
    console.log(`skipped: webgpu: ${(error as Error).message}`);
    return null;
  }
}

const found = await find();

/** The webgpu backend; empty where no adapter is found. */
export const WEBGPU: readonly { readonly name: string; readonly create: () => Promise<WebgpuBackend> }[] =
  found === null ? [] : [{ name: "webgpu", create: found.create }];
