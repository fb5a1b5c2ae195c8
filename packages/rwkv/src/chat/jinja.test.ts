import { describe, expect, test } from "vitest";
import { FormatError, UsageError } from "../core/errors.ts";
import { jinjaFormat } from "./jinja.ts";
import type { ChatMessage } from "./template.ts";

/** As converters write it for World models: turns of words, trimmed, with the thoughts of the past left out. */
const WORLD = `{{ bos_token }}{% for message in messages %}
{%- if message.role == 'system' %}{{ 'System: ' + message.content | trim + '\\n\\n' }}
{%- elif message.role == 'user' %}{{ 'User: ' + message.content | trim + '\\n\\n' }}
{%- else %}{{ 'Assistant: ' + (message.content.split('</think>') | last | trim) + '\\n\\n' }}{% endif %}
{%- endfor %}
{%- if add_generation_prompt %}Assistant:
{%- if enable_thinking is defined and enable_thinking is false %}{{ ' <think>\\n</think>' }}{% endif %}
{%- if enable_thinking is defined and enable_thinking is true %}{{ ' <think>' }}{% endif %}{% endif %}`;

/** The widespread form with a token at each end of a turn. */
const TURNS = `{% for m in messages %}<|im_start|>{{ m.role }}
{{ m.content }}<|im_end|>
{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant
{% endif %}`;

const open = (template: string, specialTokens: string[] = []): ReturnType<typeof jinjaFormat> =>
  jinjaFormat({ name: "model.gguf", template, specialTokens });

const TALK: ChatMessage[] = [
  { role: "system", content: "Be brief." },
  { role: "user", content: "One\r\n\r\nplus one?" },
  { role: "assistant", content: "Two.", written: " <think>\nEasy.\n</think>\nTwo." },
  { role: "user", content: "And two?" },
];

describe("a template of the World form", () => {
  test("renders turns, with the end-of-text token first", async () => {
    const format = await open(WORLD);
    expect(format.render(TALK, "off")).toBe(
      "\uffffSystem: Be brief.\n\nUser: One\nplus one?\n\nAssistant: Two.\n\nUser: And two?\n\nAssistant:",
    );
    expect(format.stop).toEqual(["\n\nUser:"]);
  });

  test("has think modes by enable_thinking", async () => {
    const format = await open(WORLD);
    const question: ChatMessage[] = [{ role: "user", content: "Hi" }];
    expect(format.thinkModes).toEqual(["off", "on", "fast"]);
    expect(format.render(question, "on")).toBe("\uffffUser: Hi\n\nAssistant: <think>");
    expect(format.tail("off")).toBe("");
    expect(format.tail("on")).toBe(" <think>");
    expect(format.tail("fast")).toBe(" <think>\n</think>");
  });
});

describe("a template with tokens around its turns", () => {
  test("keeps empty lines, and an answer ends where its turn does", async () => {
    const format = await open(TURNS);
    const content = "def f():\r\n\r\n    return 1 ";
    expect(format.render([{ role: "user", content }], "off")).toBe(
      "<|im_start|>user\ndef f():\n\n    return 1<|im_end|>\n<|im_start|>assistant\n",
    );
    expect(format.stop).toEqual(["<|im_end|>"]);
    expect(format.thinkModes).toEqual(["off"]);
  });
});

test("special tokens that are spelt out become the end of text, but not those in the words of a message", async () => {
  const template = "<s>{% for m in messages %}{{ m.content }}</s>{% endfor %}";
  const format = await open(template, ["<s>", "</s>", ""]);
  expect(format.render([{ role: "user", content: "What is </s>?\uffff" }], "off")).toBe(
    "\uffffWhat is </s>?\uffff",
  );
  expect(format.stop).toEqual([]);
});

describe("a template that fails", () => {
  test("in its syntax, naming the file", async () => {
    await expect(open("{% for %}")).rejects.toThrow(FormatError);
    await expect(open("{{ 'a")).rejects.toThrow(
      /^model\.gguf: the chat template is no Jinja that can be read/,
    );
    await expect(open(" ".repeat(1_000_001))).rejects.toThrow(/has 1000001 characters, more than 1000000/);
  });

  test("because it refuses the messages", async () => {
    const template =
      "{% if messages[0].role == 'system' %}{{ raise_exception('no system here') }}{% endif %}x";
    const format = await open(template);
    expect(() => format.render(TALK, "off")).toThrow(UsageError);
    expect(() => format.render(TALK, "off")).toThrow(/refuses these messages \(no system here\)/);
    await expect(open("{{ raise_exception('never') }}")).rejects.toThrow(/refuses these messages \(never\)/);
  });

  test("because there is nothing to answer", async () => {
    const format = await open(WORLD);
    expect(() => format.render(TALK.slice(0, 3), "off")).toThrow(/nothing to answer/);
  });
});
