// Byte-level BPE from a Hugging Face `tokenizer.json`, such as the 20B tokenizer of the models trained on the Pile.
// Encoding is done by @huggingface/tokenizers, which is loaded only when such a file is opened; decoding is done here, by
// bytes, since the library decodes to text and would lose those of an unfinished character. The file is checked first:
// the library drops what it cannot encode without a word.

import { FormatError, UnsupportedError, UsageError } from "../core/errors.ts";
import { BYTE_CHARACTERS, bytesOfByteLevelToken } from "./byte-level.ts";
import { isRecord } from "./json.ts";
import { encodeText, shown } from "./python-literal.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { VocabularyBuilder, type Vocabulary } from "./vocabulary.ts";

/**
 * GPT-2's split into words. White space is Unicode's, as in the Rust library that made the vocabularies. JavaScript's
 * `\s`, which @huggingface/tokenizers 0.2.0 uses, has U+FEFF too and lacks U+0085: other ids for text with either.
 */
const GPT2_PATTERN =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

const END_OF_TEXT = "<|endoftext|>";
const NORMALIZERS: readonly unknown[] = ["NFC", "NFD", "NFKC", "NFKD"];

/** What is used of @huggingface/tokenizers, whose own types do not resolve under Node's module rules. */
interface EncodingLibrary {
  readonly Tokenizer: new (
    tokenizer: object,
    config: object,
  ) => {
    readonly pre_tokenizer: unknown;
    encode(text: string, options: { add_special_tokens: boolean }): { readonly ids: number[] };
  };
  readonly ByteLevelPreTokenizer: new (config: object) => { pattern: RegExp };
}

interface AddedToken {
  readonly id: number;
  readonly content: string;
  readonly special: boolean;
}

/**
 * Tokenizer of a `tokenizer.json`. Special tokens written in the text become their ids.
 * @param json - the parsed file
 * @param byteLength - of the file
 * @throws FormatError if the file is damaged
 * @throws UnsupportedError if it is not byte-level BPE, or asks for something this project does not check
 */
export async function huggingFaceTokenizer(
  json: unknown,
  name: string,
  byteLength: number,
): Promise<Tokenizer> {
  if (!isRecord(json) || !isRecord(json["model"])) {
    throw damaged(name, `expected an object with a "model"`);
  }
  const { model } = json;
  checkKind(json, model, name);
  const addedTokens = readAddedTokens(json["added_tokens"] ?? [], name);
  const vocab = readVocab(model["vocab"], name);
  checkMerges(model["merges"], vocab, name);
  const vocabulary = makeVocabulary(vocab, addedTokens, name, byteLength);

  const library = (await import("@huggingface/tokenizers")) as unknown as EncodingLibrary;
  const encoding = new library.Tokenizer(
    {
      model,
      normalizer: json["normalizer"] ?? null,
      pre_tokenizer: json["pre_tokenizer"],
      decoder: json["decoder"],
      post_processor: null, // it would add tokens before and after the text
      added_tokens: json["added_tokens"] ?? [],
    },
    {},
  );
  if (encoding.pre_tokenizer instanceof library.ByteLevelPreTokenizer)
    encoding.pre_tokenizer.pattern = GPT2_PATTERN;
  const encodeIds = (text: string): number[] => encoding.encode(text, { add_special_tokens: false }).ids;

  const endOfText = addedTokens.find((token) => token.special && token.content === END_OF_TEXT)?.id ?? null;
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const strictDecoder = new TextDecoder("utf-8", { ignoreBOM: true, fatal: true });
  const nothing = new Uint8Array(0);
  return {
    kind: "huggingface",
    nVocab: vocabulary.nVocab,
    endOfText,
    encode: (text) => encodeIds(decoder.decode(encoder.encode(text))), // replaces lone surrogates
    encodeBytes(input) {
      let text: string;
      try {
        text = strictDecoder.decode(input);
      } catch (cause) {
        throw new UsageError(
          `${name} encodes text, but the ${input.byteLength} bytes given are not valid UTF-8. ` +
            `Decode them to text first, in the encoding they are in.`,
          { cause },
        );
      }
      return encodeIds(text);
    },
    decode: (ids) => decoder.decode(vocabulary.decodeBytes(ids, endOfText)),
    decodeBytes: (ids) => vocabulary.decodeBytes(ids, endOfText),
    tokenBytes: (id) => (id === endOfText ? nothing : vocabulary.tokenBytes(id)),
  };
}

