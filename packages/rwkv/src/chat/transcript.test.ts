import { expect, test } from "vitest";
import { parseChatPrompt } from "./prompt-file.ts";
import type { ChatMessage } from "./template.ts";
import { jsonTranscript, markdownTranscript } from "./transcript.ts";

const MESSAGES: ChatMessage[] = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "One plus one?" },
  { role: "assistant", content: "Two.", written: " <think>\nEasy.\n\nReally.\n</think>\nTwo." },
];

test("markdown has a heading for each turn and quotes thoughts", () => {
  expect(markdownTranscript(MESSAGES)).toBe(
    "## System\n\nBe brief.\n\n## User\n\nOne plus one?\n\n## Assistant\n\n> Easy.\n>\n> Really.\n\nTwo.\n",
  );
  expect(markdownTranscript([])).toBe("");
});

test("JSON begins a chat again", () => {
  const json = jsonTranscript(MESSAGES, { model: "tiny" });
  expect(JSON.parse(json)).toEqual({
    model: "tiny",
    messages: [
      { role: "system", content: "Be brief." },
      { role: "user", content: "One plus one?" },
      { role: "assistant", content: "Two.", thoughts: "Easy.\n\nReally." },
    ],
  });
  expect(parseChatPrompt(json, "t.json").messages.map(({ content }) => content)).toEqual([
    "Be brief.",
    "One plus one?",
    "Two.",
  ]);
});
