// Token texts as Python prints them: 'text', "text" and b'bytes' in the World vocabulary file, and the body of a bytes
// literal, without quotes, in GGUF metadata. Only what Python's repr writes is read, and what an author would add by hand.
// Published in the Python language reference, "String and Bytes literals".

import { FormatError } from "../core/errors.ts";

const encoder = new TextEncoder();
const BACKSLASH = 0x5c;

const SIMPLE_ESCAPES: ReadonlyMap<string, number> = new Map([
  ["n", 10],
  ["t", 9],
  ["r", 13],
  ["\\", BACKSLASH],
  ["'", 39],
  ['"', 34],
  ["a", 7],
  ["b", 8],
  ["v", 11],
  ["f", 12],
]);

const HEX_DIGITS: ReadonlyMap<string, number> = new Map([
  ["x", 2],
  ["u", 4],
  ["U", 8],
]);

/**
 * Bytes of a Python literal: those of a `b'...'`, or the UTF-8 of a `'...'` or `"..."`.
 * @param place - file and place, for messages
 * @throws FormatError if it is none, or stands for no Unicode text
 */
export function parsePythonLiteral(literal: string, place: string): Uint8Array {
  const isBytes = literal.startsWith("b");
  const quote = literal.charAt(isBytes ? 1 : 0);
  const start = isBytes ? 2 : 1;
  const end = literal.length - 1;
  if ((quote !== "'" && quote !== '"') || end < start || literal.charAt(end) !== quote) {
    throw literalError(place, `${shown(literal)} is not of the form '...', "..." or b'...'`);
  }
  if (isBytes) return parseBytes(literal, start, end, quote, place);
  const body = literal.slice(start, end);
  return body.includes("\\") || body.includes(quote)
    ? parseText(literal, start, end, quote, place)
    : encodeText(body, place);
}

/**
 * Bytes of a GGUF token of an RWKV tokenizer: backslash escapes, and everything else as it stands.
 * @param place - file and place, for messages
 * @throws FormatError for an escape that is cut short
 */
export function parseGgufToken(text: string, place: string): Uint8Array {
  const encoded = encodeText(text, place);
  if (!encoded.includes(BACKSLASH)) return encoded;
  const bytes = new Uint8Array(encoded.length);
  let n = 0;
  for (let i = 0; i < encoded.length; i++) {
    let byte = encoded[i]!;
    if (byte === BACKSLASH) {
      i++;
      if (i === encoded.length) throw literalError(place, `${shown(text)} ends inside an escape`);
      byte = encoded[i]!;
      if (byte === 0x78) {
        byte = hexAt(String.fromCharCode(...encoded.subarray(i + 1, i + 3)), 0, 2, text, place);
        i += 2;
      } else if (byte === 0x6e) byte = 10;
      else if (byte === 0x74) byte = 9;
      else if (byte === 0x72) byte = 13;
    }
    bytes[n++] = byte;
  }
  return bytes.subarray(0, n);
}

function parseBytes(literal: string, start: number, end: number, quote: string, place: string): Uint8Array {
  const bytes = new Uint8Array(end - start);
  let n = 0;
  for (let i = start; i < end;) {
    const char = literal.charAt(i);
    if (char === "\\") {
      const escape = readEscape(literal, i, end, place);
      const kind = literal.charAt(i + 1);
      if (escape.code > 255 || kind === "u" || kind === "U") {
        throw literalError(place, `${shown(literal)} has an escape that is no byte`);
      }
      bytes[n++] = escape.code;
      i = escape.next;
      continue;
    }
    const code = literal.charCodeAt(i);
    if (char === quote || code > 127)
      throw literalError(place, `${shown(literal)} has an unescaped ${shown(char)}`);
    bytes[n++] = code;
    i++;
  }
  return bytes.subarray(0, n);
}

function parseText(literal: string, start: number, end: number, quote: string, place: string): Uint8Array {
  let text = "";
  for (let i = start; i < end;) {
    const char = literal.charAt(i);
    if (char === "\\") {
      const escape = readEscape(literal, i, end, place);
      text += String.fromCodePoint(escape.code);
      i = escape.next;
      continue;
    }
    if (char === quote) throw literalError(place, `${shown(literal)} has an unescaped ${shown(char)}`);
    text += char;
    i++;
  }
  return encodeText(text, place);
}

/** The code of the escape whose backslash is at `i`, and the index behind it; `end` is that of the closing quote. */
function readEscape(literal: string, i: number, end: number, place: string): { code: number; next: number } {
  const body = literal.slice(i + 1, Math.min(i + 10, end));
  const kind = body.charAt(0);
  const simple = SIMPLE_ESCAPES.get(kind);
  if (simple !== undefined) return { code: simple, next: i + 2 };
  const nHex = HEX_DIGITS.get(kind);
  if (nHex !== undefined) {
    const code = hexAt(body, 1, nHex, literal, place);
    if (code > 0x10ffff) throw literalError(place, `${shown(literal)} has an escape beyond U+10FFFF`);
    return { code, next: i + 2 + nHex };
  }
  const octal = /^[0-7]{1,3}/.exec(body)?.[0];
  if (octal !== undefined) return { code: Number.parseInt(octal, 8), next: i + 1 + octal.length };
  throw literalError(place, `${shown(literal)} has the unknown escape ${shown("\\" + kind)}`);
}

function hexAt(text: string, start: number, nDigits: number, literal: string, place: string): number {
  const digits = text.slice(start, start + nDigits);
  if (digits.length === nDigits && /^[0-9a-fA-F]+$/.test(digits)) return Number.parseInt(digits, 16);
  throw literalError(place, `${shown(literal)} has an escape without its ${nDigits} hexadecimal digits`);
}

/** UTF-8 of a token's text. */
export function encodeText(text: string, place: string): Uint8Array {
  const ascii = encodeAscii(text);
  if (ascii !== null) return ascii;
  // A surrogate without its partner is no character: TextEncoder silently writes another token, U+FFFD.
  if (/\p{Surrogate}/u.test(text)) {
    throw literalError(place, `${shown(text)} has half a surrogate pair, which is no Unicode text`);
  }
  return encoder.encode(text);
}

/** Null for other text. Most tokens are ASCII, and a loop over their few characters is faster than a TextEncoder. */
function encodeAscii(text: string): Uint8Array | null {
  const bytes = new Uint8Array(text.length);
  for (let i = 0; i < bytes.length; i++) {
    const code = text.charCodeAt(i);
    if (code > 127) return null;
    bytes[i] = code;
  }
  return bytes;
}

/** At most 40 characters of what the file holds, printable. */
export function shown(text: string): string {
  return JSON.stringify(text.length > 40 ? `${text.slice(0, 40)}...` : text);
}

function literalError(place: string, problem: string): FormatError {
  return new FormatError(`${place}: ${problem}. The vocabulary is damaged or of another form: get it again.`);
}