/** Refuses whatever would make ids or bytes differ from those of the file's own library. */
function checkKind(
  json: Readonly<Record<string, unknown>>,
  model: Readonly<Record<string, unknown>>,
  name: string,
): void {
  const typeOf = (part: unknown): unknown => (isRecord(part) ? part["type"] : null);
  const normalizer = typeOf(json["normalizer"]);
  const found: [string, unknown, boolean][] = [
    ["model.type", model["type"], model["type"] === "BPE"],
    ["pre_tokenizer.type", typeOf(json["pre_tokenizer"]), typeOf(json["pre_tokenizer"]) === "ByteLevel"],
    ["decoder.type", typeOf(json["decoder"]), typeOf(json["decoder"]) === "ByteLevel"],
    ["normalizer.type", normalizer, normalizer === null || NORMALIZERS.includes(normalizer)],
    ...["byte_fallback", "dropout", "continuing_subword_prefix", "end_of_word_suffix"].map(
      (key): [string, unknown, boolean] => [`model.${key}`, model[key], !model[key]],
    ),
  ];
  for (const [key, value, isFine] of found) {
    if (isFine) continue;
    const shownValue =
      typeof value === "string" || typeof value === "number" ? shown(String(value)) : typeof value;
    throw new UnsupportedError(
      `${name}: only byte-level BPE is supported (BPE model, ByteLevel pre_tokenizer and decoder, Unicode normalizer ` +
        `or none), but ${key} is ${shownValue}. Use token ids, or a tokenizer of your own.`,
    );
  }
}

function readAddedTokens(list: unknown, name: string): AddedToken[] {
  if (!Array.isArray(list)) throw damaged(name, `"added_tokens" should be an array`);
  return list.map((token: unknown, i) => {
    if (!isRecord(token) || typeof token["content"] !== "string" || typeof token["id"] !== "number") {
      throw damaged(name, `added_tokens[${i}] should have a content and an id`);
    }
    const flag = ["single_word", "lstrip", "rstrip"].find((key) => token[key] === true);
    if (flag !== undefined) {
      throw new UnsupportedError(
        `${name}: added_tokens[${i}] has ${flag}, which is not supported. Use token ids, or a tokenizer of your own.`,
      );
    }
    return { id: token["id"], content: token["content"], special: token["special"] === true };
  });
}

function readVocab(vocab: unknown, name: string): ReadonlyMap<string, number> {
  if (!isRecord(vocab)) throw damaged(name, `"model.vocab" should be an object from tokens to ids`);
  const ids = new Map<string, number>();
  for (const [token, id] of Object.entries(vocab)) {
    if (typeof id !== "number") throw damaged(name, `the id of token ${shown(token)} is no number`);
    ids.set(token, id);
  }
  // C0, C1 and F5 to FF occur in no UTF-8 text; the 20B vocabulary lacks them.
  const missing = BYTE_CHARACTERS.findIndex(
    (char, byte) => (byte < 0xc0 || (byte > 0xc1 && byte < 0xf5)) && !ids.has(char),
  );
  if (missing >= 0) {
    throw damaged(
      name,
      `no token stands for the single byte ${missing}, and text with it could not be encoded`,
    );
  }
  return ids;
}

/** Each merge must lead from tokens to a token. */
function checkMerges(merges: unknown, vocab: ReadonlyMap<string, number>, name: string): void {
  if (!Array.isArray(merges)) throw damaged(name, `"model.merges" should be an array`);
  merges.forEach((merge: unknown, i) => {
    const pair: unknown[] = typeof merge === "string" ? merge.split(" ") : Array.isArray(merge) ? merge : [];
    const [left, right] = pair;
    if (
      pair.length === 2 &&
      typeof left === "string" &&
      typeof right === "string" &&
      typeof merge === typeof merges[0] &&
      vocab.has(left) &&
      vocab.has(right) &&
      vocab.has(left + right)
    ) {
      return;
    }
    throw damaged(name, `merges[${i}] should join two tokens of the vocabulary to a third`);
  });
}

function makeVocabulary(
  vocab: ReadonlyMap<string, number>,
  addedTokens: readonly AddedToken[],
  name: string,
  byteLength: number,
): Vocabulary {
  const builder = new VocabularyBuilder(name, byteLength);
  const addedIds = new Map(addedTokens.map((token) => [token.content, token.id]));
  for (const [token, id] of vocab) {
    // Many files list their special tokens in both places.
    if (addedIds.get(token) !== id) builder.add(id, bytesOfByteLevelToken(token), `token ${shown(token)}`);
  }
  addedTokens.forEach(({ id, content }, i) => {
    const place = `added_tokens[${i}]`;
    builder.add(id, encodeText(content, `${name}: ${place}`), place);
  });
  return builder.finish();
}

function damaged(name: string, problem: string): FormatError {
  return new FormatError(`${name}: ${problem}. The file is damaged or no tokenizer.json: get it again.`);
}
