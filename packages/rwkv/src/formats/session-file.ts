// The saved form of a session: the state of one sequence and what is needed to go on with it elsewhere. In f32 it goes on
// bit for bit; f16 halves the file and rounds. All numbers are little-endian.
//
//   offset   bytes  content
//   0        8      "RWKVSESS"
//   8        4      u32 version, 2
//   12       4      u32 type of state and logits: 0 f32, 1 f16
//   16       32     SHA-256 of what identifies the model, its fingerprint
//   48       8      u64 tokens read since the empty state, the pending one included
//   56       4      u32 pending token plus 1; 0 for none. It belongs to the sequence but is not yet in the state
//   60       4      u32 n, bytes of the model's name
//   64       4      u32 r, recent tokens
//   68       4      u32 g, numbers of the sampler's state; 0 for none
//   72       4      u32 s, elements of the state
//   76       4      u32 v, logits; 0 if there are none to keep
//   80       n      UTF-8: name of the model's file, for messages
//   ...      4 r    r u32: the last ids read, oldest first, the pending one included
//   ...      8 g    g f64: the sampler's state, so that sampling goes on as if never interrupted
//   ...      w s    the state, laid out like the official package's (per layer: att shift; wkv, or aa, bb and pp; ffn
//                   shift); w is 4 or 2
//   ...      w v    the logits that follow the last token read
//   ...      32     SHA-256 of everything before
//
// f16 has no place for RWKV-4's exponent of nothing, -1e30: it is stored as -Infinity. Version 1 is in session-file-v1.ts.

import { decodeToF32, encodeFromF32 } from "../core/decode.ts";
import { FormatError, UnsupportedError, UsageError } from "../core/errors.ts";
import { decodeVersion1 } from "./session-file-v1.ts";

const MAGIC = "RWKVSESS";
const VERSION = 2;
const PREFIX_BYTES = 16;
const FIXED_BYTES = 80;
const FINGERPRINT_BYTES = 32;
const CHECKSUM_BYTES = 32;
const DTYPES = ["f32", "f16"] as const;
const EXPONENT_OF_NOTHING = Math.fround(-1e30);
/** f32 from here on round to infinity. */
const F16_OVERFLOW = 65520;

/** Numeric types of a saved state. */
export type SessionDType = (typeof DTYPES)[number];

export interface SessionHeader {
  /** SHA-256 in hex of what identifies the model; a session continues only on its own. */
  readonly fingerprint: string;
  /** Name of the model's file when the session was saved, for messages. */
  readonly modelName: string;
  /** Tokens read since the empty state, the pending one included. */
  readonly nTokens: number;
  /** The last ids read, oldest first, the pending one included. */
  readonly recentTokens: readonly number[];
  /** A token that belongs to the sequence but is not yet in the state. */
  readonly pendingToken: number | null;
  /** The sampler's state; what the numbers mean is its own affair. */
  readonly random: readonly number[] | null;
}

export interface SessionFile {
  readonly header: SessionHeader;
  readonly state: Float32Array;
  readonly logits: Float32Array | null;
}

export function isSessionFile(bytes: Uint8Array): boolean {
  return (
    bytes.byteLength >= MAGIC.length && new TextDecoder().decode(bytes.subarray(0, MAGIC.length)) === MAGIC
  );
}

/** @throws UsageError if a number of the state or the logits does not fit in `dtype` */
export async function encodeSessionFile(
  { header, state, logits }: SessionFile,
  dtype: SessionDType,
): Promise<Uint8Array<ArrayBuffer>> {
  if (dtype === "f16") {
    checkFitsF16("state", state);
    if (logits !== null) checkFitsF16("logits", logits);
  }
  const name = new TextEncoder().encode(header.modelName);
  const { recentTokens, pendingToken } = header;
  const random = header.random ?? [];
  const counts = [name.byteLength, recentTokens.length, random.length, state.length, logits?.length ?? 0];
  const bodyBytes = bodyByteLength(counts, dtype);
  const bytes = new Uint8Array(bodyBytes + CHECKSUM_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(MAGIC));
  view.setUint32(8, VERSION, true);
  view.setUint32(12, DTYPES.indexOf(dtype), true);
  for (let i = 0; i < FINGERPRINT_BYTES; i++) {
    bytes[PREFIX_BYTES + i] = Number.parseInt(header.fingerprint.slice(2 * i, 2 * i + 2), 16);
  }
  view.setBigUint64(48, BigInt(header.nTokens), true);
  view.setUint32(56, pendingToken === null ? 0 : pendingToken + 1, true);
  counts.forEach((count, i) => view.setUint32(60 + 4 * i, count, true));
  bytes.set(name, FIXED_BYTES);
  let offset = FIXED_BYTES + name.byteLength;
  for (const token of recentTokens) {
    view.setUint32(offset, token, true);
    offset += 4;
  }
  for (const number of random) {
    view.setFloat64(offset, number, true);
    offset += 8;
  }
  for (const values of [state, logits ?? new Float32Array(0)]) {
    const end = offset + bytesPer(dtype) * values.length;
    encodeFromF32(dtype, values, bytes.subarray(offset, end));
    offset = end;
  }
  bytes.set(await sha256(bytes.subarray(0, bodyBytes)), bodyBytes);
  return bytes;
}

