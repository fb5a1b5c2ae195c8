// Opens a GGUF checkpoint, of one file or of several parts, as named tensors that are read when asked.
// Format: docs/gguf.md of ggml-org/ggml; parts as llama.cpp's gguf-split writes them: <stem>-00001-of-00003.gguf.

import type { ByteSource } from "../../core/byte-source.ts";
import { FormatError, UsageError } from "../../core/errors.ts";
import type { Checkpoint, CheckpointTensor, MetadataValue } from "../checkpoint.ts";
import { rangeTensor } from "../range-tensor.ts";
import { readHeader, type GgufHeader, type GgufTensorEntry } from "./read-header.ts";

/** A part's file name, taken from a path or an address: stem, number from 1, number of parts. */
const PART_NAME = /([^\\/]*)-(\d{5})-of-(\d{5})\.gguf(?:[?#].*)?$/i;

/**
 * Opens a GGUF file of version 2 or 3 and reads its header. Tensor names and metadata keys are the file's own; shapes are
 * in PyTorch order without outermost dimensions of 1 (`[1, 1, C]` reads `[C]`). Strings that are not valid UTF-8, which
 * occur in vocabularies, have U+FFFD in place of the invalid bytes. 64-bit integers beyond 2^53 are bigints.
 * @param source - the file, or the first part of several; `close` of the result closes it, and if this function throws
 *   it stays the caller's
 * @param openSibling - opens a further part by its file name, beside the first
 * @throws FormatError if the bytes are not a whole GGUF file, or the parts do not belong together
 * @throws UnsupportedError for version 1, big-endian files, and tensor types that cannot be decoded
 * @throws UsageError if the file is one of several parts, and not the first, or `openSibling` is missing
 */
export async function readGguf(
  source: ByteSource,
  openSibling?: (fileName: string) => Promise<ByteSource>,
): Promise<Checkpoint> {
  const first = await readHeader(source);
  const siblings: ByteSource[] = [];
  try {
    const tensors = new Map<string, CheckpointTensor>();
    addTensors(tensors, source, first.tensors);
    const nParts = splitNumber(source, first, "split.count") ?? 1;
    if (nParts > 1) {
      checkPart(source, first, 0, nParts);
      for (let part = 1; part < nParts; part++) {
        const fileName = partName(source, part, nParts);
        if (openSibling === undefined) {
          throw new UsageError(
            `${source.name}: this model is in ${nParts} parts. Open it from a folder or an address where ` +
              `"${fileName}" stands beside it, or merge the parts with llama-gguf-split.`,
          );
        }
        const sibling = await openSibling(fileName);
        siblings.push(sibling);
        const header = await readHeader(sibling);
        checkPart(sibling, header, part, nParts);
        addTensors(tensors, sibling, header.tensors);
      }
      checkTotal(source, first, tensors.size);
    }
    return {
      format: "gguf",
      name: source.name,
      formatVersion: first.version,
      tensors,
      metadata: first.metadata,
      close: () => closeAll([source, ...siblings]),
    };
  } catch (error) {
    await closeAll(siblings);
    throw error;
  }
}

async function closeAll(sources: readonly ByteSource[]): Promise<void> {
  await Promise.all(sources.map((source) => source.close()));
}

function addTensors(
  tensors: Map<string, CheckpointTensor>,
  source: ByteSource,
  entries: readonly GgufTensorEntry[],
): void {
  for (const { name, dtype, shape, position, byteLength } of entries) {
    if (tensors.has(name)) {
      throw new FormatError(
        `${source.name}: tensor "${name}" stands in an earlier part already. Check that all parts are of one model.`,
      );
    }
    tensors.set(name, rangeTensor(source, { name, dtype, shape, offset: position, byteLength }));
  }
}

/** A whole number of the `split.` metadata; null where the key is absent. */
function splitNumber(source: ByteSource, header: GgufHeader, key: string): number | null {
  const value: MetadataValue = header.metadata.get(key) ?? null;
  if (value === null || (typeof value === "number" && Number.isInteger(value) && value >= 0)) return value;
  throw new FormatError(
    `${source.name}: the metadata key ${key} should be a whole number, but has the type ${typeof value}. ` +
      `The file is damaged or was split by a faulty tool: download it again.`,
  );
}

/** @param part - which part this should be, counted from 0 as `split.no` is */
function checkPart(source: ByteSource, header: GgufHeader, part: number, nParts: number): void {
  const foundPart = splitNumber(source, header, "split.no");
  const foundParts = splitNumber(source, header, "split.count");
  if (foundPart === part && foundParts === nParts) return;
  if (part === 0 && foundPart !== null) {
    throw new UsageError(
      `${source.name}: this is part ${foundPart + 1} of ${nParts}. Open the first part, "${partName(source, 0, nParts)}".`,
    );
  }
  throw new FormatError(
    `${source.name}: split.no ${part} of split.count ${nParts} was expected, but the file has ` +
      `${foundPart ?? "none"} of ${foundParts ?? "none"}. Check that all parts are of one model.`,
  );
}

function checkTotal(source: ByteSource, first: GgufHeader, nTensors: number): void {
  const announced = splitNumber(source, first, "split.tensors.count");
  if (announced === nTensors) return;
  throw new FormatError(
    `${source.name}: split.tensors.count is ${announced ?? "missing"}, but the parts hold ${nTensors} tensors. ` +
      `Check that all parts are of one model: download them again.`,
  );
}

/** File name of a part, after the name of the one at hand. */
function partName(source: ByteSource, part: number, nParts: number): string {
  const match = PART_NAME.exec(source.name);
  if (match === null || Number(match[3]) !== nParts) {
    throw new UsageError(
      `${source.name}: the metadata says that this is one of ${nParts} parts, so the file name should end in ` +
        `-00001-of-${fiveDigits(nParts)}.gguf. Give the parts back the names they were published under.`,
    );
  }
  return `${match[1]!}-${fiveDigits(part + 1)}-of-${fiveDigits(nParts)}.gguf`;
}

function fiveDigits(number: number): string {
  return number.toString().padStart(5, "0");
}
