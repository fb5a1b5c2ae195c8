import { describe, expect, test } from "vitest";
import { FormatError } from "../core/errors.ts";
import { parseGgufToken, parsePythonLiteral } from "./python-literal.ts";

const utf8 = (text: string): number[] => Array.from(new TextEncoder().encode(text));

describe("Python literals", () => {
  test.each<[string, number[]]>([
    ["'abc'", utf8("abc")],
    ["' '", [32]],
    [`"don't"`, utf8("don't")],
    [`'"'`, [34]],
    [`'\\'"'`, utf8(`'"`)],
    ["'\\x80'", [0xc2, 0x80]], // text: the character U+0080
    ["b'\\x80'", [0x80]], // bytes: the byte
    [`b"\\xe4'\\xb8"`, [0xe4, 0x27, 0xb8]],
    ["'\\n\\t\\r\\\\\\a\\b\\f\\v'", [10, 9, 13, 92, 7, 8, 12, 11]],
    ["'\\u4e2d\\U0001f44b'", utf8("中👋")],
    ["'\\ud83d\\udc4b'", utf8("👋")],
    ["'\\0\\12\\1234'", [0, 10, 0x53, 0x34]],
    ["b'\\0\\377'", [0, 255]],
    ["'中文'", utf8("中文")],
  ])("%s", (literal, bytes) => {
    expect(Array.from(parsePythonLiteral(literal, "v: line 1"))).toEqual(bytes);
  });

  test.each<[string, string]>([
    ["", "is not of the form"],
    ["'", "is not of the form"],
    ["b'", "is not of the form"],
    ["abc", "is not of the form"],
    [`'abc"`, "is not of the form"],
    ["'a'b'", `unescaped "'"`],
    ["b'a'b'", `unescaped "'"`],
    ["b'é'", 'unescaped "é"'],
    ["'\\'", "unknown escape"],
    ["'\\q'", "unknown escape"],
    ["'\\N{DASH}'", "unknown escape"],
    ["'\\x4'", "2 hexadecimal digits"],
    ["'\\xg0'", "2 hexadecimal digits"],
    ["'\\u12'", "4 hexadecimal digits"],
    ["'\\U00110000'", "beyond U+10FFFF"],
    ["b'\\u0041'", "an escape that is no byte"],
    ["b'\\777'", "an escape that is no byte"],
    ["'\\ud83d'", "half a surrogate pair"],
  ])("%s is refused, naming the place", (literal, message) => {
    expect(() => parsePythonLiteral(literal, "v: line 1")).toThrow(FormatError);
    expect(() => parsePythonLiteral(literal, "v: line 1")).toThrow(message);
    expect(() => parsePythonLiteral(literal, "v: line 1")).toThrow("v: line 1: ");
  });
});

describe("tokens of a GGUF", () => {
  test.each<[string, number[]]>([
    ["abc", utf8("abc")],
    ["\\n\\t\\r\\\\\\'\\q", utf8("\n\t\r\\'q")],
    ["\\xe4\\xB8x41", [0xe4, 0xb8, ...utf8("x41")]],
    ['it\'s "é"', utf8('it\'s "é"')],
  ])("%s", (text, bytes) => {
    expect(Array.from(parseGgufToken(text, "m"))).toEqual(bytes);
  });
});
