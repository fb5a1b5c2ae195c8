import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { FormatError, UsageError } from "../core/errors.ts";
import { ggufMetadata, jsonForm, pythonRepr, SMALL_VOCABULARY, textForm, type Token } from "./testing.ts";
import type { Tokenizer } from "./tokenizer.ts";
import {
  createWorldTokenizer,
  parseJsonVocabulary,
  parseWorldVocabulary,
  worldTokenizerFromGguf,
} from "./world.ts";

const FIXTURES = new URL("../../../../../shared/fixtures/tokenizer/", import.meta.url);
const VOCABULARY = new URL("rwkv_vocab_v20230424.txt", FIXTURES);
const CASES = process.env["RWKV_TEST_LONG"] === undefined ? 500 : 10_000;

const encoder = new TextEncoder();
const fromText = (text: string): Tokenizer =>
  createWorldTokenizer(parseWorldVocabulary(encoder.encode(text), "v.txt"));
const fromJson = (text: string): Tokenizer =>
  createWorldTokenizer(parseJsonVocabulary(encoder.encode(text), "v.json"));
const small = createWorldTokenizer(parseWorldVocabulary(textForm(SMALL_VOCABULARY), "small.txt"));
const smallText = new TextDecoder().decode(textForm(SMALL_VOCABULARY));

/** Ids of text of which no two bytes are one token. */
function idsOfBytes(text: string): number[] {
  return Array.from(encoder.encode(text), (byte) => byte + 1);
}

/** Longest match by trying every token. */
function encodeNaively(tokens: readonly Token[], bytes: Uint8Array): number[] {
  const ids: number[] = [];
  for (let start = 0; start < bytes.length;) {
    let best: Token = [-1, new Uint8Array(0)];
    for (const token of tokens) {
      const matches = token[1].every((byte, i) => bytes[start + i] === byte);
      if (matches && token[1].length > best[1].length) best = token;
    }
    ids.push(best[0]);
    start += best[1].length;
  }
  return ids;
}

const pieces = fc.constantFrom(...SMALL_VOCABULARY.slice(256).map(([, bytes]) => bytes));
const anyBytes = fc
  .array(fc.oneof(pieces, fc.uint8Array({ maxLength: 4 })), { maxLength: 12 })
  .map((list) => Uint8Array.from(list.flatMap((piece) => [...piece])));

describe("encoding and decoding", () => {
  test("each position takes the longest token that matches, as a search through all tokens does", () => {
    fc.assert(
      fc.property(anyBytes, (bytes) => {
        expect(small.encodeBytes(bytes)).toEqual(encodeNaively(SMALL_VOCABULARY, bytes));
      }),
      { seed: 7, numRuns: CASES },
    );
  });

  test("decoding gives back any bytes, and any text", () => {
    fc.assert(
      fc.property(anyBytes, fc.string({ unit: "binary" }), (bytes, text) => {
        expect(small.decodeBytes(small.encodeBytes(bytes))).toEqual(bytes);
        expect(small.decode(small.encode(text))).toBe(text);
      }),
      { seed: 7, numRuns: CASES },
    );
  });

  test("a lone surrogate is encoded as U+FFFD", () => {
    expect(small.decode(small.encode("a\ud83db\udc4b"))).toBe("a\ufffdb\ufffd");
  });

  test("bytes that are not UTF-8 decode to U+FFFD, and a byte order mark stays", () => {
    expect(small.decode([1 + 0x61, 1 + 0xff, 1 + 0x62])).toBe("a\ufffdb");
    expect(small.decode(small.encode("\ufeffx"))).toBe("\ufeffx");
  });

  test("id 0 ends a text and decodes to nothing", () => {
    expect(small.endOfText).toBe(0);
    expect(small.decode([98, 0, 99])).toBe("ab");
    expect(small.tokenBytes(0)).toEqual(new Uint8Array(0));
  });

  test("ids outside the vocabulary have no bytes and are refused in a sequence", () => {
    const { nVocab } = small;
    expect(nVocab).toBe(SMALL_VOCABULARY.length + 1);
    for (const id of [nVocab, -1, 1.5, NaN, 2 ** 32]) {
      expect(small.tokenBytes(id)).toEqual(new Uint8Array(0));
      expect(() => small.decode([98, id])).toThrow(UsageError);
      expect(() => small.decodeBytes([98, id])).toThrow(`Token ${id} cannot be decoded`);
    }
  });

  test("any iterable of ids is decoded", () => {
    expect(small.decode(new Set([98, 99]))).toBe("ab");
    expect(small.decode(Uint16Array.of(98, 99))).toBe("ab");
    expect(small.decode([])).toBe("");
  });
});

