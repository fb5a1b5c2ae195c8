// How a conversation becomes a text, as data: one object for each family of models. Source: the official prompt formats in
// BlinkDL/ChatRWKV.

/** Who says something. */
export type ChatRole = "system" | "user" | "assistant";

/** One turn of a conversation. */
export interface ChatMessage {
  readonly role: ChatRole;
  readonly content: string;
}

/** The form of conversations that a family of models was trained on. */
export interface ChatTemplate {
  readonly name: string;
  /** What stands before a turn; a space follows it, and belongs to the words. */
  readonly labels: Readonly<Record<ChatRole, string>>;
  /** What ends a turn; words inside a turn never contain it. */
  readonly turnEnd: string;
  /** Strings at which an answer has ended, beside the tokenizer's end of text; options `stop` of `generate`. */
  readonly stop: readonly string[];
}

/**
 * World models, v4 to v7, G1 among them: `User: ...`, an empty line, `Assistant:`. Answers of several paragraphs contain
 * empty lines, so that only the next turn's label ends one.
 */
export const WORLD_CHAT: ChatTemplate = {
  name: "world",
  labels: { system: "System:", user: "User:", assistant: "Assistant:" },
  turnEnd: "\n\n",
  stop: ["\n\nUser:"],
};
