// Files of torch.save before PyTorch 1.6 (or with _use_new_zipfile_serialization=False): five pickles, then the storages.
// Format: _legacy_save in torch/serialization.py.
//
//   magic number | protocol version | system | the object | storage keys   (pickles, one behind the other)
//   for every key, in that order: i64 element count, raw elements

import { ByteReader } from "../../core/byte-reader.ts";
import type { ByteSource } from "../../core/byte-source.ts";
import { DTYPES } from "../../core/dtype.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import { MAX_PICKLE_BYTES } from "./limits.ts";
import { describeValue, isKind, type PickleStorage, type PickleValue } from "./pickle-values.ts";
import type { StorageFinder } from "./tensors.ts";
import { unpickle } from "./unpickler.ts";

const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL_VERSION = 1001;
const COUNT_BYTES = 8;

/**
 * Reads the pickles of a legacy file; where each storage lies follows from the counts they give.
 * @throws FormatError if the file is no such file, damaged, or cut short
 * @throws UnsupportedError if a big-endian machine wrote it
 */
export async function readLegacy(source: ByteSource): Promise<{ value: PickleValue; finder: StorageFinder }> {
  const reader = new ByteReader(source, 0, MAX_PICKLE_BYTES);
  const magic = (await unpickle(reader)).value;
  if (magic !== MAGIC) {
    throw new FormatError(
      `${source.name}: expected the magic number of torch.save, found ${describeValue(magic)}. This is another program's ` +
        `pickle; save the weights with torch.save(weights, "model.pth").`,
    );
  }
  const version = (await unpickle(reader)).value;
  if (version !== PROTOCOL_VERSION) {
    throw new FormatError(
      `${source.name}: expected version ${PROTOCOL_VERSION} of the format before PyTorch 1.6, found ${describeValue(version)}. ` +
        `The file is damaged: download or save it again.`,
    );
  }
  checkByteOrder((await unpickle(reader)).value, source.name);
  const { value, storages } = await unpickle(reader);
  const keys = (await unpickle(reader)).value;
  return { value, finder: layOut(keys, storages, reader.position, source) };
}

function checkByteOrder(system: PickleValue, sourceName: string): void {
  const isLittleEndian = isKind(system, "dict") ? system.entries.get("little_endian") : undefined;
  if (isLittleEndian === true) return;
  if (isLittleEndian === false) {
    throw new UnsupportedError(
      `${sourceName}: a big-endian machine wrote the file; only little-endian ones are read. Load it there and save it ` +
        `with a newer PyTorch.`,
    );
  }
  throw new FormatError(
    `${sourceName}: expected a description of the writing system, found ${describeValue(system)}. The file is damaged.`,
  );
}

/** Gives every storage its place: they follow each other in the order of `keys`, each behind its count. */
function layOut(
  keys: PickleValue,
  storages: readonly PickleStorage[],
  start: number,
  source: ByteSource,
): StorageFinder {
  const byKey = new Map<string, PickleStorage>();
  for (const storage of storages) {
    const known = byKey.get(storage.key) ?? storage;
    if (known.dtype !== storage.dtype || known.nStored !== storage.nStored) {
      throw new FormatError(
        `${source.name}: storage "${storage.key}" is described as ${known.nStored} ${known.dtype} and as ` +
          `${storage.nStored} ${storage.dtype} elements. The file is damaged: download or save it again.`,
      );
    }
    byKey.set(storage.key, known);
  }

  if (!isKind(keys, "list")) {
    throw new FormatError(
      `${source.name}: expected the list of storages, found ${describeValue(keys)}. The file is damaged.`,
    );
  }
  const offsets = new Map<string, number>();
  let offset = start;
  for (const item of keys.items) {
    const key = typeof item === "string" || typeof item === "number" ? String(item) : undefined;
    const storage = key === undefined ? undefined : byKey.get(key);
    if (storage === undefined || offsets.has(storage.key)) {
      throw new FormatError(
        `${source.name}: the list of storages has ${describeValue(item)}, which is used by no tensor or listed twice. ` +
          `The file is damaged: download or save it again.`,
      );
    }
    offsets.set(storage.key, offset);
    offset += COUNT_BYTES + storage.nStored * DTYPES[storage.dtype].blockBytes;
    if (offset > source.byteLength) {
      throw new FormatError(
        `${source.name}: storage "${storage.key}" ends at byte ${offset}, but the file has ${source.byteLength}. It looks ` +
          `cut short: download it again and compare the size with the publisher's.`,
      );
    }
  }

  return {
    check(storage, tensorName) {
      if (offsets.has(storage.key)) return;
      throw new FormatError(
        `${source.name}: tensor ${JSON.stringify(tensorName)} uses storage "${storage.key}", which the file does not list. ` +
          `The file is damaged: download or save it again.`,
      );
    },
    async locate(storage, signal) {
      const countOffset = offsets.get(storage.key)!;
      const count = new Uint8Array(COUNT_BYTES);
      await source.read(countOffset, count, signal);
      const nStored = new DataView(count.buffer).getBigInt64(0, true);
      if (nStored !== BigInt(storage.nStored)) {
        throw new FormatError(
          `${source.name}: expected storage "${storage.key}" of ${storage.nStored} elements at byte ${countOffset}, found ` +
            `${nStored}. The file is damaged: download or save it again.`,
        );
      }
      return countOffset + COUNT_BYTES;
    },
  };
}
