// The World tokenizer: greedy longest match over bytes, without merges, normalisation or splitting into words. This file
// knows the three forms its vocabulary comes in: text (rwkv_vocab_v20230424.txt of BlinkDL/RWKV-LM), the JSON of
// web-rwkv, and the metadata of a GGUF (ggml-org/llama.cpp, `tokenizer.ggml.model` = "rwkv").

import { FormatError } from "../core/errors.ts";
import { decodeFile, isRecord, parseJson } from "./json.ts";
import { encodeText, parseGgufToken, parsePythonLiteral, shown } from "./python-literal.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { buildTrie, childOf, type ByteTrie } from "./trie.ts";
import { MAX_VOCAB, VocabularyBuilder, type Vocabulary } from "./vocabulary.ts";

/** Id 0 ends a text in every RWKV model with this vocabulary. No text encodes to it, whatever a file says of it. */
const END_OF_TEXT = 0;

/** `tokenizer.ggml.token_type` of tokens that text may encode to: normal, user-defined and byte. */
const GGUF_TEXT_TYPES: readonly unknown[] = [1, 4, 6];

/**
 * A tokenizer over a vocabulary that any of the functions below has read.
 * @throws FormatError if a single byte is missing or two tokens have the same bytes
 */
export function createWorldTokenizer(vocabulary: Vocabulary): Tokenizer {
  const keys: [Uint8Array, number][] = [];
  for (const id of vocabulary.ids) if (id !== END_OF_TEXT) keys.push([vocabulary.tokenBytes(id), id]);
  const trie = buildTrie(vocabulary.name, keys);
  for (let byte = 0; byte < 256; byte++) {
    const node = childOf(trie, 0, byte);
    if (node >= 0 && trie.value[node]! >= 0) continue;
    throw new FormatError(
      `${vocabulary.name}: no token is the single byte ${byte}, and text with it could not be encoded. All 256 must be ` +
        `there; ${keys.length} tokens were found. The file is cut short or no World vocabulary: get it again.`,
    );
  }
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const nothing = new Uint8Array(0);
  return {
    kind: "world",
    nVocab: vocabulary.nVocab,
    endOfText: END_OF_TEXT,
    encode: (text) => encodeGreedily(trie, encoder.encode(text)),
    encodeBytes: (bytes) => encodeGreedily(trie, bytes),
    decode: (ids) => decoder.decode(vocabulary.decodeBytes(ids, END_OF_TEXT)),
    decodeBytes: (ids) => vocabulary.decodeBytes(ids, END_OF_TEXT),
    tokenBytes: (id) => (id === END_OF_TEXT ? nothing : vocabulary.tokenBytes(id)),
  };
}

/** At each position the longest token that matches. Every single byte is a token, so each round advances. */
function encodeGreedily(trie: ByteTrie, bytes: Uint8Array): number[] {
  const { value } = trie;
  const ids: number[] = [];
  const end = bytes.length;
  for (let start = 0; start < end;) {
    let id = -1;
    let next = start + 1;
    let node = 0;
    for (let i = start; i < end;) {
      node = childOf(trie, node, bytes[i]!);
      if (node < 0) break;
      i++;
      if (value[node]! >= 0) {
        id = value[node]!;
        next = i;
      }
    }
    ids.push(id);
    start = next;
  }
  return ids;
}

/**
 * Vocabulary in the text form: a line for each token, `id literal length`, the literal as Python prints it and the
 * length in bytes. The literal may contain spaces. Lines end with LF or CR LF.
 * @throws FormatError naming the line
 */
export function parseWorldVocabulary(bytes: Uint8Array, name: string): Vocabulary {
  const text = decodeFile(bytes, name);
  // An escape or a character takes at least as many bytes in the file as it stands for.
  const builder = new VocabularyBuilder(name, bytes.byteLength);
  for (let start = 0, lineNumber = 1; start < text.length; lineNumber++) {
    let end = text.indexOf("\n", start);
    if (end < 0) end = text.length;
    const line = text.slice(start, text.charAt(end - 1) === "\r" ? end - 1 : end);
    start = end + 1;
    if (line !== "") addLine(builder, line, `line ${lineNumber}`, name);
  }
  return builder.finish();
}

