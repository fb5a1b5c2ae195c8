import fc from "fast-check";
import { describe, expect, test } from "vitest";
import { UsageError } from "../core/errors.ts";
import {
  CHAT_TEMPLATES,
  G1_CHAT,
  PILE_QA,
  PILE_TEXT,
  RAVEN_CHAT,
  RAVEN_INSTRUCT,
  templateOfModel,
  WORLD_CHAT,
} from "./formats.ts";
import { chatParts, renderChat } from "./render.ts";
import { END_OF_TEXT, type ChatMessage } from "./template.ts";

const TALK: ChatMessage[] = [
  { role: "user", content: "Who are you?" },
  { role: "assistant", content: "A model." },
  { role: "user", content: "Which one?" },
];

describe("renderChat", () => {
  test("World: one question, and several turns", () => {
    expect(renderChat(TALK.slice(0, 1))).toBe("User: Who are you?\n\nAssistant:");
    expect(renderChat(TALK)).toBe(
      "User: Who are you?\n\nAssistant: A model.\n\nUser: Which one?\n\nAssistant:",
    );
    expect(renderChat([{ role: "system", content: "Be brief." }, TALK[0]!])).toBe(
      "System: Be brief.\n\nUser: Who are you?\n\nAssistant:",
    );
  });

  test("G1: the tails of the think modes, tags left open", () => {
    const question = TALK.slice(0, 1);
    expect(renderChat(question, G1_CHAT)).toBe("User: Who are you?\n\nAssistant:");
    expect(renderChat(question, G1_CHAT, "on")).toBe("User: Who are you?\n\nAssistant: <think");
    expect(renderChat(question, G1_CHAT, "fast")).toBe("User: Who are you?\n\nAssistant: <think>\n</think");
    expect(() => renderChat(question, WORLD_CHAT, "on")).toThrow(
      /Think mode "on" is not in the format "world", which has off/,
    );
  });

  test("Pile: text that goes on, with lines trimmed and empty ones dropped", () => {
    const poem = "  Roses are red, \r\n\n\u3000Violets are";
    expect(renderChat([{ role: "user", content: poem }], PILE_TEXT)).toBe("\nRoses are red,\nViolets are");
    expect(renderChat(TALK, PILE_TEXT)).toBe("\nWho are you? A model.\nWhich one?");
  });

  test("Pile: questions and answers of one line", () => {
    expect(renderChat(TALK, PILE_QA)).toBe("\nQ: Who are you?\nA: A model.\nQ: Which one?\nA:");
    expect(renderChat([{ role: "user", content: "One\n\n\ntwo\r\nthree?" }], PILE_QA)).toBe(
      "\nQ: One two three?\nA:",
    );
  });

  test("Raven: Bob and Alice behind an introduction, or behind a system message", () => {
    const text = renderChat(TALK, RAVEN_CHAT);
    expect(text).toMatch(/^\n[^\n]*\bBob\b[^\n]*\bAlice\b[^\n]*\n\nBob: /);
    expect(text.endsWith("\n\nBob: Who are you?\n\nAlice: A model.\n\nBob: Which one?\n\nAlice:")).toBe(true);
    expect(renderChat([{ role: "system", content: "Two friends talk." }, TALK[0]!], RAVEN_CHAT)).toBe(
      "\nTwo friends talk.\n\nBob: Who are you?\n\nAlice:",
    );
  });

  test("Raven: an instruction", () => {
    expect(renderChat([{ role: "user", content: "Name a colour." }], RAVEN_INSTRUCT)).toBe(
      "\nBelow is an instruction that describes a task. Write a response that appropriately completes the request." +
        "\n\n# Instruction:\nName a colour.\n\n# Response:\n",
    );
  });

  test("words are cleaned: ends trimmed, line ends unified, empty lines closed up", () => {
    const content = "\r\n  First.\r\n\r\n\r\nSecond.\rThird.\n\n\n ";
    expect(renderChat([{ role: "user", content }])).toBe("User: First.\nSecond.\nThird.\n\nAssistant:");
    expect(renderChat([{ role: "user", content: " \n\n " }])).toBe("User:\n\nAssistant:");
  });

  test("what a model wrote stays to the letter, thoughts and paragraphs included", () => {
    const written = " <think>\nHm.\n\n</think>\nOne.\n\nTwo.";
    const messages: ChatMessage[] = [
      TALK[0]!,
      { role: "assistant", content: "One.\n\nTwo.", written },
      TALK[2]!,
    ];
    expect(renderChat(messages, G1_CHAT)).toBe(
      `User: Who are you?\n\nAssistant:${written}\n\nUser: Which one?\n\nAssistant:`,
    );
  });

  test("no words begin a turn of their own, nor end the text", () => {
    const message = fc.record({
      role: fc.constantFrom("system" as const, "user" as const),
      content: fc.string({ unit: fc.constantFrom("\n", "\r", " ", "a", END_OF_TEXT, "User:", "Q:", "Bob:") }),
    });
    const template = fc.constantFrom(WORLD_CHAT, G1_CHAT, RAVEN_CHAT, PILE_QA);
    fc.assert(
      fc.property(fc.array(message, { minLength: 1 }), template, (messages, { turns, start, ...rest }) => {
        const all = { turns, start, ...rest, introduction: "" };
        const text = renderChat(messages, all).slice(start.length);
        const parts = text.split(turns.user.end);
        expect(parts).toHaveLength(messages.length + 1);
        messages.forEach(({ role }, i) => expect(parts[i]!.startsWith(turns[role].label)).toBe(true));
        expect(text).not.toContain(END_OF_TEXT);
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

test("stop strings are how the next turn of the user begins, or ends of the assistant's", () => {
  const question = TALK.slice(0, 1);
  for (const template of CHAT_TEMPLATES.values()) {
    const next = renderChat([...question, { role: "assistant", content: "yes" }, TALK[2]!], template);
    const behind = next.slice(next.indexOf("yes") + 3);
    for (const stop of template.stop) expect(behind.startsWith(stop), template.name).toBe(true);
  }
});

test.each([
  ["rwkv7-g1d-0.1b-20260129-ctx8192.pth", 65536, "g1"],
  ["RWKV7-G1j-1.5B-Q8_0.gguf", 65536, "g1"],
  ["rwkv7a-g1b-0.1b-20250819-ctx4096.pth", 65536, "g1"],
  ["rwkv7-g0a3-7.2b-20251029-ctx8192.pth", 65536, "g1"],
  ["RWKV-x070-World-0.1B-v2.8-20241210-ctx4096.pth", 65536, "world"],
  ["RWKV-4-World-3B-v1-20230619-ctx4096.pth", 65536, "world"],
  ["RWKV-4-Raven-1B5-v12-Eng98%-Other2%-20230520-ctx4096.pth", 50277, "raven"],
  ["RWKV-4-Pile-169M-20220807-8023.pth", 50277, "pile"],
  ["RWKV-x070-Pile-168M-20241120-ctx4096.pth", 50304, "pile"],
  ["model.safetensors", 65536, "world"],
  ["model.safetensors", 2048, "world"],
])("%s with %i ids speaks %s", (name, nVocab, format) => {
  expect(templateOfModel([name], nVocab).name).toBe(format);
});
