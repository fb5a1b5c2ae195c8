// A conversation for people and other programs to read.

import type { ChatMessage } from "./template.ts";
import { splitThoughts } from "./thoughts.ts";

const HEADINGS = { system: "System", user: "User", assistant: "Assistant" } as const;

/** Markdown with a heading for each turn; thoughts are quoted. Ends with a line break. */
export function markdownTranscript(messages: readonly ChatMessage[]): string {
  return messages
    .map((message) => {
      const thoughts = thoughtsOf(message);
      const quoted = thoughts === null ? "" : `${thoughts.replace(/^/gm, "> ").replace(/ +$/gm, "")}\n\n`;
      return `## ${HEADINGS[message.role]}\n\n${quoted}${message.content}\n`;
    })
    .join("\n");
}

/**
 * JSON: `{"messages": [{"role", "content", "thoughts"?}, ...]}`, which `parseChatPrompt` reads. Ends with a line break.
 * @param details - further members of the object, such as the model's name
 */
export function jsonTranscript(
  messages: readonly ChatMessage[],
  details: Readonly<Record<string, unknown>> = {},
): string {
  const turns = messages.map((message) => {
    const { role, content } = message;
    const thoughts = thoughtsOf(message);
    return thoughts === null ? { role, content } : { role, content, thoughts };
  });
  return `${JSON.stringify({ ...details, messages: turns }, null, 2)}\n`;
}

function thoughtsOf({ role, written }: ChatMessage): string | null {
  return role === "assistant" && written !== undefined ? splitThoughts(written).thoughts : null;
}
