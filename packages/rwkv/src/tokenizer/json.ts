// JSON text of a vocabulary file, read without trust.

import { FormatError } from "../core/errors.ts";

/** @throws FormatError if the bytes are not UTF-8, or the text is not JSON */
export function parseJson(bytes: Uint8Array, name: string): unknown {
  const text = decodeFile(bytes, name);
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new FormatError(
      `${name}: expected JSON, but ${String(cause)}. It looks damaged or cut short: get it again.`,
      {
        cause,
      },
    );
  }
}

/**
 * Text of a file that must be UTF-8; a byte order mark is dropped.
 * @throws FormatError naming the file
 */
export function decodeFile(bytes: Uint8Array, name: string): string {
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(
      `${name}: expected a text file in UTF-8, but its ${bytes.byteLength} bytes are not valid UTF-8. ` +
        `Give rwkv_vocab_v20230424.txt, its JSON form or a tokenizer.json.`,
      { cause },
    );
  }
}

export function isRecord(value: unknown): value is Readonly<Record<string, unknown>> {
  return typeof value === "object" && value !== null && !Array.isArray(value);
}
