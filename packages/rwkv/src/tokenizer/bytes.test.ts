import fc from "fast-check";
import { expect, test } from "vitest";
import { UsageError } from "../core/errors.ts";
import { BYTE_CHARACTERS, bytesOfByteLevelToken } from "./byte-level.ts";
import { createByteTokenizer } from "./bytes.ts";

const tokenizer = createByteTokenizer();

test("ids of the byte tokenizer are the bytes, all 256 of them, and none ends the text", () => {
  expect(tokenizer.nVocab).toBe(256);
  expect(tokenizer.endOfText).toBeNull();
  expect(tokenizer.encode("aé")).toEqual([0x61, 0xc3, 0xa9]);
  expect(tokenizer.decodeBytes([0, 0xff])).toEqual(Uint8Array.of(0, 0xff));
  expect(tokenizer.tokenBytes(0)).toEqual(Uint8Array.of(0));
  expect(tokenizer.decode([0xef, 0xbb, 0xbf, 0xff])).toBe("\ufeff\ufffd");
  expect(() => tokenizer.decode([256])).toThrow(UsageError);
});

test("bytes and text come back", () => {
  fc.assert(
    fc.property(fc.uint8Array(), fc.string({ unit: "binary" }), (bytes, text) => {
      expect(tokenizer.decodeBytes(tokenizer.encodeBytes(bytes))).toEqual(bytes);
      expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
    }),
    { seed: 7, numRuns: 200 },
  );
});

test("the stand-ins of byte-level BPE are 256 different characters, 188 of them the byte's own", () => {
  expect(new Set(BYTE_CHARACTERS).size).toBe(256);
  expect(BYTE_CHARACTERS.filter((char, byte) => char.charCodeAt(0) === byte).length).toBe(188);
  expect([BYTE_CHARACTERS[32], BYTE_CHARACTERS[10], BYTE_CHARACTERS[0], BYTE_CHARACTERS[173]]).toEqual([
    "Ġ",
    "Ċ",
    "Ā",
    "Ń",
  ]);
  expect(bytesOfByteLevelToken("Ġé")).toEqual(Uint8Array.of(0x20, 0xe9));
  expect(bytesOfByteLevelToken("Ġ中")).toEqual(new TextEncoder().encode("Ġ中"));
});
