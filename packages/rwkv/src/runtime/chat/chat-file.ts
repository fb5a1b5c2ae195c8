// The saved form of a conversation: its messages, and the sessions that it began with and has come to. All numbers are
// little-endian.
//
//   offset      bytes  content
//   0           8      "RWKVCHAT"
//   8           4      u32 version, 1
//   12          4      u32 n, byte length of the header
//   16          n      header: UTF-8 JSON, see ChatHeader
//   16 + n      a      the session that the conversation began with, as a session file; a is 0 for a new one
//   16 + n + a  b      the session as it is, as a session file
//   ...         32     SHA-256 of everything before

import type { ChatMessage, ChatTemplate, ThinkMode } from "../../chat/template.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import { parseJson } from "../../tokenizer/json.ts";

const MAGIC = "RWKVCHAT";
const VERSION = 1;
const PREFIX_BYTES = 16;
const CHECKSUM_BYTES = 32;

export interface ChatHeader {
  readonly messages: readonly ChatMessage[];
  /** How many of the messages the session has read. */
  readonly nMessagesRead: number;
  /** The text that the session has read. */
  readonly read: string;
  /** The prompt format; null for the template of the model itself. */
  readonly template: ChatTemplate | null;
  readonly think: ThinkMode;
  readonly startToken: boolean;
  readonly seed: number;
  /** Answers given so far, which the next seed follows from. */
  readonly nAnswers: number;
  /** Byte length of the first session, 0 for none. */
  readonly startByteLength: number;
}

export interface ChatFile {
  readonly header: Omit<ChatHeader, "startByteLength">;
  /** The session that the conversation began with; null for a new one. */
  readonly start: Uint8Array | null;
  readonly session: Uint8Array;
}

/** Whether these bytes begin like a saved conversation. */
export function isChatFile(bytes: Uint8Array): boolean {
  return new TextDecoder().decode(bytes.subarray(0, MAGIC.length)) === MAGIC;
}

export async function encodeChatFile({ header, start, session }: ChatFile): Promise<Uint8Array<ArrayBuffer>> {
  const startByteLength = start?.byteLength ?? 0;
  const json = new TextEncoder().encode(JSON.stringify({ ...header, startByteLength }));
  const bodyBytes = PREFIX_BYTES + json.byteLength + startByteLength + session.byteLength;
  const bytes = new Uint8Array(bodyBytes + CHECKSUM_BYTES);
  const view = new DataView(bytes.buffer);
  bytes.set(new TextEncoder().encode(MAGIC));
  view.setUint32(8, VERSION, true);
  view.setUint32(12, json.byteLength, true);
  bytes.set(json, PREFIX_BYTES);
  if (start !== null) bytes.set(start, PREFIX_BYTES + json.byteLength);
  bytes.set(session, bodyBytes - session.byteLength);
  bytes.set(await checksumOf(bytes.subarray(0, bodyBytes)), bodyBytes);
  return bytes;
}

/**
 * @param name - what messages call the file
 * @throws FormatError if it is cut short, altered, or no saved conversation
 * @throws UnsupportedError if a later version wrote it
 */
export async function decodeChatFile(bytes: Uint8Array, name: string): Promise<ChatFile> {
  if (!isChatFile(bytes) || bytes.byteLength < PREFIX_BYTES + CHECKSUM_BYTES) {
    throw new FormatError(
      `${name}: expected a saved conversation, which begins with "${MAGIC}". Give a file that save() or /save wrote.`,
    );
  }
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const version = view.getUint32(8, true);
  if (version !== VERSION) {
    throw new UnsupportedError(
      `${name}: a saved conversation of version ${version}; this engine reads version ${VERSION}. Use the engine that wrote it, or a newer one.`,
    );
  }
  const bodyBytes = bytes.byteLength - CHECKSUM_BYTES;
  const checksum = await checksumOf(bytes.subarray(0, bodyBytes));
  const headerEnd = PREFIX_BYTES + view.getUint32(12, true);
  if (headerEnd > bodyBytes || checksum.some((byte, i) => byte !== bytes[bodyBytes + i])) {
    throw new FormatError(
      `${name}: the checksum does not match: the saved conversation is cut short or was altered. Save it again.`,
    );
  }
  const header = parseJson(bytes.subarray(PREFIX_BYTES, headerEnd), name);
  if (!isChatHeader(header) || headerEnd + header.startByteLength > bodyBytes) {
    throw new FormatError(
      `${name}: the header of the saved conversation lacks fields or has wrong ones. Save it again.`,
    );
  }
  const sessionStart = headerEnd + header.startByteLength;
  return {
    header,
    start: header.startByteLength === 0 ? null : bytes.subarray(headerEnd, sessionStart),
    session: bytes.subarray(sessionStart, bodyBytes),
  };
}

function isChatHeader(value: unknown): value is ChatHeader {
  const header = (value ?? {}) as Partial<Record<keyof ChatHeader, unknown>>;
  return (
    Array.isArray(header.messages) &&
    header.messages.every(isMessage) &&
    isCount(header.nMessagesRead) &&
    header.nMessagesRead <= header.messages.length &&
    typeof header.read === "string" &&
    (header.template === null || isTemplate(header.template)) &&
    typeof header.think === "string" &&
    typeof header.startToken === "boolean" &&
    isCount(header.seed) &&
    isCount(header.nAnswers) &&
    isCount(header.startByteLength)
  );
}

function isMessage(value: unknown): value is ChatMessage {
  const message = (value ?? {}) as Partial<Record<keyof ChatMessage, unknown>>;
  return (
    ["system", "user", "assistant"].includes(message.role as string) &&
    typeof message.content === "string" &&
    (message.written === undefined || typeof message.written === "string")
  );
}

function isTemplate(value: unknown): value is ChatTemplate {
  const template = (value ?? {}) as Partial<Record<keyof ChatTemplate, unknown>>;
  const turns = (template.turns ?? {}) as Readonly<Record<string, unknown>>;
  const tails = (template.tails ?? {}) as Readonly<Record<string, unknown>>;
  return (
    areTexts([template.name, template.start, template.introduction]) &&
    ["system", "user", "assistant"].every((role) => {
      const { label, lead, end } = (turns[role] ?? {}) as Readonly<Record<string, unknown>>;
      return areTexts([label, lead, end]);
    }) &&
    ["single", "none", "lines"].includes(template.lineBreaks as string) &&
    typeof tails["off"] === "string" &&
    areTexts(Object.values(tails)) &&
    Array.isArray(template.stop) &&
    areTexts(template.stop)
  );
}

function areTexts(values: readonly unknown[]): boolean {
  return values.every((value) => typeof value === "string");
}

function isCount(value: unknown): value is number {
  return typeof value === "number" && Number.isSafeInteger(value) && value >= 0;
}

async function checksumOf(bytes: Uint8Array): Promise<Uint8Array> {
  return new Uint8Array(await crypto.subtle.digest("SHA-256", bytes as Uint8Array<ArrayBuffer>));
}
