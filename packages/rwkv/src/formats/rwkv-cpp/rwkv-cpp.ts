// Model files of rwkv.cpp: six int32 of header, then one record per tensor until the end of the file, all
// little-endian, unaligned. Hides the numbering of types (not ggml's) and the reversed order of dimensions.
// Source: docs/FILE_FORMAT.md and rwkv_file_format.inc of RWKV/rwkv.cpp.
//
//   header  | magic "fmgg" | version | n_vocab | n_embed | n_layer | data type |
//   record  | n_dims | key bytes | data type | n_dims x i32, fastest first | key, UTF-8 | data |

import { ByteReader } from "../../core/byte-reader.ts";
import type { ByteSource } from "../../core/byte-source.ts";
import { byteLengthOf, DTYPES, isQuantized, type WeightDType } from "../../core/dtype.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import type { Checkpoint, CheckpointTensor } from "../checkpoint.ts";
import { MAX_TENSORS, quoted, rangeTensor } from "../range-tensor.ts";

/** 'ggmf' as a little-endian int32; llama.cpp's files of early 2023 have it too, with a version below 100. */
export const RWKV_CPP_MAGIC = 0x67676d66;
export const RWKV_CPP_MIN_VERSION = 100;

/** From here on quantised blocks have the layout that ggml has kept since. */
const QUANTIZED_VERSION = 101;

const HEADER_BYTES = 24;
const RECORD_BYTES = 12;
const MAX_DIMS = 3;
/** Some twenty times the longest name there is. */
const MAX_KEY_BYTES = 1024;

type FileType = { readonly dtype: WeightDType } | { readonly refused: string };

/** By the number in the file. */
const TYPES: readonly FileType[] = [
  { dtype: "f32" },
  { dtype: "f16" },
  { dtype: "q4_0" },
  { dtype: "q4_1" },
  { refused: "Q4_1_O, which rwkv.cpp has removed" },
  { refused: "Q4_2, which rwkv.cpp has removed" },
  { refused: "Q4_3, which rwkv.cpp has removed" },
  { dtype: "q5_0" },
  { dtype: "q5_1" },
  { dtype: "q8_0" },
  { refused: "Q8_1, which is for activations" },
  { dtype: "q2_k" },
  { dtype: "q3_k" },
  { dtype: "q4_k" },
  { dtype: "q5_k" },
  { dtype: "q6_k" },
  { refused: "Q8_K, which is for activations" },
];

/**
 * Reads the header and the description of every tensor, passing over the data.
 * @param source - stays open, and the caller's, if this fails; closed by the checkpoint's `close` otherwise
 * @throws FormatError if the file is damaged or cut short
 * @throws UnsupportedError for other versions, removed types, and quantised types of version 100
 */
export async function readRwkvCpp(source: ByteSource): Promise<Checkpoint> {
  const reader = new ByteReader(source);
  const { version, nVocab, nEmbd } = await readHeader(reader);
  const tensors = new Map<string, CheckpointTensor>();
  while (reader.remaining > 0) {
    const tensor = await readRecord(reader, version);
    if (tensors.has(tensor.name)) {
      throw damaged(source, `has two tensors called ${quoted(tensor.name)}`);
    }
    if (tensors.size === MAX_TENSORS) throw damaged(source, `has more than ${MAX_TENSORS} tensors`);
    tensors.set(tensor.name, tensor);
  }
  if (tensors.size === 0) throw damaged(source, "ends after its header, without any tensor");
  const shape = tensors.get("emb.weight")?.shape;
  if (shape !== undefined && !(shape.length === 2 && shape[0] === nVocab && shape[1] === nEmbd)) {
    throw damaged(
      source,
      `announces n_vocab ${nVocab} and n_embed ${nEmbd}, but emb.weight is [${shape.join(", ")}]`,
    );
  }
  return {
    format: "rwkv.cpp",
    name: source.name,
    formatVersion: version,
    tensors,
    metadata: new Map(),
    close: () => source.close(),
  };
}

interface FileHeader {
  readonly version: number;
  readonly nVocab: number;
  readonly nEmbd: number;
}

