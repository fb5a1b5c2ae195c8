// Which tokenizer belongs to a model: the one asked for, the one inside a GGUF or packed file, bytes for 256 ids, or a
// file beside the model that fits the number of ids.

import type { ByteSource } from "../core/byte-source.ts";
import { FormatError, UsageError } from "../core/errors.ts";
import type { Platform } from "../core/platform.ts";
import type { Checkpoint, CheckpointTensor } from "../formats/checkpoint.ts";
import { canonicalWeights } from "../model/weights/canonical.ts";
import { createByteTokenizer } from "../tokenizer/bytes.ts";
import { openTokenizer } from "../tokenizer/open.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { worldTokenizerFromGguf, worldVocabularyFile } from "../tokenizer/world.ts";
import { openFile, readAll, withCheckpoint, type FileSource, type OpenedFile } from "./source.ts";

/** Most bytes of a tokenizer file; the largest published one has 3 MB. */
const MAX_TOKENIZER_BYTES = 64 * 2 ** 20;

/** World models have 65,536 rows, those of the 20B vocabulary 50,277 to 50,304. */
const WORLD_VOCAB = 65536;
const BYTE_VOCAB = 256;
/** A vocabulary of the World kind by this name may have any number of ids. */
const VOCABULARY_FILE = "vocab.txt";
const WORLD_FILES = ["rwkv_vocab_v20230424.txt", "rwkv_vocab_v20230424.json", VOCABULARY_FILE];
const OTHER_FILES = ["20B_tokenizer.json", "tokenizer.json", VOCABULARY_FILE];

/** Reads a World vocabulary (.txt or JSON) or a Hugging Face `tokenizer.json`, told apart by content. */
export async function loadTokenizer(
  platform: Platform,
  file: FileSource,
  signal?: AbortSignal,
): Promise<Tokenizer> {
  const { source } = await openFile(platform, file, signal);
  return (await readTokenizer(source, signal)).tokenizer;
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
    const found = await findTokenizer(platform, opened, checkpoint, nVocab, undefined, signal);
    if (found !== null) return found.tokenizer;
    throw new UsageError(
      `No tokenizer for the ${nVocab} ids of ${checkpoint.name} is inside it or beside it. ` +
        `Give one: rwkv_vocab_v20230424.txt for World models, a tokenizer.json for others.`,
    );
  });
}

/** A tokenizer, and the file it was read from. */
export interface FoundTokenizer {
  readonly tokenizer: Tokenizer;
  /** Null for one that was not read from a file of its own. */
  readonly file: Uint8Array<ArrayBuffer> | null;
}

/** A file that the tokenizer can be read from; null for the one of bytes, which needs none. */
export function fileOf({ tokenizer, file }: FoundTokenizer): Uint8Array<ArrayBuffer> | null {
  return file ?? (tokenizer.kind === "world" ? worldVocabularyFile(tokenizer) : null);
}

/**
 * @param wanted - the caller's choice, which wins over everything; null for none
 * @returns null if none was found; token ids still work then
 * @throws UsageError if the chosen one has ids that the model does not know
 */
export async function findTokenizer(
  platform: Platform,
  opened: OpenedFile,
  checkpoint: Checkpoint,
  nVocab: number,
  wanted: Tokenizer | FileSource | null | undefined,
  signal?: AbortSignal,
): Promise<FoundTokenizer | null> {
  if (wanted === null) return null;
  if (wanted !== undefined && isTokenizer(wanted)) {
    checkFits(wanted, checkpoint.name, nVocab);
    return { tokenizer: wanted, file: null };
  }
  return findTokenizerFile(platform, opened, checkpoint, nVocab, wanted, signal);
}

/** The same, with the file that the tokenizer was read from. */
export async function findTokenizerFile(
  platform: Platform,
  opened: OpenedFile,
  checkpoint: Checkpoint,
  nVocab: number,
  wanted: FileSource | undefined,
  signal?: AbortSignal,
): Promise<FoundTokenizer | null> {
  if (wanted !== undefined) {
    const { source } = await openFile(platform, wanted, signal);
    const found = await readTokenizer(source, signal);
    checkFits(found.tokenizer, checkpoint.name, nVocab);
    return found;
  }
  if (checkpoint.metadata.get("tokenizer.ggml.model") === "rwkv") {
    return { tokenizer: worldTokenizerFromGguf(checkpoint.metadata, checkpoint.name), file: null };
  }
  if (checkpoint.tokenizer !== undefined) return readInside(checkpoint, checkpoint.tokenizer, nVocab, signal);
  if (nVocab === BYTE_VOCAB) return { tokenizer: createByteTokenizer(), file: null };
  if (!opened.hasLocalFolder) return null;
  const names = nVocab === WORLD_VOCAB ? WORLD_FILES : OTHER_FILES;
  for (const name of names) {
    const beside = await opened.openBeside(name, signal);
    if (beside === null) continue;
    const found = await readTokenizer(beside, signal);
    if (found.tokenizer.nVocab <= nVocab) return found;
  }
  return null;
}

/** @throws UsageError if it has ids that the model does not know */
export function checkFits(tokenizer: Tokenizer, model: string, nVocab: number): void {
  if (tokenizer.nVocab <= nVocab) return;
  throw new UsageError(
    `The tokenizer has ${tokenizer.nVocab} ids, but ${model} knows only ${nVocab}: it belongs to another model.`,
  );
}

async function readTokenizer(source: ByteSource, signal?: AbortSignal): Promise<FoundTokenizer> {
  try {
    if (source.byteLength > MAX_TOKENIZER_BYTES) {
      throw new UsageError(
        `${source.name} has ${source.byteLength} bytes, too many for a tokenizer. Give rwkv_vocab_v20230424.txt or a tokenizer.json.`,
      );
    }
    const file = await readAll(source, signal);
    return { tokenizer: await openTokenizer(file, source.name), file };
  } finally {
    await source.close();
  }
}

/** The tokenizer that a packed file carries. */
async function readInside(
  { name }: Checkpoint,
  tensor: CheckpointTensor,
  nVocab: number,
  signal?: AbortSignal,
): Promise<FoundTokenizer> {
  const where = `${name}: tensor "${tensor.name}"`;
  if (tensor.byteLength > MAX_TOKENIZER_BYTES) {
    throw new FormatError(
      `${where} has ${tensor.byteLength} bytes, too many for a tokenizer. Make the file again.`,
    );
  }
  const file = new Uint8Array(tensor.byteLength);
  await tensor.read(file, signal);
  const tokenizer = await openTokenizer(file, where);
  if (tokenizer.nVocab <= nVocab) return { tokenizer, file };
  throw new FormatError(
    `${where} has ${tokenizer.nVocab} ids, but the model knows only ${nVocab}. The file was written wrongly: make it again.`,
  );
}

export function isTokenizer(value: Tokenizer | FileSource): value is Tokenizer {
  return typeof value === "object" && "encodeBytes" in value;
}
