// Reader of PyTorch checkpoints, .pth and .bin: a pickled dictionary of tensors, in a zip archive or in the older plain
// form. Hides the container, pickling, and views of shared storages. Format: torch/serialization.py.

import type { ByteSource } from "../../core/byte-source.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import type { Checkpoint, CheckpointTensor } from "../checkpoint.ts";
import { readArchive } from "./archive.ts";
import { findTensors } from "./contents.ts";
import { readLegacy } from "./legacy.ts";
import { makeTensor } from "./tensors.ts";

/** Every pickle of protocol 2 and above begins with the PROTO opcode. */
const PICKLE_START = 0x80;
const TAR_MAGIC = "ustar";
const TAR_MAGIC_OFFSET = 257;

/**
 * Reads the names, types and shapes of a PyTorch checkpoint; its tensors are read when asked. A dictionary under a
 * top-level `state_dict` or `model` is unwrapped, entries that are no tensors are left out, names stay as they are.
 * Nothing in the file is ever executed.
 * @param source - stays open for the tensors and is closed by the checkpoint; on an error it is left to the caller
 * @throws FormatError if the file is damaged, cut short, or holds more than weights
 * @throws UnsupportedError for saved states, TorchScript, TAR, compressed or big-endian files
 */
export async function readPth(source: ByteSource): Promise<Checkpoint> {
  const { value, finder } = await readContainer(source);
  const tensors = new Map<string, CheckpointTensor>();
  const contents = findTensors(value, source.name);
  for (const [name, view] of contents.tensors) {
    tensors.set(name, makeTensor(name, view, source, finder));
  }
  return {
    format: "pth",
    name: source.name,
    formatVersion: null,
    tensors,
    metadata: contents.metadata,
    close: () => source.close(),
  };
}

async function readContainer(source: ByteSource) {
  const head = new Uint8Array(Math.min(TAR_MAGIC_OFFSET + TAR_MAGIC.length, source.byteLength));
  await source.read(0, head);
  if (head[0] === PICKLE_START) return readLegacy(source);
  if (textAt(head, 0, 2) === "PK") return readArchive(source);
  if (textAt(head, TAR_MAGIC_OFFSET, TAR_MAGIC.length) === TAR_MAGIC) {
    throw new UnsupportedError(
      `${source.name}: this is a TAR archive, as PyTorch up to 0.1.10 wrote them. Load it with PyTorch and save it again ` +
        `with torch.save, or unpack it if it is an archive around a model.`,
    );
  }
  throw new FormatError(
    `${source.name}: expected a PyTorch file, which begins with "PK" or a pickle, found the bytes ` +
      `${[...head.subarray(0, 4)].map((byte) => byte.toString(16).padStart(2, "0")).join(" ") || "of an empty file"}. ` +
      `Download it again, and check that it is a .pth file.`,
  );
}

function textAt(bytes: Uint8Array, offset: number, byteLength: number): string {
  return new TextDecoder().decode(bytes.subarray(offset, offset + byteLength));
}
