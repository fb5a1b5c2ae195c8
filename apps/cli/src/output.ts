// Writing results so that pipes behave: with backpressure, and ending quietly when the reader has gone.

import { once } from "node:events";

/** The reader of stdout has closed it (`| head -1`): nobody wants the rest. */
export class ClosedPipe extends Error {
  override readonly name = "ClosedPipe";
}

let isClosed = false;
process.stdout.on("error", (error: NodeJS.ErrnoException) => {
  if (error.code !== "EPIPE") throw error;
  isClosed = true;
});

/**
 * Writes to stdout and waits until there is room for more.
 * @throws ClosedPipe if the reader has gone
 */
export async function writeOut(data: string | Uint8Array): Promise<void> {
  if (isClosed) throw new ClosedPipe();
  if (data.length === 0) return;
  await new Promise<void>((resolve, reject) => {
    process.stdout.write(data, (error) => {
      if (error === null || error === undefined) resolve();
      else if ((error as NodeJS.ErrnoException).code === "EPIPE") reject(new ClosedPipe());
      else reject(error);
    });
  });
}

export async function writeLine(text: string): Promise<void> {
  await writeOut(`${text}\n`);
}

/** The whole of stdin as bytes, nothing trimmed. */
export async function readStdin(): Promise<Uint8Array> {
  const pieces: Uint8Array[] = [];
  process.stdin.on("data", (piece: Uint8Array) => pieces.push(piece));
  await once(process.stdin, "end");
  return Buffer.concat(pieces);
}