function addLine(builder: VocabularyBuilder, line: string, place: string, name: string): void {
  const first = line.indexOf(" ");
  const last = line.lastIndexOf(" ");
  const id = line.slice(0, Math.max(first, 0));
  const byteLength = line.slice(last + 1);
  if (first === last || !isDecimal(id) || !isDecimal(byteLength)) {
    throw new FormatError(
      `${name}: ${place}: expected "id 'token' length", found ${shown(line)}. ` +
        `The file is damaged or no World vocabulary: get rwkv_vocab_v20230424.txt again.`,
    );
  }
  const token = parsePythonLiteral(line.slice(first + 1, last), `${name}: ${place}`);
  if (token.byteLength !== Number(byteLength)) {
    throw new FormatError(
      `${name}: ${place}: token ${id} should have ${byteLength} bytes, but its text stands for ${token.byteLength}. ` +
        `The file was changed by an editor or cut: get rwkv_vocab_v20230424.txt again.`,
    );
  }
  builder.add(Number(id), token, place);
}

/**
 * Vocabulary in the JSON form: an object from the id in decimal to a string, or to an array of byte values.
 * @throws FormatError naming the id
 */
export function parseJsonVocabulary(bytes: Uint8Array, name: string): Vocabulary {
  return vocabularyFromJson(parseJson(bytes, name), name, bytes.byteLength);
}

/** As `parseJsonVocabulary`, of a value that has been parsed from `byteLength` bytes. */
export function vocabularyFromJson(json: unknown, name: string, byteLength: number): Vocabulary {
  if (!isRecord(json))
    throw new FormatError(`${name}: expected a JSON object from ids to tokens. Get the file again.`);
  const builder = new VocabularyBuilder(name, byteLength);
  for (const [id, token] of Object.entries(json)) {
    const place = `id ${shown(id)}`;
    if (!isDecimal(id))
      throw new FormatError(`${name}: ${place} is not a decimal number. This is no World vocabulary.`);
    if (Number(id) === END_OF_TEXT) continue; // some copies give it a name
    if (typeof token === "string") {
      builder.add(Number(id), encodeText(token, `${name}: ${place}`), place);
    } else if (Array.isArray(token) && token.every(isByte)) {
      builder.add(Number(id), Uint8Array.from(token), place);
    } else {
      throw new FormatError(
        `${name}: ${place}: expected a string or an array of byte values 0 to 255, found ` +
          `${Array.isArray(token) ? "another array" : typeof token}. The file is damaged or no World vocabulary: get it again.`,
      );
    }
  }
  return builder.finish();
}

/** A vocabulary file in the JSON form, from which `openTokenizer` makes a World tokenizer like this one again. */
export function worldVocabularyFile(tokenizer: Tokenizer): Uint8Array<ArrayBuffer> {
  const lines: string[] = [];
  for (let id = 0; id < tokenizer.nVocab; id++) {
    const bytes = tokenizer.tokenBytes(id);
    if (bytes.length > 0) lines.push(`"${id}":[${bytes.join(",")}]`);
  }
  return new TextEncoder().encode(`{${lines.join(",\n")}}\n`);
}

/**
 * Tokenizer of a GGUF whose `tokenizer.ggml.model` is "rwkv". Control and unused tokens (`<s>`, `[PAD65530]`) are rows
 * of the model, not text: no text encodes to them, although other runtimes do that.
 * @param metadata - key-value pairs of the file
 * @throws FormatError if the tokens are missing or wrong, naming the key
 */
export function worldTokenizerFromGguf(
  metadata: ReadonlyMap<string, unknown>,
  name = "GGUF metadata",
): Tokenizer {
  const tokens = metadata.get("tokenizer.ggml.tokens");
  const types = metadata.get("tokenizer.ggml.token_type");
  if (
    !Array.isArray(tokens) ||
    tokens.length > MAX_VOCAB ||
    !tokens.every((token) => typeof token === "string")
  ) {
    throw new FormatError(
      `${name}: tokenizer.ggml.tokens should be an array of at most ${MAX_VOCAB} strings. The file is damaged: get it again.`,
    );
  }
  if (types !== undefined && !(Array.isArray(types) && types.length === tokens.length)) {
    throw new FormatError(
      `${name}: tokenizer.ggml.token_type should have an entry for each of the ${tokens.length} tokens. ` +
        `The file is damaged: get it again.`,
    );
  }
  let maxBytes = 0;
  for (const token of tokens) maxBytes += 3 * token.length; // UTF-8 takes at most 3 bytes per UTF-16 unit
  const builder = new VocabularyBuilder(name, maxBytes);
  tokens.forEach((token, id) => {
    if (id === END_OF_TEXT) return;
    const isText = types === undefined ? token !== `[PAD${id}]` : GGUF_TEXT_TYPES.includes(types[id]);
    const place = `tokenizer.ggml.tokens[${id}]`;
    if (isText) builder.add(id, parseGgufToken(token, `${name}: ${place}`), place);
  });
  return createWorldTokenizer(builder.finish());
}

function isDecimal(text: string): boolean {
  return /^(0|[1-9][0-9]{0,8})$/.test(text);
}

function isByte(value: unknown): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 0 && value <= 255;
}
