// Takes what a finished training left in its folder into the package.

import { copyFile, rename } from "node:fs/promises";
import { join } from "node:path";
import { CHART_FILE, MODEL_FILE, RUN_FOLDER } from "../paths.ts";

/** Replaces the shipped weights and the picture of the loss; the file is never half there. */
export async function publishRun(): Promise<void> {
  for (const [name, path] of [
    ["model.safetensors", MODEL_FILE],
    ["loss.svg", CHART_FILE],
  ] as const) {
    const temporary = `${path}.${process.pid}.part`;
    await copyFile(join(RUN_FOLDER, name), temporary);
    await rename(temporary, path);
    process.stderr.write(`Wrote ${path}.\n`);
  }
}
