import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FormatError } from "../../core/errors.ts";
import { isJsonObject, parseStrictJson, type JsonValue } from "./strict-json.ts";

const N_RUNS = process.env["RWKV_TEST_LONG"] ? 10_000 : 500;

function parse(text: string): JsonValue {
  return parseStrictJson(text, "x.json");
}

function plain(value: JsonValue): unknown {
  if (isJsonObject(value)) return Object.fromEntries([...value].map(([key, member]) => [key, plain(member)]));
  return Array.isArray(value) ? (value as readonly JsonValue[]).map(plain) : value;
}

test("any JSON value without a repeated key parses to what JSON.parse gives", () => {
  const json = fc.tuple(fc.jsonValue({ maxDepth: 5, noUnicodeString: false }), fc.constantFrom(0, 1, "\t"));
  fc.assert(
    fc.property(json, ([value, indent]) => {
      const text = ` \n${JSON.stringify(value, null, indent)}\r\t`;
      // JSON.stringify of plain() and of JSON.parse agree on "__proto__" keys too, since both define own members
      expect(JSON.stringify(plain(parse(text)))).toBe(JSON.stringify(JSON.parse(text)));
    }),
    { seed: 7, numRuns: N_RUNS },
  );
});

test("any text is parsed as by JSON.parse or refused with a FormatError", () => {
  const text = fc.oneof(
    fc.string({ unit: fc.constantFrom(...Array.from('{}[]",:0123456789.-+eEtrufalsn \\\n\u0000a')) }),
    fc.json().map((json) => json.replace(/[,:"\]]/, "")),
  );
  fc.assert(
    fc.property(text, (candidate) => {
      let got: JsonValue;
      try {
        got = parse(candidate);
      } catch (error) {
        expect(error).toBeInstanceOf(FormatError);
        expect((error as Error).message).toContain("x.json is not valid JSON: at character ");
        return;
      }
      expect(JSON.stringify(plain(got))).toBe(JSON.stringify(JSON.parse(candidate)));
    }),
    { seed: 7, numRuns: N_RUNS },
  );
});

describe("refused, saying where", () => {
  test.each([
    ['{"a": 1, "b": {}, "a": 1}', 'each key once, but "a" is there twice'],
    ['{"a": 1, "\\u0061": 2}', 'each key once, but "a" is there twice'],
    ['{"__proto__": 1, "__proto__": 2}', "is there twice"],
    ["", "at character 0 expected a value, found the end of the text"],
    ["{} {}", 'at character 3 expected the end, found "{}"'],
    ['{"a": 1,}', "at character 8 expected a key in quotes"],
    ["[1, 2", 'expected "," or "]"'],
    ['{"a" 1}', 'expected ":"'],
    ['{"a": 1', 'expected "," or "}"'],
    ['{"a": 01}', "expected a value"],
    ["nul", "expected a value"],
    ['"abc', "expected a closing quote"],
    ['"a\nb"', "no control character inside a string"],
    ['"\\x41"', "valid escapes"],
    ["9".repeat(200), "expected the end"],
    ["\ufeff{}", "expected a value"],
  ])("%s", (text, message) => {
    expect(() => parse(text)).toThrow(FormatError);
    expect(() => parse(text)).toThrow(message);
  });

  test("nesting of 33 levels, however deep it would go", () => {
    expect(parse("[".repeat(33) + "]".repeat(33))).toBeDefined();
    expect(() => parse("[".repeat(34) + "]".repeat(34))).toThrow("at most 32 levels");
    expect(() => parse("[".repeat(1_000_000))).toThrow("at most 32 levels");
    expect(() => parse('{"a":'.repeat(1_000_000))).toThrow("at most 32 levels");
  });

  test("more than 2^20 values", () => {
    expect(() => parse(`[${"0,".repeat(2 ** 20)}0]`)).toThrow("at most 1048576 values");
  });
});

test("__proto__ and constructor are keys like any other", () => {
  const value = parse('{"__proto__": {"polluted": true}, "constructor": 1}');
  expect(isJsonObject(value) && [...value.keys()]).toEqual(["__proto__", "constructor"]);
  expect(({} as { polluted?: boolean }).polluted).toBeUndefined();
});

test("a string of 20 million characters parses in linear time", () => {
  const text = `"${"a".repeat(20_000_000)}"`;
  expect(parse(text)).toHaveLength(20_000_000);
});
