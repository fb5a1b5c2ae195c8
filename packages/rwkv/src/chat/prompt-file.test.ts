import { describe, expect, test } from "vitest";
import { FormatError } from "../core/errors.ts";
import { parseChatPrompt } from "./prompt-file.ts";
import { renderChat } from "./render.ts";
import type { ChatMessage } from "./template.ts";

const QUESTION: ChatMessage = { role: "user", content: "And you?" };

describe("the form of web-rwkv", () => {
  test("names the speakers, in texts and before turns", () => {
    const file = {
      user: "Player",
      bot: " Mia ",
      intro: "{bot} talks to {user}.\n",
      text: [["Hi {bot}!", " Hello, {user}. "]],
    };
    const { messages, template } = parseChatPrompt(JSON.stringify(file), "p.json");
    expect(renderChat([...messages, QUESTION], template!)).toBe(
      "Mia talks to Player.\n\nPlayer: Hi Mia!\n\nMia: Hello, Player.\n\nPlayer: And you?\n\nMia:",
    );
    expect(template!.stop).toEqual(["\n\nPlayer:"]);
  });

  test("has defaults for all but one of intro and text", () => {
    const { messages, template } = parseChatPrompt('{"text": [["a", "b"]]}', "p.json");
    expect(renderChat([...messages, QUESTION], template!)).toBe(
      "User: a\n\nAssistant: b\n\nUser: And you?\n\nAssistant:",
    );
    expect(parseChatPrompt('{"intro": "x"}', "p.json").messages).toEqual([{ role: "system", content: "x" }]);
  });
});

test("a list of messages, bare or in an object", () => {
  const messages = [{ role: "system", content: "Be brief." }, QUESTION];
  for (const file of [messages, { model: "any", messages }]) {
    expect(parseChatPrompt(JSON.stringify(file), "p.json")).toEqual({ messages, template: null });
  }
});

test.each([
  ["{", /^p\.json: expected JSON, but SyntaxError/],
  ["1", /expected a list of messages/],
  ["null", /expected a list of messages/],
  ["{}", /expected a list of messages/],
  ['[{"role": "bot", "content": ""}]', /message 0 should have a "role" \(system, user, assistant\)/],
  ["[null]", /message 0 should have a "role" .*found null/],
  ['{"messages": [{"role": "user"}]}', /message 0 should have .*found \{"role":"user"\}/],
  ['[{"role": "user", "content": "a", "written": 1}]', /message 0/],
  ['{"text": [["a"]]}', /"text" 0 should be a pair of texts; found \["a"\]/],
  ['{"text": [], "user": 1}', /"user" should be text; found 1/],
])("%s is refused", (json, message) => {
  expect(() => parseChatPrompt(json, "p.json")).toThrow(FormatError);
  expect(() => parseChatPrompt(json, "p.json")).toThrow(message);
});