describe("text form", () => {
  test("tokens have the bytes their literals stand for, with LF and with CR LF", () => {
    for (const lineEnd of ["\n", "\r\n"]) {
      const tokenizer = createWorldTokenizer(parseWorldVocabulary(textForm(SMALL_VOCABULARY, lineEnd), "v"));
      for (const [id, bytes] of SMALL_VOCABULARY) expect(tokenizer.tokenBytes(id)).toEqual(bytes);
    }
  });

  test("the test's own literals are of every kind", () => {
    const literals = SMALL_VOCABULARY.map(([, bytes]) => pythonRepr(bytes));
    expect(literals.filter((literal) => literal.startsWith("b'")).length).toBe(128 + 3);
    expect(literals.filter((literal) => literal.startsWith('"')).length).toBeGreaterThan(1);
    expect(literals).toEqual(
      expect.arrayContaining(["'\\x80'", "b'\\x80'", "'\\n'", "'\\u2028'", "'\\\\n'", "'\"\\''"]),
    );
  });

  test("ids need not be contiguous; those left out are unused", () => {
    const tokenizer = fromText(`${smallText}70000 '<|im_start|>' 12\n`);
    expect(tokenizer.nVocab).toBe(70001);
    expect(tokenizer.encode("<|im_start|>")).toEqual([70000]);
    expect(() => tokenizer.decode([69999])).toThrow("Token 69999 cannot be decoded");
  });

  test("a text for id 0 is ignored: it stays the end of text", () => {
    const tokenizer = fromText(`0 '<s>' 3\n${smallText}`);
    expect(tokenizer.encode("<s>")).toEqual(idsOfBytes("<s>"));
    expect(tokenizer.decode([0])).toBe("");
  });

  test.each<[string, string, string]>([
    [
      "a length that is not that of the token",
      "400 'ab' 3",
      "token 400 should have 3 bytes, but its text stands for 2",
    ],
    ["an id given twice", "1 'abcd' 4", "the id 1 occurs a second time"],
    ["bytes given twice", "400 'the' 3", "have the same 3 bytes"],
    ["no length", "400 'ab'", "expected \"id 'token' length\", found \"400 'ab'\""],
    ["no id", "'ab' 2", "expected \"id 'token' length\""],
    ["an id with a sign", "+400 'ab' 2", "expected \"id 'token' length\""],
    ["an id beyond all vocabularies", "99999999 'ab' 2", "the id 99999999 is not a whole number from 0 to"],
    ["an empty token", "400 '' 0", "token 400 has 0 bytes"],
    ["a token of 2000 bytes", `400 '${"y".repeat(2000)}' 2000`, "token 400 has 2000 bytes"],
    ["half a surrogate pair", "400 '\\ud83d' 3", "half a surrogate pair"],
    ["a literal without an end", "400 'ab 2", "is not of the form"],
    ["a quote alone", "400 ' 1", "is not of the form"],
  ])("%s is refused, naming the line", (_, line, message) => {
    const nLines = smallText.split("\n").length;
    expect(() => fromText(`${smallText}${line}\n`)).toThrow(FormatError);
    expect(() => fromText(`${smallText}${line}\n`)).toThrow(message);
    if (!message.includes("same")) expect(() => fromText(`${smallText}${line}\n`)).toThrow(`line ${nLines}`);
  });

  test("a missing single byte is refused, naming it", () => {
    const without = SMALL_VOCABULARY.filter(([id]) => id !== 201);
    expect(() => createWorldTokenizer(parseWorldVocabulary(textForm(without), "v.txt"))).toThrow(
      "v.txt: no token is the single byte 200",
    );
    expect(() => fromText("")).toThrow("0 tokens were found");
  });

  test("a file that is not UTF-8 is refused", () => {
    expect(() => parseWorldVocabulary(Uint8Array.of(0x31, 0x20, 0xff), "v.txt")).toThrow("not valid UTF-8");
  });
});

describe("JSON form", () => {
  test("is the same tokenizer as the text form", () => {
    const tokenizer = createWorldTokenizer(parseJsonVocabulary(jsonForm(SMALL_VOCABULARY), "v.json"));
    expect(tokenizer.nVocab).toBe(small.nVocab);
    for (const [id, bytes] of SMALL_VOCABULARY) expect(tokenizer.tokenBytes(id)).toEqual(bytes);
    expect(tokenizer.encode("the other\n\n👋🏽")).toEqual(small.encode("the other\n\n👋🏽"));
  });

  test("an entry for id 0 is ignored", () => {
    const json = new TextDecoder().decode(jsonForm(SMALL_VOCABULARY));
    expect(fromJson(json.replace("{", '{"0":"",')).decode([0, 98])).toBe("a");
  });

  test.each<[string, string, string]>([
    ["an array", "[]", "expected a JSON object"],
    ["text that is no JSON", '{"1": "a"', "expected JSON, but SyntaxError"],
    ["a key that is no number", '{"x": "a"}', 'id "x" is not a decimal number'],
    ["a number as token", '{"1": 5}', "expected a string or an array of byte values 0 to 255, found number"],
    ["null as token", '{"1": null}', "found object"],
    ["a number that is no byte", '{"1": [97, 256]}', "found another array"],
    ["half a surrogate pair", '{"1": "\\ud83d"}', "half a surrogate pair"],
    ["an empty token", '{"1": ""}', "token 1 has 0 bytes"],
    ["an id beyond all vocabularies", '{"99999999": "a"}', "the id 99999999 is not"],
    ["deep nesting", `{"1": ${"[".repeat(100_000)}${"]".repeat(100_000)}}`, "found another array"],
  ])("%s is refused", (_, json, message) => {
    expect(() => fromJson(json)).toThrow(FormatError);
    expect(() => fromJson(json)).toThrow(message);
  });
});

