import { existsSync, readFileSync } from "node:fs";
import fc from "fast-check";
import { beforeAll, describe, expect, test } from "vitest";
import { FormatError, UnsupportedError, UsageError } from "../core/errors.ts";
import { BYTE_CHARACTERS } from "./byte-level.ts";
import { huggingFaceTokenizer } from "./huggingface.ts";
import { openTokenizer } from "./open.ts";
import type { Tokenizer } from "./tokenizer.ts";
import { Utf8Decoder } from "./utf8.ts";

const FILE = new URL("../../../../../shared/fixtures/tokenizer/20B_tokenizer.json", import.meta.url);
const CASES = process.env["RWKV_TEST_LONG"] === undefined ? 300 : 10_000;

const encoder = new TextEncoder();
const open = (json: unknown): Promise<Tokenizer> =>
  huggingFaceTokenizer(json, "t.json", encoder.encode(JSON.stringify(json)).byteLength);

const MERGES = ["t h", "th e", "Ġ the", "Ġ t", "Ċ Ċ", "ä ¸", "ä¸ Ń", "Ã ©", "ï »", "ï» ¿"];

/** A tokenizer.json in miniature: end of text, padding, the 256 bytes, `MERGES`, and runs of 2 and 3 spaces. */
function smallFile(): Record<string, unknown> & { model: Record<string, unknown> } {
  const tokens = ["<|endoftext|>", ...BYTE_CHARACTERS, ...MERGES.map((merge) => merge.replace(" ", ""))];
  const added = { single_word: false, lstrip: false, rstrip: false };
  return {
    added_tokens: [
      { id: 0, content: "<|endoftext|>", special: true, normalized: false, ...added },
      { id: 300, content: "   ", special: false, normalized: true, ...added },
      { id: 301, content: "  ", special: false, normalized: true, ...added },
    ],
    normalizer: { type: "NFC" },
    pre_tokenizer: { type: "ByteLevel", add_prefix_space: false },
    post_processor: null,
    decoder: { type: "ByteLevel" },
    model: { type: "BPE", vocab: Object.fromEntries(tokens.map((token, id) => [token, id])), merges: MERGES },
  };
}

