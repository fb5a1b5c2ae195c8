import fc from "fast-check";
import { expect, test } from "vitest";
import { FormatError } from "../core/errors.ts";
import { buildTrie, childOf, type ByteTrie } from "./trie.ts";

/** The value of a key, or -1. */
function lookUp(trie: ByteTrie, key: Uint8Array): number {
  let node = 0;
  for (const byte of key) {
    node = childOf(trie, node, byte);
    if (node < 0) return -1;
  }
  return trie.value[node]!;
}

const key = fc.oneof(
  fc.uint8Array({ minLength: 1, maxLength: 6 }),
  fc.uint8Array({ minLength: 1, maxLength: 6, max: 2 }),
);

test("every key is found with its value, and nothing else is", () => {
  fc.assert(
    fc.property(fc.uniqueArray(key, { selector: String, maxLength: 80 }), fc.array(key), (keys, others) => {
      const trie = buildTrie(
        "t",
        keys.map((bytes, value) => [bytes, value]),
      );
      keys.forEach((bytes, value) => expect(lookUp(trie, bytes)).toBe(value));
      const known = new Map(keys.map((bytes, value) => [String(bytes), value]));
      for (const other of others) expect(lookUp(trie, other)).toBe(known.get(String(other)) ?? -1);
      expect(
        new Set(keys.flatMap((bytes) => Array.from(bytes, (_, i) => String(bytes.slice(0, i + 1))))).size,
      ).toBe(trie.nNodes - 1);
    }),
    { seed: 7, numRuns: 500 },
  );
});

test("two equal keys are refused, naming both", () => {
  const twice = () =>
    buildTrie("v.txt", [
      [Uint8Array.of(1, 2), 5],
      [Uint8Array.of(1), 6],
      [Uint8Array.of(1, 2), 7],
    ]);
  expect(twice).toThrow(FormatError);
  expect(twice).toThrow("v.txt: entries 5 and 7 have the same 2 bytes");
});

test("an empty trie has its root only", () => {
  const trie = buildTrie("t", []);
  expect(trie.nNodes).toBe(1);
  expect(childOf(trie, 0, 0)).toBe(-1);
});