describe("GGUF metadata", () => {
  test("gives the same tokenizer as the text form; padding rows do not count", () => {
    const tokenizer = worldTokenizerFromGguf(ggufMetadata(SMALL_VOCABULARY, 400));
    expect(tokenizer.nVocab).toBe(small.nVocab);
    for (const [id, bytes] of SMALL_VOCABULARY) expect(tokenizer.tokenBytes(id)).toEqual(bytes);
  });

  test.each([true, false])(
    "the texts of control and padding rows are encoded like any text (types given: %j)",
    (given) => {
      const metadata = ggufMetadata(SMALL_VOCABULARY, 400);
      if (!given) metadata.delete("tokenizer.ggml.token_type");
      const tokenizer = worldTokenizerFromGguf(metadata);
      for (const text of ["<s>", "[PAD399]"]) {
        expect(tokenizer.encode(text)).toEqual(idsOfBytes(text));
      }
      expect(() => tokenizer.decode([399])).toThrow(UsageError);
    },
  );

  test.each<[string, unknown, unknown, string]>([
    ["no tokens", undefined, undefined, "tokenizer.ggml.tokens should be an array"],
    ["tokens that are numbers", [1, 2], undefined, "tokenizer.ggml.tokens should be an array"],
    ["fewer types than tokens", ["<s>", "a"], [3], "should have an entry for each of the 2 tokens"],
    ["an escape without digits", ["<s>", "\\x4"], undefined, "an escape without its 2 hexadecimal digits"],
    ["a backslash at the end", ["<s>", "a\\"], undefined, "ends inside an escape"],
  ])("%s is refused, naming the key", (_, tokens, types, message) => {
    const metadata = new Map([
      ["tokenizer.ggml.tokens", tokens],
      ["tokenizer.ggml.token_type", types],
    ]);
    expect(() => worldTokenizerFromGguf(metadata, "m.gguf")).toThrow(FormatError);
    expect(() => worldTokenizerFromGguf(metadata, "m.gguf")).toThrow(message);
    expect(() => worldTokenizerFromGguf(metadata, "m.gguf")).toThrow("m.gguf: tokenizer.ggml.tok");
  });
});

describe("a damaged file is read or refused with a FormatError, and nothing else happens", () => {
  const damage = fc.array(fc.tuple(fc.nat(), fc.nat({ max: 255 })), { minLength: 1, maxLength: 4 });

  /** Some bytes changed and, in one case of three, the end cut off. */
  function expectReadOrRefused(whole: Uint8Array, read: (bytes: Uint8Array) => unknown): void {
    fc.assert(
      fc.property(damage, fc.nat(), (changes, cut) => {
        const bytes = whole.slice(0, cut % 3 === 0 ? cut % whole.length : undefined);
        for (const [place, byte] of changes) if (bytes.length > 0) bytes[place % bytes.length] = byte;
        try {
          read(bytes);
        } catch (error) {
          expect(error).toBeInstanceOf(FormatError);
        }
      }),
      { seed: 7, numRuns: CASES },
    );
  }

  test("text form", () => {
    const read = (bytes: Uint8Array) => createWorldTokenizer(parseWorldVocabulary(bytes, "v"));
    expectReadOrRefused(textForm(SMALL_VOCABULARY), read);
  });

  test("JSON form", () => {
    const read = (bytes: Uint8Array) => createWorldTokenizer(parseJsonVocabulary(bytes, "v"));
    expectReadOrRefused(jsonForm(SMALL_VOCABULARY), read);
  });

  test("GGUF metadata", () => {
    const metadata = ggufMetadata(SMALL_VOCABULARY, SMALL_VOCABULARY.length + 1);
    const tokens = metadata.get("tokenizer.ggml.tokens") as string[];
    expectReadOrRefused(encoder.encode(tokens.join("|")), (bytes) =>
      worldTokenizerFromGguf(
        new Map([...metadata, ["tokenizer.ggml.tokens", new TextDecoder().decode(bytes).split("|")]]),
      ),
    );
  });
});

