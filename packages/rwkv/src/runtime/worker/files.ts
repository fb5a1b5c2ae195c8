// Files on their way to the worker. Blobs, files and handles are only referred to; the worker reads them itself. Any other source
// stays here and is read piece by piece when the worker asks.

import type { ByteSource, FileHandle } from "../../core/byte-source.ts";
import type { FileSource } from "../source.ts";
import type { Channel, Handlers } from "./channel.ts";
import type { EngineCalls, PageCalls } from "./calls.ts";

export type FileMessage =
  | { readonly kind: "value"; readonly value: string | Blob | FileHandle | Uint8Array }
  | { readonly kind: "url"; readonly href: string }
  | { readonly kind: "source"; readonly id: number; readonly name: string; readonly byteLength: number };

/** Most bytes of a source that are on their way at a time. */
const PIECE_BYTES = 16 * 2 ** 20;

/** Sources of the page that the worker reads. */
export class SharedSources {
  readonly #sources: ByteSource[] = [];

  /** What answers the worker. */
  readonly handlers: Pick<Handlers<PageCalls>, "readSource" | "closeSource"> = {
    readSource: async ({ source, offset, byteLength }, signal) => {
      const bytes = new Uint8Array(byteLength);
      await this.#sources[source]!.read(offset, bytes, signal);
      return { value: bytes, transfer: [bytes.buffer] };
    },
    closeSource: async (source) => {
      await this.#sources[source]!.close();
      return { value: undefined };
    },
  };

  message(file: FileSource): FileMessage {
    if (typeof file === "string") return { kind: "value", value: absolute(file) };
    if (file instanceof URL) return { kind: "url", href: file.href };
    if (file instanceof Blob || file instanceof Uint8Array || "getFile" in file) {
      return { kind: "value", value: file };
    }
    const { name, byteLength } = file;
    return { kind: "source", id: this.#sources.push(file) - 1, name, byteLength };
  }
}

/** The file, for the worker to open. */
export function receivedFile(message: FileMessage, channel: Channel<PageCalls, EngineCalls>): FileSource {
  if (message.kind === "value") return message.value;
  if (message.kind === "url") return new URL(message.href);
  const { id, name, byteLength } = message;
  return {
    name,
    byteLength,
    async read(offset, target, signal) {
      for (let done = 0; done < target.byteLength; done += PIECE_BYTES) {
        const pieceBytes = Math.min(PIECE_BYTES, target.byteLength - done);
        const piece = { source: id, offset: offset + done, byteLength: pieceBytes };
        target.set(await channel.call("readSource", piece, { signal }), done);
      }
    },
    close: () => channel.call("closeSource", id),
  };
}

/** Addresses are relative to the page, of which the worker knows nothing. */
function absolute(address: string): string {
  const page = (globalThis as { readonly location?: { readonly href: string } }).location?.href;
  // One that cannot be understood is refused where all are.
  return page !== undefined && URL.canParse(address, page) ? new URL(address, page).href : address;
}
