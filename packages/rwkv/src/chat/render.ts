// From messages to the text that a model reads, by a template.

import { UsageError } from "../core/errors.ts";
import { cleanWords } from "./clean.ts";
import { WORLD_CHAT } from "./formats.ts";
import type { ChatMessage, ChatTemplate, ThinkMode } from "./template.ts";

/** A stretch of a conversation's text. */
export interface ChatPart {
  readonly text: string;
  /** Whether the assistant says it; the end of its turn included. Training on answers counts these alone. */
  readonly isAnswer: boolean;
}

/**
 * The text after which the model writes the assistant's next turn. In World models it ends right behind the label, without a
 * space: that belongs to the first token of the answer.
 * @param messages - at least one; the last is not the assistant's
 * @param think - default `off`
 * @throws UsageError for anything else, or a think mode that the template lacks
 */
export function renderChat(
  messages: readonly ChatMessage[],
  template: ChatTemplate = WORLD_CHAT,
  think: ThinkMode = "off",
): string {
  checkAnswerable(messages);
  const parts = chatParts(messages, template).map(({ text }) => text);
  return parts.join("") + template.turns.assistant.label + tailOf(template, think);
}

/**
 * A whole conversation in parts, each turn with its end: what a model is trained on.
 * @throws UsageError for no messages or an unknown role
 */
export function chatParts(messages: readonly ChatMessage[], template: ChatTemplate = WORLD_CHAT): ChatPart[] {
  checkMessages(messages);
  const introduction = messages[0]!.role === "system" ? "" : template.introduction;
  const start = template.start + introduction;
  const parts = messages.flatMap((message) => {
    const { label, end } = template.turns[message.role];
    return [
      { text: label, isAnswer: false },
      { text: said(message, template) + end, isAnswer: message.role === "assistant" },
    ];
  });
  return start === "" ? parts : [{ text: start, isAnswer: false }, ...parts];
}

/** @throws UsageError for no messages, an unknown role, or nothing to answer */
export function checkAnswerable(messages: readonly ChatMessage[]): void {
  checkMessages(messages);
  if (messages.at(-1)!.role === "assistant") {
    throw new UsageError(
      "The last message is the assistant's, so that there is nothing to answer. Add one of the user, or leave it out.",
    );
  }
}

/** @throws UsageError for no messages or an unknown role */
function checkMessages(messages: readonly ChatMessage[]): void {
  if (messages.length === 0)
    throw new UsageError("A conversation needs at least one message, but there is none.");
  for (const { role } of messages) {
    if (Object.hasOwn(WORLD_CHAT.turns, role)) continue;
    throw new UsageError(
      `A message has the role ${JSON.stringify(role)}; expected one of ${Object.keys(WORLD_CHAT.turns).join(", ")}.`,
    );
  }
}

/**
 * What stands behind the assistant's label.
 * @throws UsageError for a think mode that the template lacks
 */
export function tailOf({ name, tails }: ChatTemplate, think: ThinkMode): string {
  const tail = tails[think];
  if (tail !== undefined) return tail;
  throw new UsageError(
    `Think mode "${think}" is not in the format "${name}", which has ${Object.keys(tails).join(", ")}. ` +
      `Models of the G1 family think: use the format "g1".`,
  );
}

/** The words with what leads to them; what a model wrote stays as it is. */
function said({ role, content, written }: ChatMessage, template: ChatTemplate): string {
  if (role === "assistant" && written !== undefined) return written;
  const words = cleanWords(content, template.lineBreaks);
  return words === "" ? "" : template.turns[role].lead + words;
}
