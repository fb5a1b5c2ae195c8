// The packed format: a safetensors file whose matrices are kept as kernels read them, so that loading is copying, or
// mapping. Hides how element types and orders that safetensors does not know are described. docs/formats.md draws it.
//
//   __metadata__  "rwkv.packed": "1", the version of this format
//                 "rwkv.tensors": JSON, name -> {"dtype", "layout", "shape": [out, in]}, one entry for each matrix
//   matrix        U8 [n]: its bytes in that layout (core/layout.ts), then zeros up to a multiple of the alignment
//   "tokenizer"   U8 [n]: a tokenizer file, if there is one
//   all others    plain tensors, as in any safetensors file

import type { ByteSink } from "../../core/byte-sink.ts";
import type { ByteSource } from "../../core/byte-source.ts";
import { byteLengthOf, isDType, isWeightDType, type WeightDType } from "../../core/dtype.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import { hasLayouts, layoutByteLength, unpackMatrix, type WeightLayout } from "../../core/layout.ts";
import type { Checkpoint, CheckpointTensor, PackedBytes } from "../checkpoint.ts";
import { checkTarget, quoted, rangeTensor, type TensorRange } from "../range-tensor.ts";
import { writeInOrder, type SafetensorsFile } from "../safetensors/safetensors.ts";
import { isJsonObject, parseStrictJson, type JsonValue } from "../safetensors/strict-json.ts";

const VERSION = 1;
const VERSION_KEY = "rwkv.packed";
const TENSORS_KEY = "rwkv.tensors";
const TOKENIZER_NAME = "tokenizer";

/** The data begins at a multiple of a page, and so does each large matrix. */
const PAGE_BYTES = 4096;
/** Matrices from this length on begin at a page; what is lost by that is below a sixteenth. */
const LARGE_BYTES = 16 * PAGE_BYTES;
/** What all other matrices begin at a multiple of: a line of the cache. */
const LINE_BYTES = 64;

/** A matrix to write. */
export interface PackedMatrix extends PackedBytes {
  readonly name: string;
  readonly dtype: WeightDType;
  /** `[out, in]` */
  readonly shape: readonly number[];
}

