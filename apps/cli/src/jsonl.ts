// Files of cases, one JSON object a line. Every message names the file and the line.

import { readFile } from "node:fs/promises";
import { FormatError, UsageError } from "rwkv";

export type JsonRecord = Readonly<Record<string, unknown>>;

/**
 * Reads the cases of a file; empty lines are left out.
 * @param limit - most cases to read
 * @param parse - returns the case, or a sentence that says what was expected
 * @throws UsageError if the file cannot be read, FormatError for a line that is no case, or if there is none
 */
export async function readCases<Case extends object>(
  path: string,
  limit: number,
  parse: (record: JsonRecord) => Case | string,
): Promise<Case[]> {
  const cases: Case[] = [];
  const lines = (await readText(path)).split("\n");
  for (const [i, line] of lines.entries()) {
    if (cases.length === limit) break;
    if (line.trim() === "") continue;
    const where = `${path}: line ${i + 1}`;
    const found = parse(parseRecord(line, where));
    if (typeof found === "string") throw new FormatError(`${where}: ${found}`);
    cases.push(found);
  }
  if (cases.length > 0) return cases;
  throw new FormatError(`${path}: has no cases; expected one JSON object a line.`);
}

/**
 * A text file, in UTF-8, without its byte order mark.
 * @throws UsageError if it cannot be read
 */
export async function readText(path: string): Promise<string> {
  try {
    return new TextDecoder().decode(await readFile(path));
  } catch (cause) {
    throw new UsageError(`${path} cannot be read: ${(cause as Error).message}.`, { cause });
  }
}

function parseRecord(line: string, where: string): JsonRecord {
  let value: unknown;
  try {
    value = JSON.parse(line);
  } catch (cause) {
    throw new FormatError(`${where}: is no JSON (${(cause as Error).message}).`, { cause });
  }
  if (typeof value === "object" && value !== null && !Array.isArray(value)) return value as JsonRecord;
  throw new FormatError(`${where}: expected a JSON object, found ${shown(value)}.`);
}

/** A value in a few words, for messages. */
export function shown(value: unknown): string {
  if (value === undefined) return "nothing";
  const json = JSON.stringify(value);
  return json.length <= 60 ? json : `${json.slice(0, 60)}...`;
}
