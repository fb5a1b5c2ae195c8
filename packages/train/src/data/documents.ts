// Texts to learn from: JSONL files to tokens, and which of these tokens are to be learnt. Hides the two kinds of lines,
// {"text": ...} and {"messages": [...]}, and where files are wrong.

import { createReadStream } from "node:fs";
import { createInterface } from "node:readline";
import { chatParts, FormatError, UsageError, type ChatMessage, type Tokenizer } from "rwkv";

/** All documents, end to end. */
export interface Documents {
  readonly tokens: Int32Array;
  /** `[nDocuments + 1]`, the first token of each and the end. */
  readonly starts: Int32Array;
  /** By token: 1 if it is to be predicted; null if all are. */
  readonly learnt: Uint8Array | null;
}

export interface DocumentOptions {
  readonly tokenizer: Tokenizer;
  /** Learn the assistant's part of messages alone; texts are learnt whole. */
  readonly answersOnly: boolean;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Reads JSONL files in their order; empty lines are skipped.
 * @throws UsageError if a file cannot be read, or none has a document
 * @throws FormatError naming the line that is neither kind
 */
export async function readDocuments(files: readonly string[], options: DocumentOptions): Promise<Documents> {
  const { tokenizer, answersOnly, signal } = options;
  const tokens = new Growing();
  const starts = [0];
  const skipped: number[] = []; // pairs of begin and end
  for (const file of files) {
    for await (const { text, where } of linesOf(file)) {
      signal?.throwIfAborted();
      for (const { text: part, isLearnt } of partsOf(text, where, answersOnly)) {
        const begin = tokens.nElements;
        tokens.append(tokenizer.encode(part));
        if (!isLearnt) skipped.push(begin, tokens.nElements);
      }
      if (tokens.nElements > starts.at(-1)!) starts.push(tokens.nElements);
    }
  }
  if (starts.length === 1) {
    throw new UsageError(`${files.join(", ")}: no line holds a text, so there is nothing to learn.`);
  }
  let mask: Uint8Array | null = null;
  if (skipped.length > 0) {
    mask = new Uint8Array(tokens.nElements).fill(1);
    for (let i = 0; i < skipped.length; i += 2) mask.fill(0, skipped[i], skipped[i + 1]);
  }
  return { tokens: tokens.take(), starts: Int32Array.from(starts), learnt: mask };
}

async function* linesOf(file: string): AsyncGenerator<{ text: string; where: string }> {
  const stream = createReadStream(file, "utf8");
  let number = 0;
  try {
    for await (const text of createInterface({ input: stream, crlfDelay: Infinity })) {
      number++;
      if (text.trim() !== "") yield { text, where: `${file}, line ${number}` };
    }
  } catch (cause) {
    if (cause instanceof Error && "syscall" in cause) {
      throw new UsageError(`${file} cannot be read: ${cause.message}. Check data.files.`, { cause });
    }
    throw cause;
  } finally {
    stream.destroy();
  }
}

interface Part {
  readonly text: string;
  readonly isLearnt: boolean;
}

function partsOf(line: string, where: string, answersOnly: boolean): Part[] {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new FormatError(
      `${where}: is not JSON. Each line should be one object, {"text": ...} or {"messages": [...]}.`,
      {
        cause,
      },
    );
  }
  if (typeof value === "object" && value !== null) {
    if ("text" in value && typeof value.text === "string") return [{ text: value.text, isLearnt: true }];
    if ("messages" in value && areMessages(value.messages)) {
      return chatParts(value.messages).map(({ text, isAnswer }) => ({
        text,
        isLearnt: isAnswer || !answersOnly,
      }));
    }
  }
  throw new FormatError(
    `${where}: expected {"text": "..."} or {"messages": [{"role": "system", "user" or "assistant", "content": "..."}]}, ` +
      `found ${line.length > 80 ? `${line.slice(0, 80)}...` : line}`,
  );
}

function areMessages(value: unknown): value is ChatMessage[] {
  return (
    Array.isArray(value) &&
    value.length > 0 &&
    value.every(
      (message: unknown) =>
        typeof message === "object" &&
        message !== null &&
        "role" in message &&
        "content" in message &&
        ["system", "user", "assistant"].includes(message.role as string) &&
        typeof message.content === "string",
    )
  );
}

/** An Int32Array that grows. */
class Growing {
  nElements = 0;
  #values = new Int32Array(2 ** 16);

  append(ids: readonly number[]): void {
    const needed = this.nElements + ids.length;
    if (needed > this.#values.length) {
      const larger = new Int32Array(Math.max(needed, 2 * this.#values.length));
      larger.set(this.#values);
      this.#values = larger;
    }
    this.#values.set(ids, this.nElements);
    this.nElements = needed;
  }

  take(): Int32Array {
    return this.#values.slice(0, this.nElements);
  }
}
