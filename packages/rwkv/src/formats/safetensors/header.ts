// The JSON header of a safetensors file: name -> {dtype, shape, data_offsets}, and `__metadata__`. Hides how it is
// checked and written. As the published format demands, the tensors tile the data: no overlap, no hole, nothing after.
// Source: the format section of huggingface/safetensors' README, and its `Metadata::validate`.

import { byteLengthOf, countElements, DTYPES, type DType } from "../../core/dtype.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import { MAX_TENSORS, quoted } from "../range-tensor.ts";
import { isJsonObject, parseStrictJson, type JsonObject, type JsonValue } from "./strict-json.ts";

/** Published limit on the header; also keeps a wrong length from allocating the memory of the machine. */
export const MAX_HEADER_BYTES = 100_000_000;

/** Every safetensors dtype read here, by its name in the header. */
const DTYPE_BY_NAME: ReadonlyMap<string, DType> = new Map<string, DType>([
  ["F64", "f64"],
  ["F32", "f32"],
  ["F16", "f16"],
  ["BF16", "bf16"],
  ["I64", "i64"],
  ["I32", "i32"],
  ["I16", "i16"],
  ["I8", "i8"],
  ["U64", "u64"],
  ["U32", "u32"],
  ["U16", "u16"],
  ["U8", "u8"],
  ["BOOL", "bool"],
]);
const NAME_BY_DTYPE: ReadonlyMap<DType, string> = new Map(
  [...DTYPE_BY_NAME].map(([name, dtype]) => [dtype, name]),
);

/** Twice as many as PyTorch's own layers use; bounds what a message shows of a shape. */
const MAX_DIMS = 8;

const METADATA_KEY = "__metadata__";

/** One tensor of the header; the data between `begin` and `end`, counted from the end of the header. */
export interface HeaderEntry {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly begin: number;
  readonly end: number;
}

export interface Header {
  /** In the order of the JSON text. */
  readonly entries: readonly HeaderEntry[];
  readonly metadata: ReadonlyMap<string, string>;
}

/**
 * Parses and checks a header.
 * @param dataByteLength - bytes of the file after the header
 * @param fileName - what messages begin with
 * @throws FormatError if anything in it is wrong or contradicts the file's length
 * @throws UnsupportedError for dtypes such as F8_E4M3
 */
export function parseHeader(text: string, dataByteLength: number, fileName: string): Header {
  const where = `${fileName}: the safetensors header`;
  const header = parseStrictJson(text, where);
  if (!isJsonObject(header)) throw damaged(where, "is not a JSON object");
  if (header.size > MAX_TENSORS)
    throw damaged(where, `lists ${header.size} tensors; at most ${MAX_TENSORS} are read`);
  const entries: HeaderEntry[] = [];
  let metadata: ReadonlyMap<string, string> = new Map<string, string>();
  for (const [name, value] of header) {
    if (name === METADATA_KEY) metadata = parseMetadata(value, where);
    else entries.push(parseEntry(name, value, dataByteLength, fileName));
  }
  checkTiling(entries, dataByteLength, fileName);
  return { entries, metadata };
}

function parseMetadata(value: JsonValue, where: string): ReadonlyMap<string, string> {
  const metadata = new Map<string, string>();
  if (value === null) return metadata;
  if (!isJsonObject(value)) throw damaged(where, `has a ${METADATA_KEY} that is not an object`);
  for (const [key, text] of value) {
    if (typeof text !== "string")
      throw damaged(where, `has ${METADATA_KEY} ${quoted(key)} that is not a string`);
    metadata.set(key, text);
  }
  return metadata;
}

function parseEntry(name: string, value: JsonValue, dataByteLength: number, fileName: string): HeaderEntry {
  const where = `${fileName}: tensor ${quoted(name)}`;
  if (!isJsonObject(value)) throw damaged(where, "is described by something that is not an object");
  const dtype = parseDType(value, where);
  const shape = parseCounts(value, "shape", where);
  const [begin, end, ...more] = parseCounts(value, "data_offsets", where);
  if (begin === undefined || end === undefined || more.length > 0) {
    throw damaged(where, "has data_offsets that are not two numbers");
  }
  if (begin > end) throw damaged(where, `has data_offsets [${begin}, ${end}], which end before they begin`);
  if (end > dataByteLength) {
    throw new FormatError(
      `${where} needs bytes ${begin} to ${end} of the data, but the file has ${dataByteLength} there. ` +
        `It looks cut short: download it again and compare the size with the publisher's.`,
    );
  }
  // Dimensions are whole numbers, so the product is exact wherever it can equal a length below 2^53.
  const byteLength = shape.includes(0) ? 0 : countElements(shape) * DTYPES[dtype].blockBytes;
  if (byteLength !== end - begin) {
    throw damaged(
      where,
      `is ${dtype} [${shape.join(", ")}], ${byteLength} bytes, but its data has ${end - begin}`,
    );
  }
  return { name, dtype, shape, begin, end };
}

