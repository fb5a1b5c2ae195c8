// Finds the bundled demo model: a package of its own, so that those who bring their own models need not install it.

import { createRequire } from "node:module";

const MODEL_FILE = "rwkv-demo-model/model.safetensors";
/** What Node says where there is no such package, or no such file in it. */
const NOT_THERE = ["MODULE_NOT_FOUND", "ERR_PACKAGE_PATH_NOT_EXPORTED"];

/**
 * @param resolve - as `require.resolve`; replaced by tests
 * @returns the path of the model, which has its vocabulary beside it; null if it is not installed
 */
export function findDemoModel(
  resolve: (specifier: string) => string = createRequire(import.meta.url).resolve,
): string | null {
  try {
    return resolve(MODEL_FILE);
  } catch (error) {
    if (NOT_THERE.includes((error as NodeJS.ErrnoException).code ?? "")) return null;
    throw error;
  }
}
