// The saved form of a session: the state of one sequence and what is needed to go on with it elsewhere, bit for bit.
// All numbers are little-endian.
//
//   offset   bytes  content
//   0        8      "RWKVSESS"
//   8        4      u32 version, 1
//   12       4      u32 n, byte length of the header
//   16       n      header: UTF-8 JSON, see SessionHeader
//   16 + n   4 s    s f32: the state, laid out like the official package's (per layer: att shift; wkv, or aa, bb and
//                   pp; ffn shift)
//   ...      4 v    v f32: the logits that follow the last token read; v is 0 if there are none to keep
//   ...      32     SHA-256 of everything before

import { FormatError, UnsupportedError } from "../core/errors.ts";

const MAGIC = "RWKVSESS";
const VERSION = 1;
const PREFIX_BYTES = 16;
const CHECKSUM_BYTES = 32;
const MAX_HEADER_BYTES = 2 ** 20;

export interface SessionHeader {
  /** SHA-256 in hex of what identifies the model; a session continues only on its own. */
  readonly fingerprint: string;
  /** Name of the model's file when the session was saved, for messages. */
  readonly modelName: string;
  /** f32 elements of the state. */
  readonly stateElements: number;
  /** f32 elements of the kept logits, 0 for none. */
  readonly logitElements: number;
  /** Tokens read since the empty state, the pending one included. */
  readonly nTokens: number;
  /** The last ids read, oldest first, the pending one included; at most 1,024. */
  readonly recentTokens: readonly number[];
  /** A token that belongs to the sequence but is not yet in the state. */
  readonly pendingToken: number | null;
  /** State of the random generator, so that sampling goes on as if never interrupted. */
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

export async function encodeSessionFile(file: SessionFile): Promise<Uint8Array<ArrayBuffer>> {
  const header = new TextEncoder().encode(JSON.stringify(file.header));
  const logits = file.logits ?? new Float32Array(0);
  const floatsStart = PREFIX_BYTES + header.byteLength;
  const bodyBytes = floatsStart + 4 * (file.state.length + logits.length);
  const bytes = new Uint8Array(bodyBytes + CHECKSUM_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(MAGIC));
  view.setUint32(8, VERSION, true);
  view.setUint32(12, header.byteLength, true);
  bytes.set(header, PREFIX_BYTES);
  let offset = floatsStart;
  for (const values of [file.state, logits]) {
    for (const value of values) {
      view.setFloat32(offset, value, true);
      offset += 4;
    }
  }
  bytes.set(await sha256(bytes.subarray(0, bodyBytes)), bodyBytes);
  return bytes;
}

/**
 * @param name - what messages call the file
 * @throws FormatError if it is cut short, altered, or no session file
 * @throws UnsupportedError if a later version wrote it
 */
export async function decodeSessionFile(bytes: Uint8Array, name: string): Promise<SessionFile> {
  if (!isSessionFile(bytes) || bytes.byteLength < PREFIX_BYTES + CHECKSUM_BYTES) {
    throw new FormatError(
      `${name}: expected a saved session, which begins with "${MAGIC}". Give a file that save() wrote.`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(8, true);
  if (version !== VERSION) {
    throw new UnsupportedError(
      `${name}: a saved session of version ${version}; this engine reads version ${VERSION}. Use the engine that wrote it, or a newer one.`,
    );
  }
  const headerBytes = view.getUint32(12, true);
  const bodyBytes = bytes.byteLength - CHECKSUM_BYTES;
  const floatsStart = PREFIX_BYTES + headerBytes;
  if (headerBytes > MAX_HEADER_BYTES || floatsStart > bodyBytes) {
    throw new FormatError(
      `${name}: the header claims ${headerBytes} bytes, but the file has ${bytes.byteLength}. It is cut short or damaged.`,
    );
  }
  const checksum = await sha256(bytes.subarray(0, bodyBytes));
  if (checksum.some((byte, i) => byte !== bytes[bodyBytes + i])) {
    throw new FormatError(
      `${name}: the checksum does not match: the saved session is cut short or was altered. Save it again.`,
    );
  }
  const header = parseHeader(bytes.subarray(PREFIX_BYTES, floatsStart), name);
  const expectedBytes = floatsStart + 4 * (header.stateElements + header.logitElements);
  if (expectedBytes !== bodyBytes) {
    throw new FormatError(
      `${name}: the header announces ${expectedBytes} bytes, but ${bodyBytes} are there. The file is damaged.`,
    );
  }
  const floats = new Float32Array(header.stateElements + header.logitElements);
  for (let i = 0; i < floats.length; i++) floats[i] = view.getFloat32(floatsStart + 4 * i, true);
  return {
    header,
    state: floats.subarray(0, header.stateElements),
    logits: header.logitElements === 0 ? null : floats.subarray(header.stateElements),
  };
}

function parseHeader(bytes: Uint8Array, name: string): SessionHeader {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new FormatError(`${name}: the header of the saved session is not JSON.`, { cause });
  }
  if (isSessionHeader(value)) return value;
  throw new FormatError(
    `${name}: the header of the saved session lacks fields or has wrong ones. Save it again.`,
  );
}

function isSessionHeader(value: unknown): value is SessionHeader {
  if (typeof value !== "object" || value === null) return false;
  const header = value as Partial<Record<keyof SessionHeader, unknown>>;
  return (
    typeof header.fingerprint === "string" &&
    typeof header.modelName === "string" &&
    isCount(header.stateElements) &&
    isCount(header.logitElements) &&
    isCount(header.nTokens) &&
    isCountList(header.recentTokens) &&
    (header.pendingToken === null || isCount(header.pendingToken)) &&
    (header.random === null || isCountList(header.random))
  );
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

function isCountList(value: unknown): value is number[] {
  return Array.isArray(value) && value.every(isCount);
}

async function sha256(bytes: Uint8Array): Promise<Uint8Array> {
  // A typed array over a SharedArrayBuffer is refused by WebCrypto; these never are.
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
}