interface WorldVectors {
  readonly cases: readonly { name: string; text?: string; bytes_hex?: string; ids: number[] }[];
}

const hasFixtures = existsSync(VOCABULARY);
if (!hasFixtures) process.stderr.write("skipped: shared/fixtures/tokenizer is not beside this checkout\n");

describe.skipIf(!hasFixtures)("the World vocabulary", () => {
  const file = hasFixtures ? readFileSync(VOCABULARY) : new Uint8Array(0);
  const world = hasFixtures
    ? createWorldTokenizer(parseWorldVocabulary(file, "rwkv_vocab_v20230424.txt"))
    : small;

  test("has the published facts: 65,529 tokens, single bytes first, none longer than 128 bytes", () => {
    expect(world.nVocab).toBe(65530);
    for (let byte = 0; byte < 256; byte++) expect(world.tokenBytes(byte + 1)).toEqual(Uint8Array.of(byte));
    let previous = 1;
    for (let id = 1; id < 65530; id++) {
      const { length } = world.tokenBytes(id);
      expect(length).toBeGreaterThanOrEqual(previous);
      previous = length;
    }
    expect(previous).toBe(128);
  });

  test("encodes the 40 strings of the reference tokenizer to its ids, and back", () => {
    const { cases } = JSON.parse(readFileSync(new URL("world.json", FIXTURES), "utf8")) as WorldVectors;
    expect(cases.length).toBe(40);
    for (const { name, text, bytes_hex: hex, ids } of cases) {
      const bytes = text === undefined ? Uint8Array.from(Buffer.from(hex!, "hex")) : encoder.encode(text);
      expect(world.encodeBytes(bytes), name).toEqual(ids);
      expect(world.decodeBytes(ids), name).toEqual(bytes);
      if (text !== undefined) expect(world.encode(text), name).toEqual(ids);
    }
  });

  test.each<[string, number[]]>([
    ["\n", [11]],
    ["\n\n", [261]],
    [" ", [33]],
    [":", [59]],
    ["User", [24281]],
    ["System", [40812]],
    ["\r\n", [263]],
    ["\r\n\r\n", [19244]],
    ["Assistant", [5585, 41693]],
    ["Hello, world!", [33155, 45, 40213, 34]],
    ["User: hi\n\nAssistant:", [24281, 59, 4571, 261, 5585, 41693, 59]],
    ["\n\nUser:", [261, 24281, 59]],
    ["Assistant: <think", [5585, 41693, 59, 295, 35762]],
    ["Assistant: <think>\n</think", [5585, 41693, 59, 295, 35762, 63, 11, 754, 35762]],
    ["<think>", [61, 35762, 63]],
    ["</think>", [754, 35762, 63]],
    ["The Eiffel tower is in the city of", [6699, 304, 25740, 109, 39990, 4600, 4596, 22590, 30449, 4706]],
    ["你好，世界", [10464, 11685, 19137, 10267, 14610]],
    ["こんにちは", [10115, 10165, 10136, 10127, 10139]],
    ["👋🏽🙂", [3319, 146, 140, 3319, 144, 190, 3319, 2417]],
    [" \n \n\n\n", [3337, 3328]],
    ["def f(x):\n    return x\n", [7334, 337, 41, 121, 501, 28352, 42178, 355, 11]],
    ["ñandú café", [9329, 2062, 2520, 37946]],
    ["\u200b\ufeff", [9808, 19125]],
  ])("%j is encoded to the published ids", (text, ids) => {
    expect(world.encode(text)).toEqual(ids);
    expect(world.decode(ids)).toBe(text);
  });

  test("round trips through the JSON form and through GGUF metadata change no id", () => {
    const tokens = Array.from({ length: 65529 }, (_, i): Token => [i + 1, world.tokenBytes(i + 1)]);
    const text = "User: Größe 中文 👋🏽\u0085\ufeff `x`\n\n'quoted' \"text\" <s> [PAD65530]";
    const json = createWorldTokenizer(parseJsonVocabulary(jsonForm(tokens), "v.json"));
    const gguf = worldTokenizerFromGguf(ggufMetadata(tokens, 65536));
    for (const tokenizer of [json, gguf]) {
      expect(tokenizer.nVocab).toBe(65530);
      expect(tokenizer.encode(text)).toEqual(world.encode(text));
    }
  });

  test("no text encodes to id 0 or to an id above 65529", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 40 }), (text) => {
        const ids = world.encode(text);
        expect(ids.every((id) => id > 0 && id < 65530)).toBe(true);
        expect(world.decode(ids)).toBe(text);
      }),
      { seed: 7, numRuns: CASES },
    );
  });
});
