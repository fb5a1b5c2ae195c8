import { readFileSync } from "node:fs";
import { bytesSource, loadTokenizer, type Tokenizer } from "rwkv";
import { beforeAll, expect, test } from "vitest";
import { corpus } from "./corpus.ts";
import { VOCABULARY_FILE } from "./paths.ts";
import { CORPUS_SEED, MAX_TOKENS, N_VOCABULARY_DOCUMENTS } from "./recipe.ts";
import { buildVocabulary } from "./vocabulary.ts";

let tokenizer: Tokenizer;
beforeAll(async () => {
  tokenizer = await loadTokenizer(VOCABULARY_FILE);
});

const tokensOf = (text: string): string[] => tokenizer.encode(text).map((id) => tokenizer.decode([id]));

test("the shipped vocabulary is the one that the corpus leads to", () => {
  const built = buildVocabulary(corpus(CORPUS_SEED, N_VOCABULARY_DOCUMENTS), MAX_TOKENS);
  expect(built === readFileSync(VOCABULARY_FILE, "utf8")).toBe(true);
});

test("it is of the World kind: id 0 ends a text, the bytes come next", () => {
  expect(tokenizer.kind).toBe("world");
  expect(tokenizer.endOfText).toBe(0);
  expect(tokenizer.nVocab).toBeLessThanOrEqual(1024);
  for (let byte = 0; byte < 256; byte++) expect([...tokenizer.tokenBytes(byte + 1)]).toEqual([byte]);
});

test("words in quotes are letters, numbers are digits, other words are whole", () => {
  expect(tokensOf('User: Spell "stone" backwards.\n\nAssistant: "enots"\n\n')).toEqual([
    ...["User:", " Spell", ' "', "s", "t", "o", "n", "e", '"', " backwards", ".", "\n\n"],
    ...["Assistant:", ' "', "e", "n", "o", "t", "s", '"', "\n\n"],
  ]);
  expect(tokensOf("User: What is 47 + 38?")).toEqual([
    "User:",
    " What",
    " is",
    " ",
    "4",
    "7",
    " + ",
    "3",
    "8",
    "?",
  ]);
});

test("tokens that do not begin with a space are single characters, or words with a capital", () => {
  const seen = new Set([...corpus(5, 500)].flatMap((text) => tokensOf(text)));
  expect(seen.size).toBeGreaterThan(500);
  for (const token of seen) {
    if (token.length > 1) expect(token).toMatch(/^( .+|[A-Z][a-z]+:?|\n\n)$/);
  }
});

test("the corpus survives encoding and decoding", () => {
  for (const text of corpus(6, 200)) expect(tokenizer.decode(tokenizer.encode(text))).toBe(text);
});

test("rare words are left out when there are too many, and every byte has a readable literal", async () => {
  const documents = Array.from({ length: 40 }, (_, i) => (i < 35 ? " often seldom" : " often rare"));
  const lines = buildVocabulary(documents, 9).trimEnd().split("\n");
  expect(lines.slice(256).some((line) => line.includes("' often'"))).toBe(true);
  expect(lines.some((line) => line.includes("rare") || line.includes("seldom"))).toBe(false);
  const small = await loadTokenizer(
    bytesSource(new TextEncoder().encode(lines.join("\n") + "\n"), "vocab.txt"),
  );
  expect(small.nVocab).toBe(1 + 256 + 9);
});
