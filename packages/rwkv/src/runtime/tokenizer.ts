// Which tokenizer belongs to a model: the one asked for, the one inside a GGUF, bytes for 256 ids, or a file beside
// the model that fits the number of ids.

import type { ByteSource } from "../core/byte-source.ts";
import { UsageError } from "../core/errors.ts";
import type { Platform } from "../core/platform.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import { canonicalWeights } from "../model/weights/canonical.ts";
import { createByteTokenizer } from "../tokenizer/bytes.ts";
import { openTokenizer } from "../tokenizer/open.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { worldTokenizerFromGguf } from "../tokenizer/world.ts";
import { openFile, readAll, withCheckpoint, type FileSource, type OpenedFile } from "./source.ts";

/** Most bytes of a tokenizer file; the largest published one has 3 MB. */
const MAX_TOKENIZER_BYTES = 64 * 2 ** 20;

/** World models have 65,536 rows, those of the 20B vocabulary 50,277 to 50,304. */
const WORLD_VOCAB = 65536;
const BYTE_VOCAB = 256;
const WORLD_FILES = ["rwkv_vocab_v20230424.txt", "rwkv_vocab_v20230424.json", "vocab.txt"];
const HUGGINGFACE_FILES = ["20B_tokenizer.json", "tokenizer.json"];

/** Reads a World vocabulary (.txt or JSON) or a Hugging Face `tokenizer.json`, told apart by content. */
export async function loadTokenizer(
  platform: Platform,
  file: FileSource,
  signal?: AbortSignal,
): Promise<Tokenizer> {
  const { source } = await openFile(platform, file, signal);
  return readTokenizer(source, signal);
}

/**
 * The tokenizer that belongs to a model; only the model's header is read.
 * @throws UsageError if there is none inside or beside it
 */
export async function modelTokenizer(
  platform: Platform,
  file: FileSource,
  signal?: AbortSignal,
): Promise<Tokenizer> {
  return withCheckpoint(platform, file, signal, async (checkpoint, opened) => {
    const { nVocab } = canonicalWeights(checkpoint).config;
    const tokenizer = await findTokenizer(platform, opened, checkpoint, nVocab, undefined, signal);
    if (tokenizer !== null) return tokenizer;
    throw new UsageError(
      `No tokenizer for the ${nVocab} ids of ${checkpoint.name} is inside it or beside it. ` +
        `Give one: rwkv_vocab_v20230424.txt for World models, a tokenizer.json for others.`,
    );
  });
}

/**
 * @param wanted - the caller's choice, which wins over everything
 * @returns null if none was found; token ids still work then
 * @throws UsageError if the chosen one has ids that the model does not know
 */
export async function findTokenizer(
  platform: Platform,
  opened: OpenedFile,
  checkpoint: Checkpoint,
  nVocab: number,
  wanted: Tokenizer | FileSource | undefined,
  signal?: AbortSignal,
): Promise<Tokenizer | null> {
  if (wanted !== undefined) {
    const tokenizer = isTokenizer(wanted) ? wanted : await loadTokenizer(platform, wanted, signal);
    if (tokenizer.nVocab > nVocab) {
      throw new UsageError(
        `The tokenizer has ${tokenizer.nVocab} ids, but ${checkpoint.name} knows only ${nVocab}: it belongs to another model.`,
      );
    }
    return tokenizer;
  }
  if (checkpoint.metadata.get("tokenizer.ggml.model") === "rwkv") {
    return worldTokenizerFromGguf(checkpoint.metadata, checkpoint.name);
  }
  if (nVocab === BYTE_VOCAB) return createByteTokenizer();
  if (!opened.hasLocalFolder) return null;
  const names = nVocab === WORLD_VOCAB ? WORLD_FILES : HUGGINGFACE_FILES;
  for (const name of names) {
    const beside = await opened.openBeside(name, signal);
    if (beside === null) continue;
    const tokenizer = await readTokenizer(beside, signal);
    if (tokenizer.nVocab <= nVocab) return tokenizer;
  }
  return null;
}

async function readTokenizer(source: ByteSource, signal?: AbortSignal): Promise<Tokenizer> {
  try {
    if (source.byteLength > MAX_TOKENIZER_BYTES) {
      throw new UsageError(
        `${source.name} has ${source.byteLength} bytes, too many for a tokenizer. Give rwkv_vocab_v20230424.txt or a tokenizer.json.`,
      );
    }
    return await openTokenizer(await readAll(source, signal), source.name);
  } finally {
    await source.close();
  }
}

function isTokenizer(value: Tokenizer | FileSource): value is Tokenizer {
  return typeof value === "object" && "encodeBytes" in value;
}
