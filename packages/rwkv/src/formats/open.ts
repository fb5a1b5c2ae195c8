// Which format a checkpoint is in. Hides how each is recognised: by its first bytes, never by the file's name, because
// names lie (".pth" may be zip or bare pickle, ".bin" anything). What is often downloaded by mistake is named too.

import type { ByteSource } from "../core/byte-source.ts";
import { FormatError, UnsupportedError, UsageError, type RwkvError } from "../core/errors.ts";
import type { Checkpoint } from "./checkpoint.ts";
import { readGguf } from "./gguf/gguf.ts";
import { isPacked, packedCheckpoint } from "./packed/packed.ts";
import { readPth } from "./pth/pth.ts";
import { readRwkvCpp, RWKV_CPP_MAGIC, RWKV_CPP_MIN_VERSION } from "./rwkv-cpp/rwkv-cpp.ts";
import { MAX_HEADER_BYTES } from "./safetensors/header.ts";
import { readSafetensorsHeader, safetensorsCheckpoint } from "./safetensors/safetensors.ts";
import { readShardedSafetensors } from "./safetensors/sharded.ts";
import { isSessionFile } from "./session-file.ts";

/** Enough for every signature below, and for the size in a git-lfs pointer. */
const HEAD_BYTES = 512;

const FORMATS_READ =
  "Read are PyTorch .pth, safetensors (one file or the index of several), GGUF, and rwkv.cpp .bin files.";

/**
 * Recognises the format of `source` and reads its header; tensors are read later, when asked.
 * @param source - stays open, and the caller's, if this fails; closed by the checkpoint's `close` otherwise
 * @param openSibling - opens another file of the same folder, for models that are spread over several
 * @throws FormatError if the file is damaged or in none of the formats; the message says what it looks like
 * @throws UnsupportedError if the format is known but this variety of it is not read
 * @throws UsageError if the model is spread over several files and `openSibling` is missing or does not find them
 */
export async function openCheckpoint(
  source: ByteSource,
  openSibling?: (fileName: string) => Promise<ByteSource>,
): Promise<Checkpoint> {
  const head = new Uint8Array(Math.min(HEAD_BYTES, source.byteLength));
  await source.read(0, head);
  if (startsWith(head, "PK\x03\x04") || isPickle(head)) return readPth(source);
  if (startsWith(head, "GGUF")) return readGguf(source, openSibling);
  if (isRwkvCpp(head)) return readRwkvCpp(source);
  if (isSafetensors(head)) {
    const file = await readSafetensorsHeader(source);
    return isPacked(file) ? packedCheckpoint(source, file) : safetensorsCheckpoint(source, file);
  }
  if (textOf(head).trimStart().startsWith("{")) {
    if (openSibling !== undefined) return readShardedSafetensors(source, openSibling);
    throw new UsageError(
      `${source.name} begins like JSON. If it is the index of a model in several files, they cannot be found without its ` +
        `folder: give a path or an address. If it is the configuration or tokenizer, give the model's file.`,
    );
  }
  throw explain(source, head);
}

/** A pickle from protocol 2 on: PROTO, version. Old torch.save, or anything else that Python pickled. */
function isPickle(head: Uint8Array): boolean {
  return head.length >= 2 && head[0] === 0x80 && head[1]! >= 2 && head[1]! <= 5;
}

function isRwkvCpp(head: Uint8Array): boolean {
  if (head.length < 4 || viewOf(head).getUint32(0, true) !== RWKV_CPP_MAGIC) return false;
  // Without its version the file is cut short; the reader of the format says so best.
  return head.length < 8 || viewOf(head).getUint32(4, true) >= RWKV_CPP_MIN_VERSION;
}

/** A plausible length, then the brace. In text the same bytes would make a length beyond 2^32. */
function isSafetensors(head: Uint8Array): boolean {
  return (
    head.length > 8 && head[8] === 0x7b && viewOf(head).getBigUint64(0, true) <= BigInt(MAX_HEADER_BYTES)
  );
}