describe("a small tokenizer.json", () => {
  let small: Tokenizer;
  const idOf = (token: string): number =>
    ["<|endoftext|>", ...BYTE_CHARACTERS, ...MERGES.map((m) => m.replace(" ", ""))].indexOf(token);
  beforeAll(async () => {
    small = await open(smallFile());
  });

  test("merges apply in their order, words are split off with their space", () => {
    expect(small.encode("the the\n\n")).toEqual([idOf("the"), idOf("Ġthe"), idOf("ĊĊ")]);
    expect(small.encode("中é")).toEqual([idOf("ä¸Ń"), idOf("Ã©")]);
  });

  test("text is composed first; runs of spaces and special tokens stand in it as they are", () => {
    expect(small.encode("e\u0301")).toEqual(small.encode("\u00e9"));
    expect(small.encode("a   b")).toEqual([idOf("a"), 300, idOf("b")]);
    expect(small.encode("a    b")).toEqual([idOf("a"), 300, idOf("Ġ"), idOf("b")]);
    expect(small.encode("<|endoftext|>a")).toEqual([0, idOf("a")]);
  });

  test("U+0085 is white space and U+FEFF is not, as in the library that made the vocabularies", () => {
    // No space may join them: "\ufeff'" is one word, U+0085 breaks "!\u0085!" in three.
    expect(small.encode("\ufeff")).toEqual([idOf("ï»¿")]);
    expect(small.encode("\ufeffthe")).toEqual([idOf("ï»¿"), idOf("the")]);
    expect(small.encode(" \ufeff").length).toBe(2);
  });

  test("the end of text has no bytes; unused ids have none either and are refused", () => {
    expect(small.endOfText).toBe(0);
    expect(small.decode([idOf("a"), 0, 300])).toBe("a   ");
    expect(small.nVocab).toBe(302);
    expect(small.tokenBytes(299)).toEqual(new Uint8Array(0));
    expect(() => small.decode([299])).toThrow("Token 299 cannot be decoded");
    expect(() => small.decode([302])).toThrow(UsageError);
  });

  test("without a special token of that name no id ends the text", async () => {
    const file = smallFile();
    file["added_tokens"] = [];
    const tokenizer = await open(file);
    expect(tokenizer.endOfText).toBeNull();
    expect(tokenizer.decode([0])).toBe("<|endoftext|>");
  });

  test("decoding gives back the composed text, whole and token by token", () => {
    const piece = fc.constantFrom(
      "the",
      " the",
      "\n\n",
      "中",
      "é",
      "  ",
      "   ",
      "\ufeff",
      "\u0085",
      "👋🏽",
      "'s",
      "<|",
    );
    const text = fc.array(fc.oneof(piece, fc.string({ unit: "binary", maxLength: 4 })), { maxLength: 10 });
    fc.assert(
      fc.property(text, (pieces) => {
        const want = pieces.join("").normalize("NFC");
        const ids = small.encode(pieces.join(""));
        expect(small.decode(ids)).toBe(want);
        expect(small.decodeBytes(ids)).toEqual(encoder.encode(want));
        const decoder = new Utf8Decoder();
        expect(ids.map((id) => decoder.push(small.tokenBytes(id))).join("") + decoder.flush()).toBe(want);
        expect(small.encodeBytes(encoder.encode(pieces.join("")))).toEqual(ids);
      }),
      { seed: 7, numRuns: CASES },
    );
  });

  test("a lone surrogate is encoded as U+FFFD; bytes that are not UTF-8 are refused", () => {
    expect(small.decode(small.encode("a\ud83db"))).toBe("a\ufffdb");
    expect(() => small.encodeBytes(Uint8Array.of(0x61, 0xff))).toThrow(UsageError);
    expect(() => small.encodeBytes(Uint8Array.of(0x61, 0xff))).toThrow("2 bytes given are not valid UTF-8");
  });

  test("merges written as pairs mean the same", async () => {
    const file = smallFile();
    file.model["merges"] = MERGES.map((merge) => merge.split(" "));
    expect((await open(file)).encode("the the 中")).toEqual(small.encode("the the 中"));
  });

  test("a post-processor adds no tokens", async () => {
    const file = smallFile();
    file["post_processor"] = {
      type: "TemplateProcessing",
      single: [{ SpecialToken: { id: "<|endoftext|>", type_id: 0 } }, { Sequence: { id: "A", type_id: 0 } }],
      pair: [],
      special_tokens: { "<|endoftext|>": { id: "<|endoftext|>", ids: [0], tokens: ["<|endoftext|>"] } },
    };
    expect((await open(file)).encode("the")).toEqual([idOf("the")]);
  });
});

type SmallFile = ReturnType<typeof smallFile>;

/** The file with entries of its vocabulary replaced; null removes one. */
function withVocab(changes: Readonly<Record<string, unknown>>): SmallFile {
  const file = smallFile();
  const vocab = { ...(file.model["vocab"] as Record<string, unknown>), ...changes };
  file.model["vocab"] = Object.fromEntries(Object.entries(vocab).filter(([, id]) => id !== null));
  return file;
}

function withModel(changes: Readonly<Record<string, unknown>>): SmallFile {
  const file = smallFile();
  Object.assign(file.model, changes);
  return file;
}

