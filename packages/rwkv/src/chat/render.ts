// From messages to the text that a model reads. Hides how words are cleaned, so that nobody ends his turn unawares.

import { UsageError } from "../core/errors.ts";
import { WORLD_CHAT, type ChatMessage, type ChatTemplate } from "./template.ts";

/** A stretch of a conversation's text. */
export interface ChatPart {
  readonly text: string;
  /** Whether the assistant says it; the end of its turn included. Training on answers counts these alone. */
  readonly isAnswer: boolean;
}

/**
 * The text after which the model writes the assistant's next turn. It ends right behind the label, without a space: that
 * belongs to the first token of the answer.
 * @param messages - at least one; the last is not the assistant's
 * @throws UsageError for anything else
 */
export function renderChat(messages: readonly ChatMessage[], template: ChatTemplate = WORLD_CHAT): string {
  if (messages.at(-1)?.role === "assistant") {
    throw new UsageError(
      "The last message is the assistant's, so that there is nothing to answer. Add one of the user, or leave it out.",
    );
  }
  const parts = chatParts(messages, template).map(({ text }) => text);
  return parts.join("") + template.labels.assistant;
}

/**
 * A whole conversation in parts, each turn with its end: what a model is trained on.
 * @throws UsageError for no messages or an unknown role
 */
export function chatParts(messages: readonly ChatMessage[], template: ChatTemplate = WORLD_CHAT): ChatPart[] {
  if (messages.length === 0)
    throw new UsageError("A conversation needs at least one message, but there is none.");
  return messages.flatMap(({ role, content }) => {
    if (!Object.hasOwn(template.labels, role)) {
      throw new UsageError(
        `A message has the role ${JSON.stringify(role)}; expected one of ${Object.keys(template.labels).join(", ")}.`,
      );
    }
    const words = cleaned(content);
    return [
      { text: template.labels[role], isAnswer: false },
      { text: `${words === "" ? "" : ` ${words}`}${template.turnEnd}`, isAnswer: role === "assistant" },
    ];
  });
}

/** Without white space at the ends, with single line breaks: an empty line would end the turn. */
function cleaned(text: string): string {
  return text
    .replace(/\r\n?/g, "\n")
    .replace(/\n{2,}/g, "\n")
    .trim();
}
