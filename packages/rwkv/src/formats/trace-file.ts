// Traces as files: safetensors, whose metadata say what was traced, or JSON. Any checkpoint can be read as a trace, so that
// one made by another program, with torch.save or as safetensors, is something to compare with.
//
//   JSON   {"format": "rwkv-trace", "version": 1, "origin": {...}, "tokens": [...], "tensors": [
//          {"name": "emb", "shape": [3, 64], "values": [...]}, ...]}
//   safetensors   "rwkv_trace" of the metadata is the same without "tensors"
//
// Tensors stand in order of computation. JSON has nine significant digits, which identify an f32; what is not finite is
// one of the strings "NaN", "Infinity" and "-Infinity".

import type { ByteSink } from "../core/byte-sink.ts";
import { decodeToF32 } from "../core/decode.ts";
import { countElements, isWeightDType } from "../core/dtype.ts";
import { FormatError, UnsupportedError } from "../core/errors.ts";
import type { Checkpoint, CheckpointTensor } from "./checkpoint.ts";
import { quoted } from "./range-tensor.ts";
import { writeSafetensors } from "./safetensors/safetensors.ts";

/** Which run of which model a trace shows. */
export interface TraceOrigin {
  /** Name of the model's file. */
  readonly model: string;
  /** Generation of the model, such as `7`. */
  readonly modelVersion: string;
  readonly fingerprint: string;
  readonly backend: string;
  /** One line: instruction set, threads. */
  readonly device: string;
}

/** A value in the middle of the forward pass, or a state after it. */
export interface TraceTensor {
  /** Of all tokens `[T, width]`; a state has the shape it has in `model.stateLayout`. */
  readonly shape: readonly number[];
  /** Row-major. */
  readonly values: Float32Array;
}

/** Values inside a model while it read a prompt. */
export interface Trace {
  /** Null for a file that no `trace` wrote. */
  readonly origin: TraceOrigin | null;
  /** The ids that were read; null for embedding rows, and where they are not known. */
  readonly tokens: readonly number[] | null;
  /** By name, in order of computation; those of a file that no `trace` wrote in that of the file. */
  readonly tensors: ReadonlyMap<string, TraceTensor>;
}

/** What a trace is written as. */
export type TraceFormat = "safetensors" | "json";

const JSON_FORMAT = "rwkv-trace";
const METADATA_KEY = "rwkv_trace";
const VERSION = 1;
/** Values that become text at a time. */
const VALUES_PER_PIECE = 2 ** 14;

/**
 * Writes a trace.
 * @throws what the sink throws
 */
export async function writeTrace(sink: ByteSink, trace: Trace, format: TraceFormat): Promise<void> {
  if (format === "json") await writeJson(sink, trace);
  else {
    const { origin, tokens } = trace;
    const about = JSON.stringify({ version: VERSION, origin, tokens });
    await writeSafetensors(
      sink,
      [...trace.tensors].map(toCheckpointTensor),
      new Map([[METADATA_KEY, about]]),
    );
  }
}