describe("files that would be read wrongly are refused", () => {
  test.each<[string, unknown, string]>([
    ["no object", [], 'expected an object with a "model"'],
    ["no model", { added_tokens: [] }, 'expected an object with a "model"'],
    ["a vocabulary that is a list", withModel({ vocab: [] }), '"model.vocab" should be an object'],
    ["an id that is no number", withVocab({ the: "x" }), 'the id of token "the" is no number'],
    ["an id that is no whole number", withVocab({ the: 1.5 }), "the id 1.5 is not a whole number"],
    ["an id beyond all vocabularies", withVocab({ the: 2 ** 30 }), "is not a whole number from 0 to"],
    ["an id given twice", withVocab({ the: 5 }), "the id 5 occurs a second time"],
    ["a byte without a token", withVocab({ a: null }), "no token stands for the single byte 97"],
    ["merges that are no list", withModel({ merges: {} }), '"model.merges" should be an array'],
    ["a merge of one symbol", withModel({ merges: ["the"] }), "merges[0] should join two tokens"],
    ["a merge of three symbols", withModel({ merges: ["t h e"] }), "merges[0] should join two tokens"],
    ["merges of both kinds", withModel({ merges: ["t h", ["th", "e"]] }), "merges[1] should join two tokens"],
    ["a merge to no token", withModel({ merges: ["a b"] }), "merges[0] should join two tokens"],
    ["a merge of no tokens", withModel({ merges: [["t", 5]] }), "merges[0] should join two tokens"],
    [
      "added tokens that are no list",
      { ...smallFile(), added_tokens: {} },
      '"added_tokens" should be an array',
    ],
    [
      "an added token without text",
      { ...smallFile(), added_tokens: [{ id: 5 }] },
      "added_tokens[0] should have",
    ],
    [
      "an added token with a taken id",
      { ...smallFile(), added_tokens: [{ id: 5, content: "x y" }] },
      "added_tokens[0]: the id 5 occurs a second time",
    ],
  ])("%s", async (_, json, message) => {
    await expect(open(json)).rejects.toThrow(FormatError);
    await expect(open(json)).rejects.toThrow(`t.json: `);
    await expect(open(json)).rejects.toThrow(message);
  });

  test.each<[string, unknown, string]>([
    ["another model", withModel({ type: "Unigram" }), 'model.type is "Unigram"'],
    ["byte fallback", withModel({ byte_fallback: true }), "model.byte_fallback is boolean"],
    ["dropout", withModel({ dropout: 0.1 }), 'model.dropout is "0.1"'],
    ["word ends", withModel({ end_of_word_suffix: "</w>" }), 'model.end_of_word_suffix is "</w>"'],
    [
      "another split",
      { ...smallFile(), pre_tokenizer: { type: "Metaspace" } },
      'pre_tokenizer.type is "Metaspace"',
    ],
    ["no split", { ...smallFile(), pre_tokenizer: null }, "pre_tokenizer.type is object"],
    ["another decoder", { ...smallFile(), decoder: { type: "WordPiece" } }, 'decoder.type is "WordPiece"'],
    ["lower case", { ...smallFile(), normalizer: { type: "Lowercase" } }, 'normalizer.type is "Lowercase"'],
    [
      "tokens that swallow spaces",
      { ...smallFile(), added_tokens: [{ id: 400, content: "x", lstrip: true }] },
      "added_tokens[0] has lstrip",
    ],
  ])("%s", async (_, json, message) => {
    await expect(open(json)).rejects.toThrow(UnsupportedError);
    await expect(open(json)).rejects.toThrow(message);
  });
});

test("a damaged file is read, or refused by one of the library's errors, and nothing else happens", async () => {
  const whole = encoder.encode(JSON.stringify(smallFile()));
  const damage = fc.array(fc.tuple(fc.nat(), fc.constantFrom(...encoder.encode('0159-.[]{}",: aeu\\'))), {
    minLength: 1,
    maxLength: 3,
  });
  await fc.assert(
    fc.asyncProperty(damage, fc.nat(), async (changes, cut) => {
      const bytes = whole.slice(0, cut % 4 === 0 ? cut % whole.length : undefined);
      for (const [place, byte] of changes) if (bytes.length > 0) bytes[place % bytes.length] = byte;
      try {
        const tokenizer = await openTokenizer(bytes, "t.json");
        tokenizer.decode(tokenizer.encode("the the\n\n 中   <|endoftext|>"));
      } catch (error) {
        if (!(error instanceof UnsupportedError)) expect(error).toBeInstanceOf(FormatError);
      }
    }),
    { seed: 7, numRuns: CASES },
  );
});

