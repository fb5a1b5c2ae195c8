// WebGPU for tests: the machine's own adapter, or SwiftShader, which computes on the CPU and comes with Chromium. Where there
// is neither, tests are skipped, and why is printed.

import { existsSync, mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { GpuFeature } from "../../packages/rwkv/src/backends/webgpu/features.ts";
import { createWebgpuBackend, type WebgpuBackend } from "../../packages/rwkv/src/backends/webgpu/webgpu.ts";

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

/**
 * SwiftShader clears the memory of a workgroup, where Vulkan does it, by one instruction per word, which takes longer to
 * compile and to run than all the rest of a kernel. Without this Dawn clears it by a loop.
 */
export const DAWN_OPTIONS = [
  "disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension",
] as const;

/** An adapter that has not answered by then is taken for none. */
const PATIENCE_MS = 20_000;

/** @param without - features that the backend is not to use */
type CreateWebgpu = (without?: readonly GpuFeature[]) => Promise<WebgpuBackend>;

async function find(): Promise<{ create: CreateWebgpu } | null> {
  let timer: NodeJS.Timeout | undefined;
  const tooLate = new Promise<never>((_, reject) => {
    timer = setTimeout(() => {
      reject(new Error(`no answer to the request for an adapter within ${PATIENCE_MS / 1000} s`));
    }, PATIENCE_MS);
  });
  try {
    const { create: createGpu } = await import("webgpu");
    const gpu = createGpu([...DAWN_OPTIONS]);
    const create: CreateWebgpu = (without) => createWebgpuBackend(gpu, without);
    await Promise.race([create(), tooLate]);
    return { create };
  } catch (error) {
    console.log(`skipped: webgpu: ${(error as Error).message}`);
    return null;
  } finally {
    clearTimeout(timer);
  }
}

interface WebgpuTestBackend {
  readonly name: string;
  readonly create: CreateWebgpu;
}

/** Where the processor imitates the GPU these tests take many minutes, so that they run only when they are asked for. */
const IS_WANTED = process.env["RWKV_TEST_WEBGPU"] === "1";
if (!IS_WANTED) console.log("skipped: webgpu: RWKV_TEST_WEBGPU=1 runs these tests");

const found = IS_WANTED ? await find() : null;

/** The webgpu backend; empty where no adapter is found, or nobody asked. */
export const WEBGPU: readonly WebgpuTestBackend[] =
  found === null ? [] : [{ name: "webgpu", create: found.create }];
