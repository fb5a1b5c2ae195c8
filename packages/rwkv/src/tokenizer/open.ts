// Which form a tokenizer file has is told from its content: names on the hub are no guide (`vocab.txt`, `tokenizer.json`).

import { FormatError } from "../core/errors.ts";
import { huggingFaceTokenizer } from "./huggingface.ts";
import { isRecord, parseJson } from "./json.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { createWorldTokenizer, parseWorldVocabulary, vocabularyFromJson } from "./world.ts";

/** Tokenizers in use, by the SHA-256 of their files: to parse one takes longer than to map a model. */
const inUse = new Map<string, WeakRef<Tokenizer>>();
const dropped = new FinalizationRegistry<string>((digest) => {
  if (inUse.get(digest)?.deref() === undefined) inUse.delete(digest);
});

/**
 * Tokenizer of a World vocabulary (text or JSON) or of a Hugging Face `tokenizer.json`.
 * @param bytes - the whole file; not kept
 * @param name - what messages call it
 * @returns the same tokenizer for the same bytes, as long as anyone has it, with the name it had first
 * @throws FormatError if it is none of them, or damaged
 * @throws UnsupportedError for a `tokenizer.json` that is not byte-level BPE
 */
export async function openTokenizer(bytes: Uint8Array<ArrayBuffer>, name: string): Promise<Tokenizer> {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes)).join();
  const known = inUse.get(digest)?.deref();
  if (known !== undefined) return known;
  const tokenizer = await parseTokenizer(bytes, name);
  inUse.set(digest, new WeakRef(tokenizer));
  dropped.register(tokenizer, digest);
  return tokenizer;
}

async function parseTokenizer(bytes: Uint8Array, name: string): Promise<Tokenizer> {
  const first = firstCharacter(bytes);
  if (first >= "0" && first <= "9") return createWorldTokenizer(parseWorldVocabulary(bytes, name));
  if (first === "{") {
    const json = parseJson(bytes, name);
    if (isRecord(json) && "model" in json) return huggingFaceTokenizer(json, name, bytes.byteLength);
    return createWorldTokenizer(vocabularyFromJson(json, name, bytes.byteLength));
  }
  throw new FormatError(
    `${name}: expected a tokenizer: lines of "id 'token' length", or JSON. Its ${bytes.byteLength} bytes begin with ` +
      `${JSON.stringify(first)}. Give rwkv_vocab_v20230424.txt, its JSON form or a tokenizer.json.`,
  );
}

/** The first character that is neither white space nor a byte order mark; empty if there is none near the beginning. */
function firstCharacter(bytes: Uint8Array): string {
  return new TextDecoder().decode(bytes.subarray(0, 256)).trimStart().charAt(0);
}
