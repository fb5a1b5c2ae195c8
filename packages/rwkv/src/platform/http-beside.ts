// Files in the same folder of a web server: shards and parts of a model.

import type { ByteSource } from "../core/byte-source.ts";
import { fileErrorCode } from "../core/errors.ts";
import { httpSource, parseAddress } from "./http.ts";

/** Null if the server has no such file. */
export async function openHttpBeside(
  location: string | URL,
  fileName: string,
  signal?: AbortSignal,
): Promise<ByteSource | null> {
  const beside = new URL(encodeURIComponent(fileName), parseAddress(location));
  try {
    return await httpSource(beside, { signal });
  } catch (error) {
    if (fileErrorCode(error) === "ENOENT") return null;
    throw error;
  }
}
