// The zip archive that torch.save writes since PyTorch 1.6: one root folder of any name with `data.pkl`, the storages
// `data/<key>`, and `byteorder` in newer files. Format: torch/serialization.py and caffe2/serialize/inline_container.h.

import { ByteReader } from "../../core/byte-reader.ts";
import type { ByteSource } from "../../core/byte-source.ts";
import { DTYPES } from "../../core/dtype.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import { MAX_PICKLE_BYTES } from "./limits.ts";
import type { PickleStorage, PickleValue } from "./pickle-values.ts";
import type { StorageFinder } from "./tensors.ts";
import { unpickle } from "./unpickler.ts";
import { checkStored, locateZipData, readZipEntries, type ZipEntry } from "./zip.ts";

const MAX_BYTE_ORDER_BYTES = 16;

/**
 * Reads the pickle of the archive.
 * @throws FormatError if the archive is damaged or not written by torch.save
 * @throws UnsupportedError for TorchScript, big-endian or compressed archives
 */
export async function readArchive(
  source: ByteSource,
): Promise<{ value: PickleValue; finder: StorageFinder }> {
  const entries = await readZipEntries(source);
  const root = findRoot(entries, source.name);
  for (const entry of entries.values()) checkStored(entry, source.name);
  await checkByteOrder(entries.get(`${root}byteorder`), source);

  const pickle = entries.get(`${root}data.pkl`)!;
  if (pickle.byteLength > MAX_PICKLE_BYTES) {
    throw new FormatError(
      `${source.name}: data.pkl has ${pickle.byteLength} bytes; at most ${MAX_PICKLE_BYTES} are expected of a model. ` +
        `Save the weights alone with torch.save(model.state_dict(), "model.pth").`,
    );
  }
  const start = await locateZipData(source, pickle);
  const { value } = await unpickle(new ByteReader(source, start, start + pickle.byteLength));
  return { value, finder: finderOf(entries, root, source) };
}

/** The folder, with its slash, that everything is in. */
function findRoot(entries: ReadonlyMap<string, ZipEntry>, sourceName: string): string {
  const roots = [...entries.keys()].filter((name) => /^[^/]*\/data\.pkl$/.test(name));
  const [first] = roots;
  if (first === undefined || roots.length > 1) {
    throw new FormatError(
      `${sourceName}: expected one data.pkl inside the zip archive, found ${roots.length}. This is not a file of torch.save; ` +
        `if it is an archive around a model, unpack it.`,
    );
  }
  const root = first.slice(0, -"data.pkl".length);
  if (entries.has(`${root}constants.pkl`)) {
    throw new UnsupportedError(
      `${sourceName}: this is a TorchScript program, expected a dictionary of weights. Load it with torch.jit.load and save ` +
        `torch.save(model.state_dict(), "model.pth").`,
    );
  }
  return root;
}

async function checkByteOrder(entry: ZipEntry | undefined, source: ByteSource): Promise<void> {
  if (entry === undefined) return;
  const bytes = new Uint8Array(Math.min(entry.byteLength, MAX_BYTE_ORDER_BYTES));
  await source.read(await locateZipData(source, entry), bytes);
  const byteOrder = new TextDecoder().decode(bytes);
  if (byteOrder === "little") return;
  if (byteOrder === "big") {
    throw new UnsupportedError(
      `${source.name}: a big-endian machine wrote the file; only little-endian ones are read. Load and save it with ` +
        `PyTorch on a little-endian machine.`,
    );
  }
  throw new FormatError(
    `${source.name}: expected the byte order "little", found ${JSON.stringify(byteOrder)}. The file is damaged.`,
  );
}

function finderOf(entries: ReadonlyMap<string, ZipEntry>, root: string, source: ByteSource): StorageFinder {
  const entryOf = (storage: PickleStorage) => entries.get(`${root}data/${storage.key}`);
  /** Addresses found so far, so that tensors that share a storage read its header once. */
  const offsets = new Map<string, number>();
  return {
    check(storage, tensorName) {
      const entry = entryOf(storage);
      const wantedBytes = storage.nStored * DTYPES[storage.dtype].blockBytes;
      if (entry?.byteLength === wantedBytes) return;
      throw new FormatError(
        `${source.name}: tensor ${JSON.stringify(tensorName)} needs data/${storage.key} with ${wantedBytes} bytes ` +
          `(${storage.nStored} ${storage.dtype}), but ` +
          (entry === undefined ? `there is none` : `it has ${entry.byteLength}`) +
          `. The file is damaged: download or save it again.`,
      );
    },
    async locate(storage, signal) {
      let offset = offsets.get(storage.key);
      if (offset === undefined) {
        offset = await locateZipData(source, entryOf(storage)!, signal);
        offsets.set(storage.key, offset);
      }
      return offset;
    },
  };
}
