// The model that is used where none is named: the bundled demo model, if it is installed. It is too small to be useful, and
// whoever gets it is told so.

import { UsageError } from "../core/errors.ts";
import type { Logger } from "../core/logger.ts";
import type { Platform } from "../core/platform.ts";

/** Where models are. */
const REAL_MODELS = "RWKV-7 models are at https://huggingface.co/BlinkDL/rwkv7-g1 (the 0.1B one has 382 MB)";

/** One line for whoever uses the demo model without having asked for it. */
export const DEMO_MODEL_NOTICE = `No model was named, so the small demo model is used. Real ${REAL_MODELS}.`;

/**
 * The file of the demo model; the logger hears that it is used.
 * @throws UsageError where it is not installed
 */
export function demoModelFile({ findDemoModel }: Platform, logger: Logger): string {
  const file = findDemoModel?.() ?? null;
  if (file === null) {
    throw new UsageError(
      `No model was named, and the demo model (package rwkv-demo-model) is not here. Give loadModel a file or an address; ` +
        `${REAL_MODELS}.`,
    );
  }
  logger.info(DEMO_MODEL_NOTICE);
  return file;
}
