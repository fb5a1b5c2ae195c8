// The byte-level tokenizer of models with 256 ids: each byte is its own id. Small test models use it, for example those
// that RWKV/rwkv.cpp publishes; every id is a byte, so none is left to end a text.

import type { Tokenizer } from "./tokenizer.ts";
import { VocabularyBuilder } from "./vocabulary.ts";

const N_VOCAB = 256;

/** A tokenizer with 256 ids, equal to the bytes they stand for. */
export function createByteTokenizer(): Tokenizer {
  const builder = new VocabularyBuilder("the byte vocabulary", N_VOCAB);
  for (let byte = 0; byte < N_VOCAB; byte++) builder.add(byte, Uint8Array.of(byte), `byte ${byte}`);
  const vocabulary = builder.finish();
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  return {
    kind: "bytes",
    nVocab: N_VOCAB,
    endOfText: null,
    encode: (text) => Array.from(encoder.encode(text)),
    encodeBytes: (bytes) => Array.from(bytes),
    decode: (ids) => decoder.decode(vocabulary.decodeBytes(ids, null)),
    decodeBytes: (ids) => vocabulary.decodeBytes(ids, null),
    tokenBytes: (id) => vocabulary.tokenBytes(id),
  };
}
