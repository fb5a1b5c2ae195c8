// The order of a stored state's last two dimensions, and how a file says which it has: trainers write `.pth` in one,
// web-rwkv's converter safetensors in the other, and neither leaves a mark.

import { FormatError } from "../../core/errors.ts";
import type { Checkpoint } from "../../formats/checkpoint.ts";

/** Order of the last two dimensions of `time_state`. */
export type StateOrientation = "value-key" | "key-value";

/** The key of safetensors metadata under which this project's files say it. */
export const STATE_ORIENTATION_KEY = "rwkv.stateOrientation";

/**
 * The order that the file's metadata states; null if it states none.
 * @throws FormatError if it states something else
 */
export function statedOrientation({ name, metadata }: Checkpoint): StateOrientation | null {
  const stated = metadata.get(STATE_ORIENTATION_KEY) ?? null;
  if (stated === null || stated === "value-key" || stated === "key-value") return stated;
  throw new FormatError(
    `${name}: metadata "${STATE_ORIENTATION_KEY}" is ${JSON.stringify(String(stated)).slice(0, 80)}; expected "value-key" or ` +
      `"key-value". The file was written wrongly: make it again.`,
  );
}