async function readHeader(reader: ByteReader): Promise<FileHeader> {
  const { source } = reader;
  await reader.ensure(HEADER_BYTES, "the rwkv.cpp header");
  const magic = reader.u32();
  if (magic !== RWKV_CPP_MAGIC) {
    throw damaged(
      source,
      `begins with 0x${magic.toString(16)}, not with rwkv.cpp's 0x${RWKV_CPP_MAGIC.toString(16)}`,
    );
  }
  const version = reader.u32();
  if (version !== RWKV_CPP_MIN_VERSION && version !== QUANTIZED_VERSION) {
    throw new UnsupportedError(
      `${source.name}: versions 100 and 101 of rwkv.cpp's format are read, but this is version ${version}. ` +
        `Convert the model again with a current rwkv.cpp.`,
    );
  }
  const nVocab = reader.i32();
  const nEmbd = reader.i32();
  const nLayer = reader.i32();
  if (nVocab < 1 || nEmbd < 1 || nLayer < 1) {
    throw damaged(
      source,
      `has n_vocab ${nVocab}, n_embed ${nEmbd}, n_layer ${nLayer}; each must be at least 1`,
    );
  }
  dtypeOf(reader.i32(), version, `${source.name}: the header`);
  return { version, nVocab, nEmbd };
}

async function readRecord(reader: ByteReader, version: number): Promise<CheckpointTensor> {
  const { source } = reader;
  const start = reader.position;
  await reader.ensure(RECORD_BYTES, "the description of a tensor");
  const nDims = reader.i32();
  const keyByteLength = reader.i32();
  const typeId = reader.i32();
  if (nDims < 1 || nDims > MAX_DIMS) {
    throw damaged(
      source,
      `has a tensor with ${nDims} dimensions at byte ${start}; expected are 1 to ${MAX_DIMS}`,
    );
  }
  if (keyByteLength < 1 || keyByteLength > MAX_KEY_BYTES) {
    throw damaged(
      source,
      `has a tensor with a name of ${keyByteLength} bytes at byte ${start}; expected are 1 to ${MAX_KEY_BYTES}`,
    );
  }
  await reader.ensure(4 * nDims + keyByteLength, "the shape and name of a tensor");
  const shape: number[] = [];
  for (let i = 0; i < nDims; i++) shape.unshift(reader.i32());
  const name = decodeKey(reader.bytes(keyByteLength), source, start);

  const where = `${source.name}: tensor ${quoted(name)} at byte ${start}`;
  const dtype = dtypeOf(typeId, version, where);
  const { blockElements } = DTYPES[dtype];
  if (shape.some((dimension) => dimension < 1) || shape.at(-1)! % blockElements !== 0) {
    throw new FormatError(
      `${where} is ${dtype} [${shape.join(", ")}], but dimensions must be at least 1 and rows whole blocks of ` +
        `${blockElements}. The file is damaged: download it again.`,
    );
  }
  const offset = reader.position;
  // A product of up to three i32 is exact wherever it is small enough to lie within the file.
  const byteLength = byteLengthOf(dtype, shape);
  if (byteLength > reader.remaining) {
    throw new FormatError(
      `${where} is ${dtype} [${shape.join(", ")}] and needs ${byteLength} bytes, but the file ends after ` +
        `${reader.remaining}. It looks cut short: download it again and compare the size with the publisher's.`,
    );
  }
  reader.seek(offset + byteLength, `tensor ${quoted(name)}`);
  return rangeTensor(source, { name, dtype, shape, offset, byteLength });
}

function decodeKey(bytes: Uint8Array, source: ByteSource, start: number): string {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(
      `${source.name}: the name of the tensor at byte ${start} is not UTF-8. The file is damaged: download it again.`,
      { cause },
    );
  }
}

function dtypeOf(typeId: number, version: number, where: string): WeightDType {
  const type = TYPES[typeId];
  if (type === undefined) {
    throw new FormatError(
      `${where} has data type ${typeId}; expected is 0 to ${TYPES.length - 1}. ` +
        `The file is damaged: download it again.`,
    );
  }
  if ("refused" in type) {
    throw new UnsupportedError(
      `${where} has data type ${type.refused}. Quantise the model again with a current rwkv.cpp, or use its FP16 file.`,
    );
  }
  if (version < QUANTIZED_VERSION && isQuantized(type.dtype)) {
    throw new UnsupportedError(
      `${where} is ${type.dtype} in a file of version ${version}, whose blocks are laid out in another way. ` +
        `Quantise the model again with a current rwkv.cpp, or use its FP16 file.`,
    );
  }
  return type.dtype;
}

function damaged(source: ByteSource, fault: string): FormatError {
  return new FormatError(
    `${source.name} ${fault}. The file is damaged: download it again and compare its size.`,
  );
}
