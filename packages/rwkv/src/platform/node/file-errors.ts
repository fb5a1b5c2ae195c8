// Errors of the file system in words: what is wrong with which path, and what to do.

import { dirname } from "node:path";
import { DeviceError, RwkvError, UsageError } from "../../core/errors.ts";

/** The code of a system error; empty for any other. */
export function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

/** What an error says. */
export function describe(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The system's error as one of ours, naming the path and the remedy. */
export function explain(error: unknown, path: string, purpose: "read" | "write"): unknown {
  if (error instanceof RwkvError) return error;
  const options = { cause: error };
  switch (codeOf(error)) {
    case "ENOENT":
    case "ENOTDIR":
      return new UsageError(
        purpose === "read"
          ? `${path} does not exist. Check the spelling, and the folder that the program was started in.`
          : `${dirname(path)} is not a folder, so ${path} cannot be written. Create it first, or choose another path.`,
        options,
      );
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return new UsageError(
        `${purpose === "read" ? path : dirname(path)}: no permission to ${purpose}. Change the permissions, or choose ` +
          `another place.`,
        options,
      );
    case "ENAMETOOLONG":
    case "ELOOP":
    case "ERR_INVALID_ARG_VALUE":
      return new UsageError(
        `${JSON.stringify(path.slice(0, 200))} cannot be the path of a file: ${describe(error)}.`,
        options,
      );
    case "EMFILE":
    case "ENFILE":
      return new DeviceError(
        `${path}: too many files are open. Close some, or raise the limit (ulimit -n).`,
        options,
      );
    default:
      return new DeviceError(`${path}: the system could not ${purpose} it: ${describe(error)}.`, options);
  }
}
