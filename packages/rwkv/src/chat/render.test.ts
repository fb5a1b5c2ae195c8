import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UsageError } from "../core/errors.ts";
import { chatParts, renderChat } from "./render.ts";
import { WORLD_CHAT, type ChatMessage } from "./template.ts";

const TALK: ChatMessage[] = [
  { role: "user", content: "Who are you?" },
  { role: "assistant", content: "A model." },
  { role: "user", content: "Which one?" },
];

describe("renderChat", () => {
  test("one question, and several turns", () => {
    expect(renderChat(TALK.slice(0, 1))).toBe("User: Who are you?\n\nAssistant:");
    expect(renderChat(TALK)).toBe(
      "User: Who are you?\n\nAssistant: A model.\n\nUser: Which one?\n\nAssistant:",
    );
    expect(renderChat([{ role: "system", content: "Be brief." }, TALK[0]!])).toBe(
      "System: Be brief.\n\nUser: Who are you?\n\nAssistant:",
    );
  });

  test("words are cleaned: ends trimmed, line ends unified, empty lines closed up", () => {
    const content = "\r\n  First.\r\n\r\n\r\nSecond.\rThird.\n\n\n ";
    expect(renderChat([{ role: "user", content }])).toBe("User: First.\nSecond.\nThird.\n\nAssistant:");
    expect(renderChat([{ role: "user", content: " \n\n " }])).toBe("User:\n\nAssistant:");
  });

  test("no words begin a turn of their own", () => {
    const message = fc.record({
      role: fc.constantFrom("system" as const, "user" as const),
      content: fc.string({ unit: fc.constantFrom("\n", "\r", " ", "a", "User:", "Assistant:") }),
    });
    fc.assert(
      fc.property(fc.array(message, { minLength: 1 }), (messages) => {
        const turns = renderChat(messages).split("\n\n");
        expect(turns).toHaveLength(messages.length + 1);
        messages.forEach(({ role }, i) => expect(turns[i]!.startsWith(WORLD_CHAT.labels[role])).toBe(true));
      }),
    );
  });

  test("what cannot be answered is refused", () => {
    expect(() => renderChat([])).toThrow(UsageError);
    expect(() => renderChat([])).toThrow(/at least one message/);
    expect(() => renderChat(TALK.slice(0, 2))).toThrow(/The last message is the assistant's/);
    const stranger = [{ role: "constructor", content: "hi" }] as unknown as ChatMessage[];
    expect(() => renderChat(stranger)).toThrow(/role "constructor"; expected one of system, user, assistant/);
  });
});

test("chatParts tells the assistant's words, with the end of its turn, from the rest", () => {
  const parts = chatParts(TALK.slice(0, 2));
  expect(parts.filter(({ isAnswer }) => isAnswer)).toEqual([{ text: " A model.\n\n", isAnswer: true }]);
  expect(parts.map(({ text }) => text).join("")).toBe("User: Who are you?\n\nAssistant: A model.\n\n");
});
