// The same random weights in this library's own types, made by `rwkv quantize` from the F16 file, to be compared with
// the peers on their nearest type.

import { existsSync, renameSync, rmSync } from "node:fs";
import { runCommand } from "./engines.ts";
import type { BenchDType } from "./blocks.ts";
import { randomModel, type Shape } from "./models.ts";

/** Types of `rwkv quantize`. */
export type OwnDType = "f16" | "bf16" | "q8" | "q4" | "nf4";

/** Those that are compared with a peer on each of its types. */
export const OWN_DTYPES: Readonly<Record<BenchDType, readonly OwnDType[]>> = {
  f16: ["f16", "bf16"],
  q8_0: ["q8"],
  q4_0: ["q4", "nf4"],
};

/**
 * Writes the model into `folder`, unless it is there.
 * @returns the path of the file
 */
export async function ownModel(folder: string, shape: Shape, dtype: OwnDType): Promise<string> {
  const original = await randomModel(folder, shape, "f16");
  const path = original.replace("-f16-", `-own-${dtype}-`).replace(/\.gguf$/, ".safetensors");
  if (existsSync(path)) return path;
  const partial = `${path}.partial.safetensors`;
  try {
    await runCommand(["quantize", original, partial, "--dtype", dtype]);
    renameSync(partial, path);
  } finally {
    rmSync(partial, { force: true });
  }
  return path;
}
