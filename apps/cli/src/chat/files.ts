// Files of the chat, whole.

import { fileSource } from "rwkv";
import { writeFileAtomically } from "../write-file.ts";

/** @throws UsageError if it does not exist or may not be read */
export async function readBytes(path: string): Promise<Uint8Array> {
  const source = await fileSource(path);
  try {
    const bytes = new Uint8Array(source.byteLength);
    await source.read(0, bytes);
    return bytes;
  } finally {
    await source.close();
  }
}

/** @throws UsageError if it cannot be written */
export async function writeText(path: string, text: string): Promise<void> {
  await writeFileAtomically(path, new TextEncoder().encode(text));
}