/** Files that are often taken for a model, by how they begin, and what to do about it. */
const SIGNATURES: readonly { readonly start: string; readonly what: string; readonly advice: string }[] = [
  { start: "PK\x05\x06", what: "an empty zip archive", advice: "Download the model again." },
  { start: "\x1f\x8b", what: "compressed with gzip", advice: "Unpack it and give the file inside." },
  { start: "BZh", what: "compressed with bzip2", advice: "Unpack it and give the file inside." },
  { start: "\xfd7zXZ\x00", what: "compressed with xz", advice: "Unpack it and give the file inside." },
  { start: "\x28\xb5\x2f\xfd", what: "compressed with zstd", advice: "Unpack it and give the file inside." },
  { start: "7z\xbc\xaf\x27\x1c", what: "a 7-Zip archive", advice: "Unpack it and give the file inside." },
  { start: "\x93NUMPY", what: "a NumPy array", advice: "Save the model as safetensors." },
  { start: "\x89HDF\r\n", what: "an HDF5 file", advice: "Save the model as safetensors." },
];

/** Formats of ggml before GGUF: 'ggml', 'ggmf', 'ggjt', 'ggla' as little-endian numbers. */
const OLD_GGML_STARTS = ["lmgg", "fmgg", "tjgg", "algg"];

function explain(source: ByteSource, head: Uint8Array): RwkvError {
  const { name } = source;
  if (head.length === 0) {
    return new FormatError(
      `${name} is empty. The download may have failed: download it again. ${FORMATS_READ}`,
    );
  }
  if (isSessionFile(head)) {
    return new FormatError(
      `${name} is a saved session, not a model. Load its model, then restore the session there.`,
    );
  }
  if (OLD_GGML_STARTS.some((start) => startsWith(head, start))) {
    return new UnsupportedError(
      `${name} is in one of ggml's formats from before GGUF, which no RWKV model was published in. ${FORMATS_READ}`,
    );
  }
  const known = SIGNATURES.find(({ start }) => startsWith(head, start));
  if (known !== undefined)
    return new FormatError(`${name} is ${known.what}. ${known.advice} ${FORMATS_READ}`);
  if (isOnnx(head)) {
    return new UnsupportedError(
      `${name} looks like an ONNX model, which can be exported but not read. ${FORMATS_READ}`,
    );
  }
  if (head.every((byte) => byte === 0)) {
    return new FormatError(
      `${name} begins with ${head.length} zero bytes: room was made for a download that never finished. ` +
        `Download it again. ${FORMATS_READ}`,
    );
  }
  return explainText(name, textOf(head)) ?? unknown(name, head);
}

function explainText(name: string, text: string): RwkvError | null {
  if (/^\s*(?:<!--|<!doctype html|<html|<head|<body|<\?xml)/i.test(text)) {
    return new FormatError(
      `${name} is a web page, not a model: the address gave an error or a page about the file. Open the file in an ` +
        `editor to see what it says, and use the address of the download itself (on Hugging Face /resolve/, not /blob/).`,
    );
  }
  if (text.startsWith("version https://git-lfs.github.com/spec/")) {
    const byteLength = /^size (\d{1,16})$/m.exec(text)?.[1];
    return new FormatError(
      `${name} is a git-lfs pointer, not the model itself${byteLength === undefined ? "" : `, which has ${byteLength} bytes`}. ` +
        `Run "git lfs pull" in that repository, or download the file directly.`,
    );
  }
  return null;
}

/**
 * ONNX is protobuf without a magic number: field 1 is ir_version (a small varint), and one of the next fields of
 * ModelProto follows: producer_name, producer_version, domain, graph or opset_import.
 */
function isOnnx(head: Uint8Array): boolean {
  const nextTags = [0x12, 0x1a, 0x22, 0x3a, 0x42];
  return (
    head.length > 2 && head[0] === 0x08 && head[1]! >= 1 && head[1]! <= 32 && nextTags.includes(head[2]!)
  );
}

function unknown(name: string, head: Uint8Array): FormatError {
  const bytes = head.subarray(0, 16);
  const hex = Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join(" ");
  const text = Array.from(bytes, (byte) =>
    byte >= 0x20 && byte < 0x7f ? String.fromCharCode(byte) : ".",
  ).join("");
  return new FormatError(`${name} is in no known format: it begins with ${hex} ("${text}"). ${FORMATS_READ}`);
}

/** Each byte as the character of that code, so that signatures can be written as strings. */
function textOf(head: Uint8Array): string {
  return String.fromCharCode(...head);
}

function startsWith(head: Uint8Array, start: string): boolean {
  return textOf(head.subarray(0, start.length)) === start;
}

function viewOf(head: Uint8Array): DataView {
  return new DataView(head.buffer, head.byteOffset, head.byteLength);
}
