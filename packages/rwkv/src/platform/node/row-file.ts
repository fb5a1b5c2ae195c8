// Single rows out of a file that stays open, such as those of an embedding, without a promise for each. Hides that the
// file is opened once more, and that it may be changed meanwhile.

import { closeSync, fstatSync, openSync, readSync, type Stats } from "node:fs";
import type { RowReader } from "../../core/byte-source.ts";
import { FormatError, UsageError } from "../../core/errors.ts";
import { explain } from "./file-errors.ts";

/** Files of readers that were dropped without `close`. */
const droppedReaders = new FinalizationRegistry<number>((descriptor) => closeSync(descriptor));

/**
 * Opens a file again.
 * @param opened - what it was when it was opened first
 * @throws FormatError if another file has its name by now, UsageError or DeviceError as `fileSource`
 */
export function openRows(path: string, opened: Stats): RowReader {
  let descriptor: number | null = attempt(path, () => openSync(path, "r"));
  const checkUnchanged = (found: number): void => {
    const { dev, ino, size, mtimeMs } = fstatSync(found);
    const isSame =
      dev === opened.dev && ino === opened.ino && size === opened.size && mtimeMs === opened.mtimeMs;
    if (isSame) return;
    throw new FormatError(
      `${path}: the file had ${opened.size} bytes and was last written at ${opened.mtime.toISOString()}, but has been ` +
        `changed since. A model's file must stay as it is while it is in use: load the model again.`,
    );
  };
  const reader: RowReader = {
    read(offset, target) {
      const found = descriptor;
      if (found === null) throw new UsageError(`${path} was closed and cannot be read any more.`);
      attempt(path, () => {
        checkUnchanged(found);
        let done = 0;
        while (done < target.byteLength) {
          const bytesRead = readSync(found, target, done, target.byteLength - done, offset + done);
          if (bytesRead === 0) checkUnchanged(found);
          done += bytesRead;
        }
      });
    },
    close() {
      if (descriptor === null) return;
      droppedReaders.unregister(reader);
      closeSync(descriptor);
      descriptor = null;
    },
  };
  try {
    checkUnchanged(descriptor);
  } catch (error) {
    closeSync(descriptor);
    throw error;
  }
  droppedReaders.register(reader, descriptor, reader);
  return reader;
}

function attempt<Result>(path: string, work: () => Result): Result {
  try {
    return work();
  } catch (error) {
    throw explain(error, path, "read");
  }
}