/**
 * Reads every version.
 * @param name - what messages call the file
 * @throws FormatError if it is cut short, altered, or no session file
 * @throws UnsupportedError if a later version wrote it
 */
export async function decodeSessionFile(bytes: Uint8Array, name: string): Promise<SessionFile> {
  if (!isSessionFile(bytes) || bytes.byteLength < PREFIX_BYTES + CHECKSUM_BYTES) {
    throw new FormatError(
      `${name}: expected a saved session, which begins with "${MAGIC}", but found ${bytes.byteLength} bytes that are ` +
        `none. Give a file that save() wrote.`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(8, true);
  if (version < 1 || version > VERSION) {
    throw new UnsupportedError(
      `${name}: a saved session of version ${version}; this engine reads versions 1 to ${VERSION}. Use the engine that wrote it, or a newer one.`,
    );
  }
  const body = bytes.subarray(0, bytes.byteLength - CHECKSUM_BYTES);
  if (version === VERSION) checkLength(view, body.byteLength, name);
  const checksum = await sha256(body);
  if (checksum.some((byte, i) => byte !== bytes[body.byteLength + i])) {
    throw new FormatError(
      `${name}: the checksum does not match: the saved session is cut short or was altered. Save it again.`,
    );
  }
  return version === VERSION ? decodeVersion2(body, view, name) : decodeVersion1(body, name);
}

/** The five counts, all bounded by the file's length before anything of them is allocated. */
function checkLength(view: DataView, bodyBytes: number, name: string): void {
  const found = `but the file has ${view.byteLength}. It is cut short or damaged: copy it again.`;
  if (bodyBytes < FIXED_BYTES) {
    throw new FormatError(
      `${name}: a saved session takes at least ${FIXED_BYTES + CHECKSUM_BYTES} bytes, ${found}`,
    );
  }
  const announced = bodyByteLength(countsOf(view), dtypeOf(view, name)) + CHECKSUM_BYTES;
  if (announced !== view.byteLength) {
    throw new FormatError(`${name}: the saved session announces ${announced} bytes, ${found}`);
  }
}

function decodeVersion2(body: Uint8Array, view: DataView, name: string): SessionFile {
  const dtype = dtypeOf(view, name);
  const [nameBytes, nRecent, nRandom, stateElements, logitElements] = countsOf(view);
  const nTokens = view.getBigUint64(48, true);
  if (nTokens > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw new FormatError(`${name}: the saved session claims ${nTokens} tokens. Save it again.`);
  }
  const fingerprint = Array.from(body.subarray(PREFIX_BYTES, PREFIX_BYTES + FINGERPRINT_BYTES), (byte) =>
    byte.toString(16).padStart(2, "0"),
  ).join("");
  const pending = view.getUint32(56, true);
  let offset = FIXED_BYTES + nameBytes!;
  const modelName = new TextDecoder().decode(body.subarray(FIXED_BYTES, offset));
  const recentTokens = Array.from({ length: nRecent! }, (_, i) => view.getUint32(offset + 4 * i, true));
  offset += 4 * nRecent!;
  const random = Array.from({ length: nRandom! }, (_, i) => view.getFloat64(offset + 8 * i, true));
  offset += 8 * nRandom!;
  const floats = new Float32Array(stateElements! + logitElements!);
  decodeToF32(dtype, body.subarray(offset), floats);
  const state = floats.subarray(0, stateElements);
  if (dtype === "f16") {
    for (let i = 0; i < state.length; i++) if (state[i] === -Infinity) state[i] = EXPONENT_OF_NOTHING;
  }
  return {
    header: {
      fingerprint,
      modelName,
      nTokens: Number(nTokens),
      recentTokens,
      pendingToken: pending === 0 ? null : pending - 1,
      random: nRandom === 0 ? null : random,
    },
    state,
    logits: logitElements === 0 ? null : floats.subarray(stateElements),
  };
}

function dtypeOf(view: DataView, name: string): SessionDType {
  const code = view.getUint32(12, true);
  const dtype = DTYPES[code];
  if (dtype !== undefined) return dtype;
  throw new FormatError(
    `${name}: type ${code} of the state is unknown; expected 0 (f32) or 1 (f16). The file is damaged: copy it again.`,
  );
}

/** Of the name's bytes, recent tokens, the sampler's numbers, the state's elements and logits. */
function countsOf(view: DataView): number[] {
  return [60, 64, 68, 72, 76].map((offset) => view.getUint32(offset, true));
}

function bodyByteLength(counts: readonly number[], dtype: SessionDType): number {
  const [nameBytes, nRecent, nRandom, stateElements, logitElements] = counts;
  const nFloats = stateElements! + logitElements!;
  return FIXED_BYTES + nameBytes! + 4 * nRecent! + 8 * nRandom! + bytesPer(dtype) * nFloats;
}

function bytesPer(dtype: SessionDType): number {
  return dtype === "f32" ? 4 : 2;
}

function checkFitsF16(what: string, values: Float32Array): void {
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (Math.abs(value) < F16_OVERFLOW || (value === EXPONENT_OF_NOTHING && what === "state")) continue;
    throw new UsageError(`Element ${i} of the ${what} is ${value}, which f16 cannot hold. Save it as f32.`);
  }
}

async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  // A typed array over a SharedArrayBuffer is refused by WebCrypto; these never are.
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
}
