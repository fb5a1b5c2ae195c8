// Files that begin a chat: the JSON form of web-rwkv's chat example (cryscan/web-rwkv, assets/prompt.json), which names the
// speakers, or a list of messages.

import { FormatError } from "../core/errors.ts";
import { WORLD_CHAT } from "./formats.ts";
import type { ChatMessage, ChatRole, ChatTemplate, TurnForm } from "./template.ts";

/** How a chat begins. */
export interface ChatPrompt {
  readonly messages: readonly ChatMessage[];
  /** The form that the file asks for by naming the speakers; null if it leaves that to the model. */
  readonly template: ChatTemplate | null;
}

const ROLES: readonly ChatRole[] = ["system", "user", "assistant"];

/**
 * Reads a prompt file: `{"user", "bot", "intro", "text": [[user, bot], ...]}`, where `{user}` and `{bot}` in the texts stand for
 * the names; or `[{"role", "content"}, ...]`, or that list as `messages` of an object.
 * @param name - what messages call the file
 * @throws FormatError naming the place that is wrong
 */
export function parseChatPrompt(json: string, name: string): ChatPrompt {
  let value: unknown;
  try {
    value = JSON.parse(json);
  } catch (cause) {
    throw new FormatError(`${name}: expected JSON, but ${String(cause)}.`, { cause });
  }
  if (Array.isArray(value)) return { messages: messagesOf(value, name), template: null };
  if (typeof value === "object" && value !== null) {
    const fields = value as Readonly<Record<string, unknown>>;
    if (Array.isArray(fields["messages"])) {
      return { messages: messagesOf(fields["messages"], name), template: null };
    }
    if (Array.isArray(fields["text"]) || typeof fields["intro"] === "string")
      return namedPrompt(fields, name);
  }
  throw new FormatError(
    `${name}: expected a list of messages {"role", "content"}, an object with "messages", or one with ` +
      `"user", "bot", "intro" and "text".`,
  );
}

function messagesOf(values: readonly unknown[], name: string): ChatMessage[] {
  return values.map((value, i) => {
    const { role, content, written } = (value ?? {}) as Readonly<Record<string, unknown>>;
    const isRole = ROLES.includes(role as ChatRole);
    if (!isRole || typeof content !== "string" || (written !== undefined && typeof written !== "string")) {
      throw new FormatError(
        `${name}: message ${i} should have a "role" (${ROLES.join(", ")}) and a "content" that is text; found ${shown(value)}.`,
      );
    }
    return { role: role as ChatRole, content, ...(written === undefined ? {} : { written }) };
  });
}

function namedPrompt(fields: Readonly<Record<string, unknown>>, name: string): ChatPrompt {
  const user = textOf(fields, "user", "User", name).trim();
  const bot = textOf(fields, "bot", "Assistant", name).trim();
  const filled = (text: string): string => text.replaceAll("{user}", user).replaceAll("{bot}", bot).trim();
  const intro = filled(textOf(fields, "intro", "", name));
  const turns = (fields["text"] ?? []) as readonly unknown[];
  const messages = turns.flatMap((pair, i): ChatMessage[] => {
    const texts: readonly unknown[] = Array.isArray(pair) ? pair : [];
    const [said, answered] = texts;
    if (texts.length !== 2 || typeof said !== "string" || typeof answered !== "string") {
      throw new FormatError(`${name}: "text" ${i} should be a pair of texts; found ${shown(pair)}.`);
    }
    return [
      { role: "user", content: filled(said) },
      { role: "assistant", content: filled(answered) },
    ];
  });
  return {
    messages: intro === "" ? messages : [{ role: "system", content: intro }, ...messages],
    template: templateOfNames(user, bot),
  };
}

/** World chat with other names; the introduction stands without a label. */
function templateOfNames(user: string, bot: string): ChatTemplate {
  const turn = (label: string): TurnForm => ({ ...WORLD_CHAT.turns.user, label });
  return {
    ...WORLD_CHAT,
    name: "prompt file",
    turns: {
      system: { label: "", lead: "", end: "\n\n" },
      user: turn(`${user}:`),
      assistant: turn(`${bot}:`),
    },
    stop: [`\n\n${user}:`],
  };
}

function textOf(
  fields: Readonly<Record<string, unknown>>,
  key: string,
  otherwise: string,
  name: string,
): string {
  const value = fields[key] ?? otherwise;
  if (typeof value === "string") return value;
  throw new FormatError(`${name}: "${key}" should be text; found ${shown(value)}.`);
}

function shown(value: unknown): string {
  const json = JSON.stringify(value);
  return json.length <= 60 ? json : `${json.slice(0, 60)}...`;
}
