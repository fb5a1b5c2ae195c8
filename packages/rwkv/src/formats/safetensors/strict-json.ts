// JSON (RFC 8259) as a hostile file may hold it. JSON.parse keeps the last of two equal keys without a word and makes
// objects whose "__proto__" is no ordinary key; here equal keys are an error, objects are Maps, and depth and count are bounded.

import { FormatError } from "../../core/errors.ts";
import { quoted } from "../range-tensor.ts";

export type JsonObject = ReadonlyMap<string, JsonValue>;
export type JsonValue = string | number | boolean | null | readonly JsonValue[] | JsonObject;

const MAX_DEPTH = 32;
/** More than a header with the most tensors allowed has; keeps the parsed form below some 100 MB. */
const MAX_VALUES = 2 ** 20;
const MAX_NUMBER_CHARACTERS = 64;
const NUMBER = /^-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?$/;

/**
 * Parses one JSON value that fills `text`, but for white space around it.
 * @param where - what messages begin with: the file and which part of it
 * @throws FormatError if it is not JSON, has a key twice in one object, is nested deeper than 32 levels or has more
 * than 2^20 values
 */
export function parseStrictJson(text: string, where: string): JsonValue {
  return new Parser(text, where).document();
}

export function isJsonObject(value: JsonValue | undefined): value is JsonObject {
  return value instanceof Map;
}

class Parser {
  readonly #text: string;
  readonly #where: string;
  #at = 0;
  #nValues = 0;

  constructor(text: string, where: string) {
    this.#text = text;
    this.#where = where;
  }

  document(): JsonValue {
    const value = this.#value(0);
    this.#skipSpace();
    if (this.#at < this.#text.length) this.#fail("the end");
    return value;
  }

  #value(depth: number): JsonValue {
    if (depth > MAX_DEPTH) this.#fail(`at most ${MAX_DEPTH} levels of nesting`);
    if (++this.#nValues > MAX_VALUES) this.#fail(`at most ${MAX_VALUES} values`);
    this.#skipSpace();
    switch (this.#text[this.#at]) {
      case "{":
        return this.#object(depth);
      case "[":
        return this.#array(depth);
      case '"':
        return this.#string();
      case "t":
        return this.#word("true", true);
      case "f":
        return this.#word("false", false);
      case "n":
        return this.#word("null", null);
      default:
        return this.#number();
    }
  }

  #object(depth: number): JsonObject {
    const members = new Map<string, JsonValue>();
    this.#at++;
    if (this.#takes("}")) return members;
    do {
      this.#skipSpace();
      if (this.#text[this.#at] !== '"') this.#fail("a key in quotes");
      const key = this.#string();
      if (members.has(key)) this.#fail(`each key once, but ${quoted(key)} is there twice`);
      if (!this.#takes(":")) this.#fail('":"');
      members.set(key, this.#value(depth + 1));
    } while (this.#takes(","));
    if (!this.#takes("}")) this.#fail('"," or "}"');
    return members;
  }

  #array(depth: number): JsonValue[] {
    const elements: JsonValue[] = [];
    this.#at++;
    if (this.#takes("]")) return elements;
    do {
      elements.push(this.#value(depth + 1));
    } while (this.#takes(","));
    if (!this.#takes("]")) this.#fail('"," or "]"');
    return elements;
  }

  #string(): string {
    const start = this.#at;
    let hasEscape = false;
    for (let i = start + 1; i < this.#text.length; i++) {
      const unit = this.#text.charCodeAt(i);
      if (unit === 0x22) {
        this.#at = i + 1;
        return hasEscape ? this.#unescape(start, i + 1) : this.#text.slice(start + 1, i);
      }
      if (unit < 0x20) {
        this.#at = i;
        this.#fail("no control character inside a string");
      }
      if (unit === 0x5c) {
        hasEscape = true;
        i++; // whatever follows the backslash is not the closing quote
      }
    }
    return this.#fail("a closing quote");
  }

  #unescape(start: number, end: number): string {
    try {
      return JSON.parse(this.#text.slice(start, end)) as string;
    } catch {
      this.#at = start;
      return this.#fail("valid escapes in the string");
    }
  }

  #number(): number {
    const start = this.#at;
    const limit = Math.min(this.#text.length, start + MAX_NUMBER_CHARACTERS);
    let end = start;
    while (end < limit && "+-.0123456789eE".includes(this.#text[end]!)) end++;
    const token = this.#text.slice(start, end);
    if (!NUMBER.test(token)) this.#fail("a value");
    this.#at = end;
    return Number(token);
  }

  #word<Value>(word: string, value: Value): Value {
    if (!this.#text.startsWith(word, this.#at)) this.#fail("a value");
    this.#at += word.length;
    return value;
  }

  #takes(character: string): boolean {
    this.#skipSpace();
    if (this.#text[this.#at] !== character) return false;
    this.#at++;
    return true;
  }

  #skipSpace(): void {
    for (;;) {
      const unit = this.#text.charCodeAt(this.#at);
      if (unit !== 0x20 && unit !== 0x0a && unit !== 0x0d && unit !== 0x09) return;
      this.#at++;
    }
  }

  #fail(expected: string): never {
    const found =
      this.#at < this.#text.length
        ? quoted(this.#text.slice(this.#at, this.#at + 16))
        : "the end of the text";
    throw new FormatError(
      `${this.#where} is not valid JSON: at character ${this.#at} expected ${expected}, found ${found}. ` +
        `The file is damaged or not what it claims: download it again.`,
    );
  }
}
