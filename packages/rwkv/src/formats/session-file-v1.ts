// Version 1 of saved sessions, read but no longer written. Magic, version and checksum are those of session-file.ts, which
// has looked at them.
//
//   offset   bytes  content
//   12       4      u32 n, byte length of the header
//   16       n      header: UTF-8 JSON, see Header
//   16 + n   4 s    s f32: the state
//   ...      4 v    v f32: the logits; v is 0 if there are none to keep

import { FormatError } from "../core/errors.ts";
import type { SessionFile, SessionHeader } from "./session-file.ts";

const PREFIX_BYTES = 16;
const MAX_HEADER_BYTES = 2 ** 20;

interface Header extends SessionHeader {
  readonly stateElements: number;
  readonly logitElements: number;
}

/**
 * @param body - the file without its checksum
 * @throws FormatError if it is damaged
 */
export function decodeVersion1(body: Uint8Array, name: string): SessionFile {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  const headerBytes = view.getUint32(12, true);
  const floatsStart = PREFIX_BYTES + headerBytes;
  if (headerBytes > MAX_HEADER_BYTES || floatsStart > body.byteLength) {
    throw new FormatError(
      `${name}: the header claims ${headerBytes} bytes, but the file has ${body.byteLength}. It is damaged.`,
    );
  }
  const { stateElements, logitElements, ...header } = parseHeader(
    body.subarray(PREFIX_BYTES, floatsStart),
    name,
  );
  const expectedBytes = floatsStart + 4 * (stateElements + logitElements);
  if (expectedBytes !== body.byteLength) {
    throw new FormatError(
      `${name}: the header announces ${expectedBytes} bytes, but ${body.byteLength} are there. The file is damaged.`,
    );
  }
  const floats = new Float32Array(stateElements + logitElements);
  for (let i = 0; i < floats.length; i++) floats[i] = view.getFloat32(floatsStart + 4 * i, true);
  return {
    header,
    state: floats.subarray(0, stateElements),
    logits: logitElements === 0 ? null : floats.subarray(stateElements),
  };
}

function parseHeader(bytes: Uint8Array, name: string): Header {
  let value: unknown;
  try {
    value = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes));
  } catch (cause) {
    throw new FormatError(`${name}: the header of the saved session is not JSON. The file is damaged.`, {
      cause,
    });
  }
  if (isHeader(value)) return value;
  throw new FormatError(
    `${name}: the header of the saved session lacks fields or has wrong ones. The file is damaged.`,
  );
}

function isHeader(value: unknown): value is Header {
  if (typeof value !== "object" || value === null) return false;
  const header = value as Partial<Record<keyof Header, unknown>>;
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
