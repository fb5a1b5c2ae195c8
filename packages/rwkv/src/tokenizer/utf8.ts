// Text out of a stream of bytes that is cut anywhere. The WHATWG decoder's answer for a whole byte string is given piece
// by piece: only a tail that can still become a character waits, so that neither a valid character is shown broken nor an
// invalid byte stops the text. https://encoding.spec.whatwg.org/#utf-8-decoder

const NO_BYTES = new Uint8Array(0);

/** Incremental UTF-8. Invalid bytes become U+FFFD as soon as they are known to be invalid. */
export class Utf8Decoder {
  readonly #decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  /** 0 to 3 bytes that begin a character. */
  #pending: Uint8Array = NO_BYTES;

  /** The text that these bytes complete; they are not kept. */
  push(bytes: Uint8Array): string {
    if (bytes.length === 0) return "";
    let all = bytes;
    if (this.#pending.length > 0) {
      all = new Uint8Array(this.#pending.length + bytes.length);
      all.set(this.#pending);
      all.set(bytes, this.#pending.length);
    }
    const nComplete = all.length - unfinishedTail(all);
    this.#pending = nComplete === all.length ? NO_BYTES : all.slice(nComplete);
    return this.#decoder.decode(all.subarray(0, nComplete));
  }

  /** Ends the text: U+FFFD if a character was left unfinished. The decoder can be used for another text afterwards. */
  flush(): string {
    const text = this.#decoder.decode(this.#pending);
    this.#pending = NO_BYTES;
    return text;
  }
}

/** How many bytes at the end, 0 to 3, are the beginning of a character and of nothing else. */
function unfinishedTail(bytes: Uint8Array): number {
  const n = bytes.length;
  for (let length = 1; length <= 3 && length <= n; length++) {
    const byte = bytes[n - length]!;
    if (byte < 0x80) return 0;
    if (byte < 0xc0) continue; // a continuation byte: its lead stands further left
    return length < sequenceLength(byte) && (length === 1 || isSecondByte(byte, bytes[n - length + 1]!))
      ? length
      : 0;
  }
  return 0;
}

/** Bytes of the character that begins with `lead`; 1 for a byte that begins none (overlong, or beyond U+10FFFF). */
function sequenceLength(lead: number): number {
  if (lead < 0xc2 || lead > 0xf4) return 1;
  if (lead < 0xe0) return 2;
  return lead < 0xf0 ? 3 : 4;
}

/** Second bytes that exclude overlong forms (E0, F0), surrogates (ED) and what lies beyond U+10FFFF (F4). */
function isSecondByte(lead: number, second: number): boolean {
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  return second >= low && second <= high;
}
