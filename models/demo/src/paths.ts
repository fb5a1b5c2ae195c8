// Where the files of this package lie, and how they are written: whole, under another name first, so that an
// interrupted command leaves no half of a file.

import { createWriteStream } from "node:fs";
import { mkdir, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, resolve } from "node:path";
import { Readable } from "node:stream";
import { pipeline } from "node:stream/promises";

const PACKAGE = resolve(import.meta.dirname, "..");

export const MODEL_FILE = join(PACKAGE, "model.safetensors");
export const VOCABULARY_FILE = join(PACKAGE, "vocab.txt");
export const CARD_FILE = join(PACKAGE, "README.md");
export const CHART_FILE = join(PACKAGE, "loss.svg");
/** What can be made again: the corpus, checkpoints, results. */
export const BUILD_FOLDER = join(PACKAGE, "build");
export const CORPUS_FILE = join(BUILD_FOLDER, "corpus.jsonl");
/** Where the trainer leaves its results, as recipe/train.json says. */
export const RUN_FOLDER = join(BUILD_FOLDER, "run");
export const LOSSES_FILE = join(RUN_FOLDER, "losses.jsonl");
export const RESULTS_FILE = join(BUILD_FOLDER, "eval.json");

/** Writes a file of text or of lines that come one by one. */
export async function writeWhole(path: string, content: string | Iterable<string>): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const temporary = `${path}.${process.pid}.part`;
  try {
    if (typeof content === "string") await writeFile(temporary, content);
    else await pipeline(Readable.from(content), createWriteStream(temporary));
    await rename(temporary, path);
  } catch (error) {
    await rm(temporary, { force: true });
    throw error;
  }
}
