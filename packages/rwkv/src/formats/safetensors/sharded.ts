// A model over several safetensors files, tied together by `model.safetensors.index.json`:
// {"metadata": {...}, "weight_map": {tensor name: file name}}. Hides which file holds which tensor. Names of files
// come from the index, which anyone may have written: only plain names in the same folder are opened.
// Source: huggingface/transformers, docs "Big models", sharded checkpoints.

import type { ByteSource } from "../../core/byte-source.ts";
import { FormatError } from "../../core/errors.ts";
import type { Checkpoint, CheckpointTensor, MetadataValue } from "../checkpoint.ts";
import { MAX_TENSORS, quoted } from "../range-tensor.ts";
import { MAX_HEADER_BYTES } from "./header.ts";
import { decodeUtf8, readSafetensors } from "./safetensors.ts";
import { isJsonObject, parseStrictJson, type JsonObject, type JsonValue } from "./strict-json.ts";

/** Published models have at most some dozens; each is an open file. */
const MAX_SHARDS = 1000;
const MAX_FILE_NAME_CHARACTERS = 255;

/**
 * Reads the index and the header of every file in it.
 * @param index - the bytes of the index; stays open, and the caller's, if this fails
 * @param openSibling - opens a file of that name in the folder of the index; closed by the checkpoint's `close`, and
 * before this fails
 * @throws FormatError if the index or a header is damaged, or if the two disagree on what is where
 */
export async function readShardedSafetensors(
  index: ByteSource,
  openSibling: (fileName: string) => Promise<ByteSource>,
): Promise<Checkpoint> {
  const { metadata, weightMap } = await readIndex(index);
  const shards = new Map<string, Checkpoint>();
  const close = async (): Promise<void> => {
    await Promise.all([index.close(), ...[...shards.values()].map((shard) => shard.close())]);
  };
  try {
    const tensors = new Map<string, CheckpointTensor>();
    for (const [name, fileName] of weightMap) {
      let shard = shards.get(fileName);
      if (shard === undefined) {
        shard = await openShard(fileName, openSibling);
        shards.set(fileName, shard);
      }
      const tensor = shard.tensors.get(name);
      if (tensor === undefined) {
        throw new FormatError(
          `${index.name}: tensor ${quoted(name)} should be in ${fileName}, but is not. ` +
            `The files are not of one model, or the index is damaged: download all of them again.`,
        );
      }
      tensors.set(name, tensor);
    }
    checkAllListed(index, weightMap, shards);
    return { format: "safetensors", name: index.name, formatVersion: null, tensors, metadata, close };
  } catch (error) {
    await Promise.all([...shards.values()].map((shard) => shard.close()));
    throw error;
  }
}

async function openShard(
  fileName: string,
  openSibling: (fileName: string) => Promise<ByteSource>,
): Promise<Checkpoint> {
  const source = await openSibling(fileName);
  try {
    return await readSafetensors(source);
  } catch (error) {
    await source.close();
    throw error;
  }
}

interface Index {
  readonly metadata: ReadonlyMap<string, MetadataValue>;
  readonly weightMap: ReadonlyMap<string, string>;
}

async function readIndex(index: ByteSource): Promise<Index> {
  if (index.byteLength > MAX_HEADER_BYTES) {
    throw new FormatError(
      `${index.name}: an index of at most ${MAX_HEADER_BYTES} bytes was expected, but the file has ` +
        `${index.byteLength}. Give the file that ends in .safetensors.index.json.`,
    );
  }
  const bytes = new Uint8Array(index.byteLength);
  await index.read(0, bytes);
  const root = parseStrictJson(decodeUtf8(bytes, index.name), index.name);
  const listed = isJsonObject(root) ? root.get("weight_map") : undefined;
  if (!isJsonObject(root) || !isJsonObject(listed)) {
    throw new FormatError(
      `${index.name} is JSON without a "weight_map", so no safetensors index. It may be the configuration or ` +
        `tokenizer of a model: give the file that holds the weights.`,
    );
  }
  return { metadata: scalarsOf(root.get("metadata")), weightMap: checkWeightMap(index, listed) };
}

/** The index's own remarks, such as `total_size`; nested ones have no known use. */
function scalarsOf(metadata: JsonValue | undefined): ReadonlyMap<string, MetadataValue> {
  const scalars = new Map<string, MetadataValue>();
  if (!isJsonObject(metadata)) return scalars;
  for (const [key, value] of metadata) {
    if (typeof value !== "object") scalars.set(key, value);
  }
  return scalars;
}

function checkWeightMap(index: ByteSource, listed: JsonObject): ReadonlyMap<string, string> {
  if (listed.size === 0 || listed.size > MAX_TENSORS) {
    throw new FormatError(
      `${index.name}: the weight_map lists ${listed.size} tensors; expected are 1 to ${MAX_TENSORS}. ` +
        `The index is damaged: download it again.`,
    );
  }
  const weightMap = new Map<string, string>();
  for (const [name, fileName] of listed) {
    if (typeof fileName !== "string" || !isPlainFileName(fileName)) {
      throw new FormatError(
        `${index.name}: tensor ${quoted(name)} should be in ` +
          `${typeof fileName === "string" ? quoted(fileName) : "something that is not a string"}, but only plain names ` +
          `of files in the same folder are opened. Do not use this index unless you trust who wrote it.`,
      );
    }
    weightMap.set(name, fileName);
  }
  const nShards = new Set(weightMap.values()).size;
  if (nShards > MAX_SHARDS) {
    throw new FormatError(
      `${index.name}: the tensors are spread over ${nShards} files, but at most ${MAX_SHARDS} are opened. ` +
        `The index is damaged: download it again.`,
    );
  }
  return weightMap;
}

/**
 * Whether the name means a file in the same folder everywhere: no separator or drive of any system, nothing hidden,
 * and nothing that an address would take for an escape, a query or a fragment.
 */
function isPlainFileName(fileName: string): boolean {
  return (
    fileName.length <= MAX_FILE_NAME_CHARACTERS &&
    /^[^./\\:%?#*|<>"\p{C}][^/\\:%?#*|<>"\p{C}]*$/u.test(fileName)
  );
}

function checkAllListed(
  index: ByteSource,
  weightMap: ReadonlyMap<string, string>,
  shards: ReadonlyMap<string, Checkpoint>,
): void {
  for (const [fileName, shard] of shards) {
    for (const name of shard.tensors.keys()) {
      if (weightMap.get(name) === fileName) continue;
      throw new FormatError(
        `${index.name}: ${fileName} holds tensor ${quoted(name)}, which the index does not place there. ` +
          `The files are not of one model, or the index is damaged: download all of them again.`,
      );
    }
  }
}