/** What a packed file is made of. */
export interface PackedContents {
  readonly matrices: readonly PackedMatrix[];
  /** Everything else, in types that safetensors has. */
  readonly tensors: readonly CheckpointTensor[];
  /** The bytes of a tokenizer file, null for none. */
  readonly tokenizer: Uint8Array | null;
  /** Further entries of `__metadata__`. */
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Writes a packed file, one tensor in memory at a time: large matrices, then small ones, then all else.
 * @throws UsageError for names that repeat, before anything is written
 */
export async function writePacked(sink: ByteSink, contents: PackedContents): Promise<void> {
  const { matrices, tensors, tokenizer, metadata } = contents;
  const description = matrices.map(
    ({ name, dtype, layout, shape }) => `${JSON.stringify(name)}:${JSON.stringify({ dtype, layout, shape })}`,
  );
  const large = matrices.filter(({ byteLength }) => byteLength >= LARGE_BYTES);
  const small = matrices.filter(({ byteLength }) => byteLength < LARGE_BYTES);
  // by size of elements, so that each plain tensor is aligned to its own
  const plain = [...tensors].sort((a, b) => byteLengthOf(b.dtype, [1]) - byteLengthOf(a.dtype, [1]));
  await writeInOrder(
    sink,
    [
      ...large.map((matrix) => paddedTensor(matrix, PAGE_BYTES)),
      ...small.map((matrix) => paddedTensor(matrix, LINE_BYTES)),
      ...plain,
      ...(tokenizer === null ? [] : [bytesTensor(TOKENIZER_NAME, tokenizer)]),
    ],
    new Map([[VERSION_KEY, String(VERSION)], ...metadata, [TENSORS_KEY, `{${description.join(",")}}`]]),
    PAGE_BYTES,
  );
}

function paddedTensor(matrix: PackedMatrix, alignment: number): CheckpointTensor {
  const byteLength = Math.ceil(matrix.byteLength / alignment) * alignment;
  return {
    name: matrix.name,
    dtype: "u8",
    shape: [byteLength],
    byteLength,
    async read(target, signal) {
      await matrix.read(target.subarray(0, matrix.byteLength), signal);
      target.fill(0, matrix.byteLength);
    },
  };
}

function bytesTensor(name: string, bytes: Uint8Array): CheckpointTensor {
  return {
    name,
    dtype: "u8",
    shape: [bytes.byteLength],
    byteLength: bytes.byteLength,
    read(target) {
      target.set(bytes);
      return Promise.resolve();
    },
  };
}

/** Whether a safetensors file says that it is packed. */
export function isPacked({ metadata }: SafetensorsFile): boolean {
  return metadata.has(VERSION_KEY);
}

/**
 * The checkpoint behind a packed file. Its matrices have their own dtype and shape; `read` brings them into rows.
 * @param source - closed by the checkpoint's `close`
 * @throws FormatError if the description does not fit the tensors
 * @throws UnsupportedError for another version of the format
 */
export function packedCheckpoint(source: ByteSource, file: SafetensorsFile): Checkpoint {
  const version = file.metadata.get(VERSION_KEY) ?? "";
  if (version !== String(VERSION)) {
    throw new UnsupportedError(
      `${source.name}: is a packed file of version ${quoted(version)}, but version ${VERSION} is read. ` +
        `Make it again from the original model with this program.`,
    );
  }
  const descriptions = parseDescriptions(source, file);
  const tensors = new Map<string, CheckpointTensor>();
  let tokenizer: CheckpointTensor | undefined;
  for (const range of file.ranges) {
    const { name } = range;
    const description = descriptions.get(name);
    if (description !== undefined) {
      checkBytes(source, range);
      tensors.set(name, packedTensor(source, range, parseDescription(source, name, description)));
      descriptions.delete(name);
    } else if (name === TOKENIZER_NAME) {
      checkBytes(source, range);
      tokenizer = rangeTensor(source, range);
    } else {
      if (range.dtype === "u8") throw damaged(source, name, "is bytes that nothing describes");
      tensors.set(name, rangeTensor(source, range));
    }
  }
  const [absent] = descriptions.keys();
  if (absent !== undefined) throw damaged(source, absent, `is in "${TENSORS_KEY}", but not in the file`);
  const metadata = new Map(file.metadata);
  metadata.delete(VERSION_KEY);
  metadata.delete(TENSORS_KEY);
  return {
    format: "packed",
    name: source.name,
    formatVersion: VERSION,
    tensors,
    metadata,
    tokenizer,
    close: () => source.close(),
  };
}

function checkBytes(source: ByteSource, { name, dtype, shape }: TensorRange): void {
  if (dtype === "u8" && shape.length === 1) return;
  throw damaged(source, name, `should be bytes, but is ${dtype} [${shape.join(", ")}]`);
}

function parseDescriptions(source: ByteSource, file: SafetensorsFile): Map<string, JsonValue> {
  const where = `${source.name}: metadata "${TENSORS_KEY}"`;
  const json = parseStrictJson(file.metadata.get(TENSORS_KEY) ?? "", where);
  if (isJsonObject(json)) return new Map(json);
  throw new FormatError(`${where} is not an object. The file is damaged: make or download it again.`);
}

interface Description {
  readonly dtype: WeightDType;
  readonly layout: WeightLayout;
  readonly shape: readonly [number, number];
}

function parseDescription(source: ByteSource, name: string, json: JsonValue): Description {
  const get = (key: string): JsonValue | undefined => (isJsonObject(json) ? json.get(key) : undefined);
  const dtype = get("dtype");
  if (typeof dtype !== "string" || !isDType(dtype) || !isWeightDType(dtype)) {
    throw damaged(source, name, `has the dtype ${shown(dtype)}, which is none of a matrix`);
  }
  const layout = get("layout");
  if (typeof layout !== "string" || !isLayout(layout) || (layout !== "rows" && !hasLayouts(dtype))) {
    throw damaged(source, name, `has the layout ${shown(layout)}, which is none of a matrix of ${dtype}`);
  }
  const shape = get("shape");
  const [nOut, nIn, ...more] = Array.isArray(shape) ? (shape as readonly JsonValue[]) : [];
  if (!isDimension(nOut) || !isDimension(nIn) || more.length > 0) {
    throw damaged(source, name, "has a shape that is not two whole numbers from 1 to 2^31 - 1");
  }
  return { dtype, layout, shape: [nOut, nIn] };
}

function isLayout(name: string): name is WeightLayout {
  return name === "rows" || name === "panels" || name === "columns";
}

/** With a bound on both, a length that is wrong in its last digits is larger than any file. */
function isDimension(value: JsonValue | undefined): value is number {
  return typeof value === "number" && Number.isInteger(value) && value >= 1 && value < 2 ** 31;
}

function packedTensor(source: ByteSource, range: TensorRange, description: Description): CheckpointTensor {
  const { name, offset } = range;
  const { dtype, layout, shape } = description;
  const packedByteLength = packedLength(source, name, description);
  const paddingByteLength = range.byteLength - packedByteLength;
  if (paddingByteLength < 0 || paddingByteLength >= PAGE_BYTES) {
    throw damaged(
      source,
      name,
      `is ${dtype} [${shape.join(", ")}] in ${layout}, ${packedByteLength} bytes, but its data has ${range.byteLength}`,
    );
  }
  if (offset % LINE_BYTES !== 0) {
    throw damaged(source, name, `begins at byte ${offset}, which is no multiple of ${LINE_BYTES}`);
  }
  const bytes = rangeTensor(source, { ...range, byteLength: packedByteLength });
  const packed: PackedBytes = {
    layout,
    byteLength: packedByteLength,
    place: bytes.place,
    read: (...target) => bytes.read(...target),
  };
  const byteLength = byteLengthOf(dtype, shape);
  return {
    name,
    dtype,
    shape,
    byteLength,
    place: layout === "rows" ? bytes.place : undefined,
    packed,
    async read(target, signal) {
      checkTarget(source, { name, byteLength }, target);
      if (layout === "rows") {
        await packed.read(target, signal);
        return;
      }
      const whole = new Uint8Array(packedByteLength);
      await packed.read(whole, signal);
      unpackMatrix(layout, dtype, shape, whole, target);
    },
  };
}

/** Bytes of the matrix without the zeros after it. */
function packedLength(source: ByteSource, name: string, { dtype, layout, shape }: Description): number {
  try {
    return layout === "rows" ? byteLengthOf(dtype, shape) : layoutByteLength(layout, dtype, shape);
  } catch (cause) {
    const fault = `is ${dtype} [${shape.join(", ")}], which is no whole number of blocks`;
    throw damaged(source, name, fault, { cause });
  }
}

function shown(value: JsonValue | undefined): string {
  return typeof value === "string" ? quoted(value) : "that is no text";
}

function damaged(source: ByteSource, name: string, fault: string, options?: ErrorOptions): FormatError {
  return new FormatError(
    `${source.name}: tensor ${quoted(name)} ${fault}. The file is damaged or was written wrongly: make or download it again.`,
    options,
  );
}