function toCheckpointTensor([name, { shape, values }]: [string, TraceTensor]): CheckpointTensor {
  return {
    name,
    dtype: "f32",
    shape,
    byteLength: values.byteLength,
    read(target) {
      target.set(new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
      return Promise.resolve();
    },
  };
}

async function writeJson(sink: ByteSink, { origin, tokens, tensors }: Trace): Promise<void> {
  const encoder = new TextEncoder();
  const write = (text: string): Promise<void> => sink.write(encoder.encode(text));
  const head = JSON.stringify({ format: JSON_FORMAT, version: VERSION, origin, tokens });
  await write(`${head.slice(0, -1)},"tensors":[`);
  let nWritten = 0;
  for (const [name, { shape, values }] of tensors) {
    await write(
      `${nWritten++ === 0 ? "" : ","}\n{"name":${JSON.stringify(name)},"shape":${JSON.stringify(shape)},"values":[`,
    );
    for (let start = 0; start < values.length; start += VALUES_PER_PIECE) {
      const piece = Array.from(values.subarray(start, start + VALUES_PER_PIECE), toJsonNumber);
      await write(`${start === 0 ? "" : ","}${piece.join(",")}`);
    }
    await write("]}");
  }
  await write("\n]}\n");
}

function toJsonNumber(value: number): string {
  if (!Number.isFinite(value)) return `"${value}"`;
  return Object.is(value, -0) ? "-0" : String(Number(value.toPrecision(9)));
}

/** Whether a file is JSON rather than a checkpoint, given its first 8 bytes: those of safetensors count less than 2^32. */
export function isTraceJson(bytes: Uint8Array): boolean {
  return bytes.length === 8 && bytes[0] === 0x7b && bytes[7] !== 0;
}

/**
 * @param text - of the whole file
 * @param fileName - what messages begin with
 * @throws FormatError if it is no trace or a damaged one, UnsupportedError for one of a later version
 */
export function parseTraceJson(text: string, fileName: string): Trace {
  const file = parseJson(text, fileName) as { format?: unknown; tensors?: unknown } | null;
  if (file?.format !== JSON_FORMAT) {
    throw new FormatError(
      `${fileName}: expected a trace, a JSON object with "format": "${JSON_FORMAT}". Give a file that \`rwkv trace\` wrote.`,
    );
  }
  const about = parseAbout(file, fileName);
  if (!Array.isArray(file.tensors)) throw damaged(fileName, `has no list "tensors"`);
  const tensors = new Map<string, TraceTensor>();
  for (const item of file.tensors as readonly unknown[]) {
    const { name, tensor } = parseTensor(item, fileName);
    if (tensors.has(name)) throw damaged(fileName, `has tensor ${quoted(name)} twice`);
    tensors.set(name, tensor);
  }
  return { ...about, tensors };
}

/**
 * Reads every tensor of a checkpoint into memory.
 * @throws FormatError if the file is damaged, UnsupportedError for tensors of whole numbers
 */
export async function readTraceTensors(checkpoint: Checkpoint, signal?: AbortSignal): Promise<Trace> {
  const { name: fileName, metadata } = checkpoint;
  const text = metadata.get(METADATA_KEY);
  const about =
    typeof text === "string"
      ? parseAbout(parseJson(text, fileName), fileName)
      : { origin: null, tokens: null };
  const tensors = new Map<string, TraceTensor>();
  for (const [name, tensor] of checkpoint.tensors) {
    const { dtype, shape, byteLength } = tensor;
    if (!isWeightDType(dtype)) {
      throw new UnsupportedError(
        `${fileName}: tensor ${quoted(name)} is ${dtype}, but a trace has floating-point numbers. Leave it out, or ` +
          `store it as f32.`,
      );
    }
    const bytes = new Uint8Array(byteLength);
    await tensor.read(bytes, signal);
    const values = new Float32Array(countElements(shape));
    decodeToF32(dtype, bytes, values);
    tensors.set(name, { shape, values });
  }
  return { ...about, tensors };
}

function parseJson(text: string, fileName: string): unknown {
  try {
    return JSON.parse(text);
  } catch (cause) {
    throw new FormatError(
      `${fileName}: what it says of the trace is no JSON (${(cause as Error).message}). Write it again.`,
      { cause },
    );
  }
}

function parseAbout(value: unknown, fileName: string): Pick<Trace, "origin" | "tokens"> {
  if (typeof value !== "object" || value === null) throw damaged(fileName, "does not say what was traced");
  const { version, origin = null, tokens = null } = value as Record<string, unknown>;
  if (version !== VERSION) {
    throw new UnsupportedError(
      `${fileName}: a trace of version ${version === undefined ? "none" : JSON.stringify(version)}; this engine reads version ${VERSION}.`,
    );
  }
  if (tokens !== null && !isCountList(tokens))
    throw damaged(fileName, `has "tokens" that are no list of ids`);
  if (origin !== null && !isOrigin(origin)) {
    throw damaged(fileName, `has an "origin" that lacks fields or has wrong ones`);
  }
  return { origin, tokens };
}

const ORIGIN_FIELDS = ["model", "modelVersion", "fingerprint", "backend", "device"] as const;

function isOrigin(value: unknown): value is TraceOrigin {
  if (typeof value !== "object" || value === null) return false;
  const fields = value as Readonly<Record<string, unknown>>;
  return ORIGIN_FIELDS.every((field) => typeof fields[field] === "string");
}

function parseTensor(
  item: unknown,
  fileName: string,
): { readonly name: string; readonly tensor: TraceTensor } {
  const { name, shape, values } = (item ?? {}) as Readonly<Record<string, unknown>>;
  if (typeof name !== "string") throw damaged(fileName, "has a tensor without a name");
  const where = `${fileName}: tensor ${quoted(name)}`;
  if (!isCountList(shape)) throw damaged(where, "has a shape that is no list of whole numbers");
  if (!Array.isArray(values)) throw damaged(where, `has no list "values"`);
  const nElements = countElements(shape);
  if (values.length !== nElements) {
    throw damaged(where, `is [${shape.join(", ")}], ${nElements} numbers, but has ${values.length}`);
  }
  return { name, tensor: { shape, values: Float32Array.from(values, (value) => toNumber(value, where)) } };
}

const NOT_FINITE: readonly unknown[] = ["NaN", "Infinity", "-Infinity"];

function toNumber(value: unknown, where: string): number {
  if (typeof value === "number" || NOT_FINITE.includes(value)) return Number(value);
  throw damaged(where, `has the value ${JSON.stringify(value)}, which is no number`);
}

function isCountList(value: unknown): value is number[] {
  return (
    Array.isArray(value) &&
    value.every((count: unknown) => Number.isSafeInteger(count) && (count as number) >= 0)
  );
}

function damaged(where: string, fault: string): FormatError {
  return new FormatError(`${where} ${fault}. The file is damaged or was written wrongly: write it again.`);
}
