// Traces from files: what `writeTrace` wrote, and checkpoints of any format with values that another program kept.

import { UnsupportedError } from "../core/errors.ts";
import type { Platform } from "../core/platform.ts";
import { isTraceJson, parseTraceJson, readTraceTensors, type Trace } from "../formats/trace-file.ts";
import { openFile, readAll, withOpened, type FileSource } from "./source.ts";

/** What fits into a JavaScript string. */
const MAX_JSON_BYTES = 500_000_000;

/**
 * Reads a trace into memory.
 * @throws FormatError if the file is damaged or no trace
 * @throws UnsupportedError for a trace of a later version, tensors of whole numbers, or more than 500 MB of JSON
 */
export async function readTrace(platform: Platform, file: FileSource, signal?: AbortSignal): Promise<Trace> {
  const opened = await openFile(platform, file, signal);
  const { source } = opened;
  try {
    const start = new Uint8Array(Math.min(8, source.byteLength));
    await source.read(0, start, signal);
    if (!isTraceJson(start)) {
      return await withOpened(opened, signal, (checkpoint) => readTraceTensors(checkpoint, signal));
    }
    if (source.byteLength > MAX_JSON_BYTES) {
      throw new UnsupportedError(
        `${source.name}: ${source.byteLength} bytes of JSON are too many to read at once. Write the trace as safetensors.`,
      );
    }
    return parseTraceJson(new TextDecoder().decode(await readAll(source, signal)), source.name);
  } finally {
    await source.close();
  }
}
