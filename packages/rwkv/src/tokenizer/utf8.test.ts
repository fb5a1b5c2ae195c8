import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { Utf8Decoder } from "./utf8.ts";

const CASES = process.env["RWKV_TEST_LONG"] === undefined ? 1000 : 10_000;

/** Bytes rich in the beginnings, middles and ends of characters, and in what is nearly one. */
const bytes = fc
  .array(
    fc.oneof(
      fc.string({ unit: "binary", maxLength: 3 }).map((text) => [...new TextEncoder().encode(text)]),
      fc
        .constantFrom(
          0xc0,
          0xc1,
          0xc2,
          0xe0,
          0xed,
          0xef,
          0xf0,
          0xf4,
          0xf5,
          0xff,
          0x80,
          0x8f,
          0x90,
          0x9f,
          0xa0,
          0xbf,
        )
        .map((byte) => [byte]),
      fc.nat({ max: 255 }).map((byte) => [byte]),
    ),
    { maxLength: 12 },
  )
  .map((pieces) => Uint8Array.from(pieces.flat()));

function decodeWhole(input: Uint8Array): string {
  return new TextDecoder("utf-8", { ignoreBOM: true }).decode(input);
}

test("however the bytes are cut, the text is that of a TextDecoder over all of them", () => {
  fc.assert(
    fc.property(bytes, fc.array(fc.nat({ max: 5 }), { minLength: 1, maxLength: 8 }), (input, lengths) => {
      const decoder = new Utf8Decoder();
      let text = "";
      for (let start = 0, i = 0; start < input.length; i++) {
        const end = i < 100 ? start + lengths[i % lengths.length]! : input.length;
        text += decoder.push(input.subarray(start, end));
        start = end;
      }
      expect(text + decoder.flush()).toBe(decodeWhole(input));
    }),
    { seed: 7, numRuns: CASES },
  );
});

test("bytes wait only while some continuation makes them a character", () => {
  fc.assert(
    fc.property(bytes, (input) => {
      const decoder = new Utf8Decoder();
      const text = decoder.push(input);
      const held = decodeWhole(input).length - text.length > 0;
      // What waits must be one beginning of a character: a character more completes it without U+FFFD for it.
      const tail = [1, 2, 3].find(
        (n) => n <= input.length && canBeCompleted(input.subarray(input.length - n)),
      );
      expect(held).toBe(tail !== undefined);
    }),
    { seed: 7, numRuns: CASES },
  );
});

/** By trying the lowest and highest continuations of every length. */
function canBeCompleted(start: Uint8Array): boolean {
  for (const fill of [0x80, 0x90, 0x9f, 0xa0, 0xbf, 0x8f]) {
    for (let n = 1; n <= 3; n++) {
      const whole = Uint8Array.from([...start, fill, 0x80, 0x80].slice(0, start.length + n));
      const text = decodeWhole(whole);
      if (Array.from(text).length === 1 && new TextEncoder().encode(text).join() === whole.join())
        return true;
    }
  }
  return false;
}

describe("published examples", () => {
  const perByte = (...input: number[]): string[] => {
    const decoder = new Utf8Decoder();
    return [...input.map((byte) => decoder.push(Uint8Array.of(byte))), decoder.flush()];
  };

  test("a character appears with its last byte", () => {
    expect(perByte(0xf0, 0x9f, 0x91, 0x8b, 0x41)).toEqual(["", "", "", "👋", "A", ""]);
  });

  test("overlong forms, surrogates and what lies beyond U+10FFFF never wait beyond the byte that shows it", () => {
    expect(perByte(0xc0, 0xaf)).toEqual(["\ufffd", "\ufffd", ""]);
    expect(perByte(0xe0, 0x9f, 0x80)).toEqual(["", "\ufffd\ufffd", "\ufffd", ""]);
    expect(perByte(0xed, 0xa0, 0x80)).toEqual(["", "\ufffd\ufffd", "\ufffd", ""]);
    expect(perByte(0xf0, 0x8f)).toEqual(["", "\ufffd\ufffd", ""]);
    expect(perByte(0xf4, 0x90)).toEqual(["", "\ufffd\ufffd", ""]);
    expect(perByte(0xf5)).toEqual(["\ufffd", ""]);
    expect(perByte(0x80)).toEqual(["\ufffd", ""]);
  });

  test("a beginning that is broken off gives one U+FFFD, at once", () => {
    expect(perByte(0xf0, 0x9f, 0x91, 0x41)).toEqual(["", "", "", "\ufffdA", ""]);
    expect(perByte(0xe4, 0xb8, 0xe4, 0xb8, 0xad)).toEqual(["", "", "\ufffd", "", "中", ""]);
  });

  test("the end of the text gives one U+FFFD for a beginning, and makes the decoder new", () => {
    const decoder = new Utf8Decoder();
    expect(decoder.push(Uint8Array.of(0x61, 0xe4, 0xb8))).toBe("a");
    expect(decoder.flush()).toBe("\ufffd");
    expect(decoder.push(Uint8Array.of(0xad, 0x62))).toBe("\ufffdb");
    expect(decoder.flush()).toBe("");
  });

  test("a byte order mark is text like any other", () => {
    expect(perByte(0xef, 0xbb, 0xbf)).toEqual(["", "", "\ufeff", ""]);
  });
});
