// From tokens to text that may be shown: stop strings never show, not even in part, and characters come out whole.

import { createStopMatcher, type StopMatcher } from "../tokenizer/stop.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { Utf8Decoder } from "../tokenizer/utf8.ts";

/** Tokens to text: bytes that may belong to a stop string or an unfinished character are held back. */
export class TextEmitter {
  readonly #tokenizer: Tokenizer | null;
  readonly #matcher: StopMatcher | null;
  readonly #decoder = new Utf8Decoder();
  isStopped = false;

  constructor(tokenizer: Tokenizer | null, stop: readonly string[]) {
    this.#tokenizer = tokenizer;
    const encoder = new TextEncoder();
    this.#matcher = stop.length === 0 ? null : createStopMatcher(stop.map((text) => encoder.encode(text)));
  }

  /** Without a tokenizer there is no text, only tokens. */
  push(token: number): string {
    if (this.#tokenizer === null) return "";
    const bytes = this.#tokenizer.tokenBytes(token);
    if (this.#matcher === null) return this.#decoder.push(bytes);
    const { emit, matched } = this.#matcher.push(bytes);
    if (matched !== null) this.isStopped = true;
    return this.#decoder.push(emit);
  }

  flush(): string {
    const held = this.#matcher === null || this.isStopped ? new Uint8Array(0) : this.#matcher.flush();
    return this.#decoder.push(held) + this.#decoder.flush();
  }
}