function parseDType(value: JsonObject, where: string): DType {
  const name = value.get("dtype");
  if (typeof name !== "string") throw damaged(where, "has no dtype");
  const dtype = DTYPE_BY_NAME.get(name);
  if (dtype === undefined) {
    throw new UnsupportedError(
      `${where} has dtype ${quoted(name)}; read are ${[...DTYPE_BY_NAME.keys()].join(", ")}. ` +
        `Use a file that stores its weights as F16, BF16 or F32.`,
    );
  }
  return dtype;
}

function parseCounts(value: JsonObject, key: string, where: string): number[] {
  const list = value.get(key);
  if (!Array.isArray(list)) throw damaged(where, `has no list "${key}"`);
  if (list.length > MAX_DIMS)
    throw damaged(where, `has ${list.length} values in ${key}; at most ${MAX_DIMS} are read`);
  return (list as readonly JsonValue[]).map((count) => {
    if (typeof count === "number" && Number.isSafeInteger(count) && count >= 0 && !Object.is(count, -0))
      return count;
    throw damaged(where, `has ${key} with a value that is not a whole number from 0 to 2^53 - 1`);
  });
}

/** Every byte of the data belongs to exactly one tensor, or something was hidden or damaged. */
function checkTiling(entries: readonly HeaderEntry[], dataByteLength: number, fileName: string): void {
  const inOrder = entries.filter((entry) => entry.begin < entry.end).sort((a, b) => a.begin - b.begin);
  let previous: HeaderEntry | null = null;
  for (const entry of inOrder) {
    const covered: number = previous?.end ?? 0;
    const where = `${fileName}: tensor ${quoted(entry.name)}`;
    if (entry.begin < covered) {
      throw damaged(
        where,
        `begins at ${entry.begin} of the data, inside tensor ${quoted(previous?.name ?? "")}`,
      );
    }
    if (entry.begin > covered) {
      throw damaged(
        where,
        `begins at ${entry.begin} of the data, but the tensor before it ends at ${covered}`,
      );
    }
    previous = entry;
  }
  const covered: number = previous?.end ?? 0;
  if (covered !== dataByteLength) {
    throw damaged(fileName, `has ${dataByteLength} bytes of data, but its tensors end at ${covered}`);
  }
}

function damaged(where: string, fault: string): FormatError {
  return new FormatError(
    `${where} ${fault}. The file is damaged or was written wrongly: download or convert it again.`,
  );
}

/** Whether tensors of `dtype` can be written. */
export function hasSafetensorsName(dtype: DType): boolean {
  return NAME_BY_DTYPE.has(dtype);
}

export function isReservedName(name: string): boolean {
  return name === METADATA_KEY;
}

/**
 * The bytes before the data: the length, then the JSON, padded with spaces so that the data starts at a multiple of
 * `alignment`.
 * @param tensors - in the order of their data, with writable dtypes and distinct names
 */
export function encodeHeader(
  tensors: readonly { readonly name: string; readonly dtype: DType; readonly shape: readonly number[] }[],
  metadata: ReadonlyMap<string, string>,
  alignment = 8,
): Uint8Array {
  // Text is put together member by member: an object would give numeric names and "__proto__" a life of their own.
  const members: string[] = [];
  if (metadata.size > 0) {
    const pairs = [...metadata].map(([key, value]) => `${JSON.stringify(key)}:${JSON.stringify(value)}`);
    members.push(`"${METADATA_KEY}":{${pairs.join(",")}}`);
  }
  let begin = 0;
  for (const { name, dtype, shape } of tensors) {
    const end = begin + byteLengthOf(dtype, shape);
    const description = { dtype: NAME_BY_DTYPE.get(dtype), shape, data_offsets: [begin, end] };
    members.push(`${JSON.stringify(name)}:${JSON.stringify(description)}`);
    begin = end;
  }
  const json = new TextEncoder().encode(`{${members.join(",")}}`);
  const bytes = new Uint8Array(Math.ceil((8 + json.byteLength) / alignment) * alignment).fill(0x20);
  new DataView(bytes.buffer).setBigUint64(0, BigInt(bytes.byteLength - 8), true);
  bytes.set(json, 8);
  return bytes;
}
