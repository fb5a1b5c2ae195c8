// How tests ask Dawn, which is WebGPU in Node and in Chromium, to work on SwiftShader.

/**
 * SwiftShader clears the memory of a workgroup, where Vulkan does it, by one instruction per word, which takes longer to
 * compile and to run than all the rest of a kernel. Without this Dawn clears it by a loop.
 */
export const DISABLED_DAWN_FEATURES =
  "disable-dawn-features=use_vulkan_zero_initialize_workgroup_memory_extension";

const setting = process.env["RWKV_TEST_WEBGPU"];
export const IS_WEBGPU_WANTED = setting !== "0";
/** On a machine that is there to test it, the tests must not pass without an adapter. */
export const IS_WEBGPU_REQUIRED = setting === "1";
if (!IS_WEBGPU_WANTED) console.log("skipped: webgpu: RWKV_TEST_WEBGPU is 0");