const hasFile = existsSync(FILE);
if (!hasFile) process.stderr.write("skipped: shared/fixtures/tokenizer is not beside this checkout\n");

describe.skipIf(!hasFile)("the 20B tokenizer", () => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await openTokenizer(readFileSync(FILE), "20B_tokenizer.json");
  });

  test("has 50,277 ids and ends texts with 0", () => {
    expect(tokenizer.nVocab).toBe(50277);
    expect(tokenizer.endOfText).toBe(0);
    for (let id = 1; id < 50277; id++) expect(tokenizer.tokenBytes(id).length).toBeGreaterThan(0);
  });

  test.each<[string, number[]]>([
    ["\nThe following is a", [187, 510, 1563, 310, 247]],
    ["Hello, world!", [12092, 13, 1533, 2]],
    ["\n\nBob: hi\n\nAlice:", [187, 187, 26845, 27, 14260, 187, 187, 2422, 547, 27]],
    ["def f(x):\n    return x\n", [1545, 269, 9, 89, 2262, 187, 50274, 2309, 1269, 187]],
    ["a   b", [66, 50275, 67]],
    ["naïve café", [2072, 30180, 36241]],
    ["你好", [24553, 34439]],
    ["don't", [9903, 626]],
    ["\n", [187]],
    ["\n\n", [535]],
  ])("%j is encoded to the published ids, and back", (text, ids) => {
    expect(tokenizer.encode(text)).toEqual(ids);
    expect(tokenizer.decode(ids)).toBe(text);
  });

  test("a special token in the text becomes its id, and decodes to nothing", () => {
    expect(tokenizer.encode("<|endoftext|>hi")).toEqual([0, 5801]);
    expect(tokenizer.decode([0, 5801])).toBe("hi");
  });

  // Made with the Rust library (tokenizers 0.23.2 for Python): text on which JavaScript's idea of white space differs.
  test.each<[string, number[]]>([
    ["\ufeffthe", [41497, 783]],
    ["a \ufeff'b", [66, 35762, 8, 67]],
    ["x\u0085y", [89, 16643, 90]],
    ["!\u0085!", [2, 16643, 2]],
    ["\u0085 \u0085a", [16643, 209, 16643, 66]],
    [" \u180e.", [209, 157, 243, 225, 15]],
    ["a\u2028\u3000 b", [66, 40702, 19409, 270]],
    ["\u001c\u001f a", [205, 208, 247]],
    ["1\u00b2\u00bd\u2167", [18, 15818, 8313, 158, 216, 102]],
    ["e\u0301\u1e9b\u0323", [860, 9702, 238, 136, 98]],
    ["don't 'S 're", [9903, 626, 686, 52, 686, 250]],
    ["      \n   x", [50272, 187, 50275, 89]],
    ["<|padding|>  <|endoftext|>", [1, 50276, 0]],
    [
      "\u0928\u093f\u200d\ud83d\udc4b\ud83c\udffd",
      [23068, 20489, 325, 224, 14931, 228, 222, 14931, 226, 123],
    ],
  ])("%j is encoded as the Rust library does", (text, ids) => {
    expect(tokenizer.encode(text)).toEqual(ids);
  });

  test("any text comes back composed, token by token", () => {
    fc.assert(
      fc.property(fc.string({ unit: "binary", maxLength: 30 }), (text) => {
        const decoder = new Utf8Decoder();
        const ids = tokenizer.encode(text);
        expect(ids.map((id) => decoder.push(tokenizer.tokenBytes(id))).join("") + decoder.flush()).toBe(
          text.normalize("NFC"),
        );
      }),
      { seed: 7, numRuns: CASES },
    );
  });
});
