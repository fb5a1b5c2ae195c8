import { mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { createByteTokenizer, FormatError, UsageError } from "rwkv";
import { readDocuments, type Documents } from "./documents.ts";

const tokenizer = createByteTokenizer();
let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), "rwkv-documents-"));
});
afterAll(() => rm(folder, { recursive: true }));

async function read(lines: string, answersOnly = false): Promise<Documents> {
  const path = join(folder, "data.jsonl");
  await writeFile(path, lines);
  return readDocuments([path], { tokenizer, answersOnly });
}

function textsOf({ tokens, starts }: Documents): string[] {
  return [...starts.slice(1)].map((end, i) => tokenizer.decode(tokens.slice(starts[i], end)));
}

const CHAT = JSON.stringify({
  messages: [
    { role: "system", content: "Be kind." },
    { role: "user", content: " Hi,\r\n\r\nyou! " },
    { role: "assistant", content: "Hello." },
    { role: "user", content: "Bye." },
    { role: "assistant", content: "Bye." },
  ],
});

test("texts are taken as they are, messages in the World format, empty lines not at all", async () => {
  const documents = await read(`{"text": "One\\n"}\n\n${CHAT}\n`);
  expect(textsOf(documents)).toEqual([
    "One\n",
    "System: Be kind.\n\nUser: Hi,\nyou!\n\nAssistant: Hello.\n\nUser: Bye.\n\nAssistant: Bye.\n\n",
  ]);
  expect(documents.learnt).toBeNull();
});

test("answersOnly learns what the assistant says with the end of its turn, and texts whole", async () => {
  const { tokens, learnt } = await read(`{"text": "One"}\n${CHAT}`, true);
  const kept = tokens.filter((_, i) => learnt![i] === 1);
  expect(tokenizer.decode(kept)).toBe("One Hello.\n\n Bye.\n\n");
});

test.each([
  ["not json", "line 2: is not JSON"],
  ['{"txt": "a"}', "line 2: expected"],
  ['{"messages": []}', "line 2: expected"],
  ['{"messages": [{"role": "robot", "content": "a"}]}', "line 2: expected"],
  ['{"messages": [{"role": "user"}]}', "line 2: expected"],
  ['["a"]', "line 2: expected"],
])("%s is refused with its place", async (line, message) => {
  const attempt = read(`{"text": "a"}\n${line}\n`);
  await expect(attempt).rejects.toThrow(FormatError);
  await expect(attempt).rejects.toThrow(message);
});

test("files without a text, or that cannot be read, are errors of use", async () => {
  await expect(read('\n{"text": ""}\n')).rejects.toThrow("no line holds a text");
  const missing = readDocuments([join(folder, "missing.jsonl")], { tokenizer, answersOnly: false });
  await expect(missing).rejects.toThrow(UsageError);
  await expect(missing).rejects.toThrow("Check data.files");
});
