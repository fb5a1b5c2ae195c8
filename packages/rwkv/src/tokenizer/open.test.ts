import { expect, test } from "vitest";
import { FormatError } from "../core/errors.ts";
import { BYTE_CHARACTERS } from "./byte-level.ts";
import { openTokenizer } from "./open.ts";
import { jsonForm, SMALL_VOCABULARY, textForm } from "./testing.ts";

const encoder = new TextEncoder();

test("the three forms are told apart by content, whatever the name", async () => {
  const huggingFace = {
    added_tokens: [],
    normalizer: null,
    pre_tokenizer: { type: "ByteLevel" },
    decoder: { type: "ByteLevel" },
    model: {
      type: "BPE",
      vocab: Object.fromEntries(BYTE_CHARACTERS.map((char, id) => [char, id])),
      merges: [],
    },
  };
  const kindOf = async (bytes: Uint8Array<ArrayBuffer>): Promise<string> =>
    (await openTokenizer(bytes, "tokenizer")).kind;
  expect(await kindOf(textForm(SMALL_VOCABULARY))).toBe("world");
  expect(await kindOf(jsonForm(SMALL_VOCABULARY))).toBe("world");
  expect(await kindOf(encoder.encode(JSON.stringify(huggingFace)))).toBe("huggingface");
});

test("a byte order mark and white space at the beginning are no hindrance", async () => {
  const bytes = Uint8Array.of(0xef, 0xbb, 0xbf, 0x0a, ...jsonForm(SMALL_VOCABULARY));
  expect((await openTokenizer(bytes, "t")).kind).toBe("world");
  const text = Uint8Array.of(0xef, 0xbb, 0xbf, ...textForm(SMALL_VOCABULARY));
  expect((await openTokenizer(text, "t")).kind).toBe("world");
});

test("the same bytes give the same tokenizer, other bytes another", async () => {
  const first = await openTokenizer(textForm(SMALL_VOCABULARY), "first.txt");
  expect(await openTokenizer(textForm(SMALL_VOCABULARY), "second.txt")).toBe(first);
  const other = await openTokenizer(jsonForm(SMALL_VOCABULARY), "first.txt");
  expect(other).not.toBe(first);
  expect(other.encode("a")).toEqual(first.encode("a"));
});

test.each([
  ["nothing", ""],
  ["prose", "hello"],
  ["a web page", "<!DOCTYPE html>"],
  ["a JSON list", "[1]"],
  ["a JSON object of something else", '{"a": 1}'],
  ["JSON that is cut short", '{"1": "a"'],
])("%s is refused", async (_, text) => {
  await expect(openTokenizer(encoder.encode(text), "some.file")).rejects.toThrow(FormatError);
  await expect(openTokenizer(encoder.encode(text), "some.file")).rejects.toThrow("some.file");
});

test("a binary file is refused", async () => {
  await expect(openTokenizer(Uint8Array.of(0x80, 2, 0xff, 0), "model.pth")).rejects.toThrow(
    "model.pth: expected a tokenizer",
  );
});
