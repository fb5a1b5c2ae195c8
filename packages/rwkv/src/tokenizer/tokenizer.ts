// What every tokenizer offers, whatever its vocabulary. Ids are turned into bytes, not into text: a token may hold half
// a character, so that text exists only for a whole sequence (`decode`) or for a stream (`Utf8Decoder` in utf8.ts).

/** Text to ids (`encode`) and back (`decode`). Nothing is added: no token before the text and none after it. */
export interface Tokenizer {
  readonly kind: "world" | "bytes" | "huggingface";
  /** Ids are below this; some of them may be unused. */
  readonly nVocab: number;
  /** The id that ends a text; null if no id does. It stands for no bytes and decodes to nothing. */
  readonly endOfText: number | null;
  /** Ids of the text's UTF-8 bytes; a lone surrogate counts as U+FFFD. */
  encode(text: string): number[];
  /**
   * Ids of any bytes.
   * @throws UsageError if this kind encodes characters only and the bytes are not valid UTF-8
   */
  encodeBytes(bytes: Uint8Array): number[];
  /**
   * Text of a whole sequence; bytes that are not UTF-8 become U+FFFD.
   * @throws UsageError naming an id that is unknown or unused
   */
  decode(ids: Iterable<number>): string;
  /**
   * Bytes of a whole sequence.
   * @throws UsageError naming an id that is unknown or unused
   */
  decodeBytes(ids: Iterable<number>): Uint8Array;
  /** Bytes of one token, not copied: leave them unchanged. Empty for the end of text and for unused or unknown ids. */
  tokenBytes(id: number): Uint8Array;
}
