// The ways in which a caller can name a file, and how each becomes a ByteSource. What lies beside the file matters
// too: shards, parts, and the tokenizer that belongs to a model.

import { blobSource, bytesSource, type ByteSource, type FileHandle } from "../core/byte-source.ts";
import { UsageError } from "../core/errors.ts";
import type { Platform } from "../core/platform.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { openCheckpoint } from "../formats/open.ts";

/** A path (Node), an address, a `Blob` or `File`, a handle of one (OPFS), bytes, or any other source of bytes. */
export type FileSource = string | URL | Blob | FileHandle | Uint8Array | ByteSource;

/** An opened file together with what can be reached from it. */
export interface OpenedFile {
  readonly source: ByteSource;
  /** Opens a file in the same folder, null if there is none or no folder. */
  openBeside(fileName: string, signal?: AbortSignal): Promise<ByteSource | null>;
  /** Whether `openBeside` can be tried without network access. */
  readonly hasLocalFolder: boolean;
}

export async function openFile(
  platform: Platform,
  file: FileSource,
  signal?: AbortSignal,
): Promise<OpenedFile> {
  if (typeof file === "string" || file instanceof URL) {
    return {
      source: await platform.open(file, signal),
      openBeside: (fileName, besideSignal) => platform.openBeside(file, fileName, besideSignal),
      hasLocalFolder: platform.isLocal(file),
    };
  }
  const source = await toByteSource(file);
  return { source, openBeside: () => Promise.resolve(null), hasLocalFolder: false };
}

/** Opens a checkpoint with all its parts, and closes them when `work` has ended, however it ended. */
export async function withCheckpoint<Result>(
  platform: Platform,
  file: FileSource,
  signal: AbortSignal | undefined,
  work: (checkpoint: Checkpoint, opened: OpenedFile) => Promise<Result>,
): Promise<Result> {
  const opened = await openFile(platform, file, signal);
  try {
    return await withOpened(opened, signal, (checkpoint) => work(checkpoint, opened));
  } finally {
    await opened.source.close();
  }
}

/** The same for a file that is already open and stays so. */
export async function withOpened<Result>(
  opened: OpenedFile,
  signal: AbortSignal | undefined,
  work: (checkpoint: Checkpoint) => Promise<Result>,
): Promise<Result> {
  const parts: ByteSource[] = [];
  try {
    const checkpoint = await openCheckpoint(opened.source, async (fileName) => {
      const part = await opened.openBeside(fileName, signal);
      if (part === null) {
        throw new UsageError(
          `${opened.source.name} continues in ${fileName}, which is not beside it. Put all parts into one folder.`,
        );
      }
      parts.push(part);
      return part;
    });
    return await work(checkpoint);
  } finally {
    for (const part of parts) await part.close();
  }
}

async function toByteSource(file: Blob | FileHandle | Uint8Array | ByteSource): Promise<ByteSource> {
  if (file instanceof Blob) return blobSource(file);
  if (file instanceof Uint8Array) return bytesSource(file);
  if (!("getFile" in file)) return file;
  try {
    return blobSource(await file.getFile(), file.name);
  } catch (cause) {
    throw new UsageError(
      `${file.name}: the file behind this handle cannot be read. It was removed, or the page may no longer read it: ask for it again.`,
      { cause },
    );
  }
}

/** The whole of a small file. */
export async function readAll(source: ByteSource, signal?: AbortSignal): Promise<Uint8Array<ArrayBuffer>> {
  const bytes = new Uint8Array(source.byteLength);
  await source.read(0, bytes, signal);
  return bytes;
}

/** Last part of a path or address, for messages and reports. */
export function baseName(name: string): string {
  return name.slice(Math.max(name.lastIndexOf("/"), name.lastIndexOf("\\")) + 1);
}
