// The bytes of every token, end to end in one array: 65,529 separate arrays would cost more in headers than in content.
// Built once from a file of any form; what the bytes are matched with (trie, merges) lies elsewhere.

import { FormatError, UsageError } from "../core/errors.ts";

/** Largest number of ids a file may claim; published vocabularies stay below 300,000. */
export const MAX_VOCAB = 2 ** 20;

/** The longest token of the World vocabulary has 128 bytes. The bound limits what one step of encoding can cost. */
const MAX_TOKEN_BYTES = 1024;

/** Bytes by id. Made by `VocabularyBuilder`. */
export class Vocabulary {
  /** What messages call it. */
  readonly name: string;
  /** One more than the largest id in use. */
  readonly nVocab: number;
  /** Ids in use, in the order they were added. */
  readonly ids: readonly number[];
  readonly #bytes: Uint8Array;
  /** Token `id` is `bytes[starts[id] .. ends[id])`; both are 0 where the id is unused. */
  readonly #starts: Uint32Array;
  readonly #ends: Uint32Array;

  /** @internal Use `VocabularyBuilder`. */
  constructor(
    name: string,
    ids: readonly number[],
    nVocab: number,
    bytes: Uint8Array,
    ends: readonly number[],
  ) {
    this.name = name;
    this.nVocab = nVocab;
    this.ids = ids;
    this.#bytes = bytes;
    this.#starts = new Uint32Array(nVocab);
    this.#ends = new Uint32Array(nVocab);
    ids.forEach((id, i) => {
      this.#starts[id] = i === 0 ? 0 : ends[i - 1]!;
      this.#ends[id] = ends[i]!;
    });
  }

  /** Bytes of one token, not copied; empty for an unused or unknown id. */
  tokenBytes(id: number): Uint8Array {
    const end = this.#ends[id] ?? 0;
    return this.#bytes.subarray(end === 0 ? 0 : this.#starts[id]!, end);
  }

  /**
   * Bytes of a sequence.
   * @param endOfText - the id that stands for nothing, if there is one
   * @throws UsageError naming an id that is unknown or unused
   */
  decodeBytes(ids: Iterable<number>, endOfText: number | null): Uint8Array {
    const list = Array.isArray(ids) ? (ids as readonly number[]) : [...ids];
    let byteLength = 0;
    for (const id of list) {
      if (id === endOfText) continue;
      const end = this.#ends[id] ?? 0;
      if (end === 0) {
        throw new UsageError(
          `Token ${id} cannot be decoded: ${this.name} has ${this.ids.length} tokens with ids below ${this.nVocab}, ` +
            `and this is none of them. The ids belong to another tokenizer, or are unused rows of the model.`,
        );
      }
      byteLength += end - this.#starts[id]!;
    }
    const bytes = new Uint8Array(byteLength);
    let offset = 0;
    for (const id of list) {
      if (id === endOfText) continue;
      const token = this.tokenBytes(id);
      bytes.set(token, offset);
      offset += token.byteLength;
    }
    return bytes;
  }
}

/** Collects the tokens of one file, in any order of ids. */
export class VocabularyBuilder {
  readonly #name: string;
  readonly #bytes: Uint8Array;
  readonly #ids: number[] = [];
  readonly #ends: number[] = [];
  /** 1 for each id that is taken. */
  readonly #known = new Uint8Array(MAX_VOCAB);
  #byteLength = 0;
  #nVocab = 0;

  /** @param maxBytes - no fewer than the tokens will have together; the file's length is such a bound */
  constructor(name: string, maxBytes: number) {
    this.#name = name;
    this.#bytes = new Uint8Array(maxBytes);
  }

  /**
   * Adds one token; `bytes` are copied.
   * @param place - where in the file, for messages: `line 17`
   * @throws FormatError for an id that is out of range or taken, and for a token without bytes or with too many
   */
  add(id: number, bytes: Uint8Array, place: string): void {
    if (!Number.isInteger(id) || id < 0 || id >= MAX_VOCAB) {
      throw this.#error(place, `the id ${id} is not a whole number from 0 to ${MAX_VOCAB - 1}`);
    }
    if (this.#known[id] !== 0) throw this.#error(place, `the id ${id} occurs a second time`);
    if (bytes.byteLength === 0 || bytes.byteLength > MAX_TOKEN_BYTES) {
      throw this.#error(
        place,
        `token ${id} has ${bytes.byteLength} bytes; 1 to ${MAX_TOKEN_BYTES} are expected`,
      );
    }
    this.#known[id] = 1;
    this.#bytes.set(bytes, this.#byteLength);
    this.#byteLength += bytes.byteLength;
    this.#ids.push(id);
    this.#ends.push(this.#byteLength);
    this.#nVocab = Math.max(this.#nVocab, id + 1);
  }

  finish(): Vocabulary {
    const bytes = this.#bytes.slice(0, this.#byteLength);
    return new Vocabulary(this.#name, this.#ids, this.#nVocab, bytes, this.#ends);
  }

  #error(place: string, problem: string): FormatError {
    return new FormatError(
      `${this.#name}: ${place}: ${problem}. The file is damaged or no vocabulary: get it again.`,
    );
  }
}
