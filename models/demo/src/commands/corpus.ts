// Writes the corpus and checks the vocabulary: what has to be there before training begins.

import { readFile } from "node:fs/promises";
import { FormatError } from "rwkv";
import { corpus } from "../corpus.ts";
import { CORPUS_FILE, VOCABULARY_FILE, writeWhole } from "../paths.ts";
import { CORPUS_SEED, MAX_TOKENS, N_DOCUMENTS, N_VOCABULARY_DOCUMENTS } from "../recipe.ts";
import { buildVocabulary } from "../vocabulary.ts";

/** The corpus as lines of JSON, `{"text": ...}`. */
function* lines(): Generator<string, void, void> {
  for (const text of corpus(CORPUS_SEED, N_DOCUMENTS)) yield `${JSON.stringify({ text })}\n`;
}

/** Writes the corpus of the recipe; about 90 MB. */
export async function writeCorpus(): Promise<void> {
  process.stderr.write(`Writing ${N_DOCUMENTS} documents to ${CORPUS_FILE}.\n`);
  await writeWhole(CORPUS_FILE, lines());
}

/**
 * Writes the vocabulary if there is none, and otherwise checks that the corpus still leads to it.
 * @throws FormatError if it leads to another one: weights trained with the old one would be read wrongly
 */
export async function ensureVocabulary(): Promise<void> {
  const wanted = buildVocabulary(corpus(CORPUS_SEED, N_VOCABULARY_DOCUMENTS), MAX_TOKENS);
  const found = await readText(VOCABULARY_FILE);
  if (found === wanted) return;
  if (found === null) {
    await writeWhole(VOCABULARY_FILE, wanted);
    process.stderr.write(`Wrote ${VOCABULARY_FILE}.\n`);
    return;
  }
  throw new FormatError(
    `${VOCABULARY_FILE} is not the vocabulary that the corpus leads to, so that a generator or word list has changed. ` +
      `Delete it to have it made anew, then train the model again: its weights belong to the old one.`,
  );
}

async function readText(path: string): Promise<string | null> {
  try {
    return await readFile(path, "utf8");
  } catch (error) {
    if (error instanceof Error && "code" in error && error.code === "ENOENT") return null;
    throw error;
  }
}
