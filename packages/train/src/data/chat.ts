// Chat messages as World models read them: "User: ...", "Assistant: ...", turns apart by an empty line. Tells the
// assistant's words from the rest, so that a loss can be taken on them alone.

export interface ChatMessage {
  readonly role: "system" | "user" | "assistant";
  readonly content: string;
}

/** A stretch of the text. */
export interface ChatPart {
  readonly text: string;
  /** Whether the assistant says it; the empty line that ends its turn included. */
  readonly isAnswer: boolean;
}

const NAMES = { system: "System", user: "User", assistant: "Assistant" } as const;

/** An empty line would end a turn: runs of line breaks become one. */
function cleaned(text: string): string {
  return text
    .replace(/\r\n?/g, "\n")
    .replace(/\n{2,}/g, "\n")
    .trim();
}

export function renderChat(messages: readonly ChatMessage[]): ChatPart[] {
  return messages.flatMap(({ role, content }) => [
    { text: `${NAMES[role]}:`, isAnswer: false },
    { text: ` ${cleaned(content)}\n\n`, isAnswer: role === "assistant" },
  ]);
}
