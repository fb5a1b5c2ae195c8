// A file that is either written whole or not at all.

import { atomicFile } from "rwkv";

export async function writeFileAtomically(path: string, bytes: Uint8Array): Promise<void> {
  const file = await atomicFile(path);
  try {
    await file.write(bytes);
    await file.commit();
  } catch (error) {
    await file.discard();
    throw error;
  }
}
