import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UsageError } from "../core/errors.ts";
import { createStopMatcher } from "./stop.ts";

const encoder = new TextEncoder();
const utf8 = (text: string): Uint8Array => encoder.encode(text);

/** Everything by definition: ends in order, then patterns by length, then by index; suffixes by length. */
function matchNaively(patterns: readonly string[], stream: string): { text: string; matched: number | null } {
  for (let end = 1; end <= stream.length; end++) {
    const ending = patterns.filter((pattern) => stream.slice(0, end).endsWith(pattern));
    if (ending.length === 0) continue;
    const nBytes = Math.max(...ending.map((pattern) => pattern.length));
    return {
      text: stream.slice(0, end - nBytes),
      matched: patterns.indexOf(stream.slice(end - nBytes, end)),
    };
  }
  return { text: stream, matched: null };
}

/** Bytes that must be held back after `stream`: its longest suffix that begins a pattern. */
function heldNaively(patterns: readonly string[], stream: string): string {
  for (let start = 0; start < stream.length; start++) {
    const suffix = stream.slice(start);
    if (patterns.some((pattern) => pattern.startsWith(suffix))) return suffix;
  }
  return "";
}

const fewLetters = fc.string({ unit: fc.constantFrom("a", "b", "c"), maxLength: 40 });
const somePatterns = fc.array(
  fc.string({ unit: fc.constantFrom("a", "b", "c"), minLength: 1, maxLength: 6 }),
  {
    maxLength: 6,
  },
);
const someCuts = fc.array(fc.nat({ max: 7 }), { minLength: 1, maxLength: 10 });

test("however the stream is cut, text, match and what is held back are those of the definition", () => {
  fc.assert(
    fc.property(somePatterns, fewLetters, someCuts, (patterns, stream, cuts) => {
      const matcher = createStopMatcher(patterns.map(utf8));
      const want = matchNaively(patterns, stream);
      let read = "";
      let text = "";
      let matched: number | null = null;
      for (let i = 0; read.length < stream.length && i < 200; i++) {
        const piece = stream.slice(read.length, read.length + cuts[i % cuts.length]!);
        read += piece;
        const result = matcher.push(utf8(piece));
        text += new TextDecoder().decode(result.emit);
        matched = result.matched;
        const naive = matchNaively(patterns, read);
        expect(matched).toBe(naive.matched);
        expect(text).toBe(
          naive.matched === null
            ? read.slice(0, read.length - heldNaively(patterns, read).length)
            : naive.text,
        );
      }
      const rest = new TextDecoder().decode(matcher.flush());
      const wantRead = matchNaively(patterns, read);
      expect(text + rest).toBe(wantRead.text);
      if (read === stream) expect({ text: text + rest, matched }).toEqual(want);
    }),
    { seed: 7, numRuns: 3000 },
  );
});

describe("examples", () => {
  const decode = (bytes: Uint8Array): string => new TextDecoder().decode(bytes);

  test("a stop string cut into single bytes never shows any of its bytes", () => {
    const matcher = createStopMatcher([utf8("\n\nUser:"), utf8("。停")]);
    const results = [...utf8("好。\n\nUse\n\nUser: x")].map((byte) => {
      const { emit, matched } = matcher.push(Uint8Array.of(byte));
      return [decode(emit), matched];
    });
    expect(results.map(([text]) => text).join("")).not.toContain("User:");
    expect(results.filter(([, matched]) => matched === 0).length).toBe(3); // the colon, and all that follows
    expect(matcher.flush()).toEqual(new Uint8Array(0));
  });

  test("of patterns that end together the longest wins, whatever their order", () => {
    expect(createStopMatcher([utf8("b"), utf8("ab")]).push(utf8("xab"))).toEqual({
      emit: utf8("x"),
      matched: 1,
    });
    expect(createStopMatcher([utf8("ab"), utf8("b")]).push(utf8("xab"))).toEqual({
      emit: utf8("x"),
      matched: 0,
    });
  });

  test("a match that ends earlier wins over one that begins earlier", () => {
    expect(createStopMatcher([utf8("abcd"), utf8("bc")]).push(utf8("abcd"))).toEqual({
      emit: utf8("a"),
      matched: 1,
    });
  });

  test("of equal patterns the first is reported", () => {
    expect(createStopMatcher([utf8("x"), utf8("ab"), utf8("ab")]).push(utf8("ab")).matched).toBe(1);
  });

  test("without patterns everything passes", () => {
    const matcher = createStopMatcher([]);
    expect(matcher.push(utf8("abc"))).toEqual({ emit: utf8("abc"), matched: null });
    expect(matcher.flush()).toEqual(new Uint8Array(0));
  });

  test("after flush another stream begins", () => {
    const matcher = createStopMatcher([utf8("ab")]);
    expect(decode(matcher.push(utf8("xa")).emit)).toBe("x");
    expect(decode(matcher.flush())).toBe("a");
    expect(matcher.push(utf8("b"))).toEqual({ emit: utf8("b"), matched: null });
    expect(matcher.push(utf8("ab")).matched).toBe(0);
    matcher.flush();
    expect(matcher.push(utf8("c"))).toEqual({ emit: utf8("c"), matched: null });
  });

  test("patterns may be any bytes, and changing them afterwards changes nothing", () => {
    const pattern = Uint8Array.of(0xff, 0x00);
    const matcher = createStopMatcher([pattern]);
    pattern.fill(1);
    expect(matcher.push(Uint8Array.of(7, 0xff, 0x00, 8))).toEqual({ emit: Uint8Array.of(7), matched: 0 });
  });

  test("a pattern of 100,000 equal bytes takes a stream of as many in one go and byte by byte", () => {
    const long = new Uint8Array(100_000).fill(97);
    const matcher = createStopMatcher([long, utf8("b")]);
    for (let i = 0; i < 99_999; i++) expect(matcher.push(long.subarray(0, 1)).emit.length).toBe(0);
    expect(matcher.push(utf8("c")).emit.length).toBe(100_000);
    expect(matcher.push(long)).toEqual({ emit: new Uint8Array(0), matched: 0 });
  });

  test("an empty pattern is refused, naming it", () => {
    expect(() => createStopMatcher([utf8("a"), utf8("")])).toThrow(UsageError);
    expect(() => createStopMatcher([utf8("a"), utf8("")])).toThrow("Stop string 1 is empty");
  });
});
