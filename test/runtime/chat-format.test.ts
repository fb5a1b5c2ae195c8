// Which prompt format a model speaks, by what lies beside its file and what it is called.

import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { chatFormat, loadModel, type ChatFormat, type ChatMessage } from "../../packages/rwkv/src/node.ts";
import { temporaryFolder } from "../support/cli.ts";
import { tinyModel } from "../support/tiny-model.ts";

const folder = temporaryFolder();
afterAll(() => folder.remove());

const QUESTION: ChatMessage[] = [{ role: "user", content: "Hi" }];

/** The format of a tiny model of this file name, with this template beside it. */
async function formatOf(fileName: string, template: string | null, choice?: string): Promise<ChatFormat> {
  const path = join(folder.path, fileName.replaceAll(/\W/g, "-") + String(template?.length));
  mkdirSync(path, { recursive: true });
  writeFileSync(join(path, fileName), tinyModel());
  if (template !== null) writeFileSync(join(path, "chat_template.jinja"), template);
  await using model = await loadModel(join(path, fileName), { threads: 1 });
  return await chatFormat(model, choice);
}

const worldTurns = (tail: string): string =>
  "{% for m in messages %}{{ {'user': 'User', 'assistant': 'Assistant', 'system': 'System'}[m.role] }}: " +
  `{{ m.content | trim }}{{ '\\n\\n' }}{% endfor %}Assistant:${tail}`;

describe("auto", () => {
  test("goes by the file's name", async () => {
    expect((await formatOf("model.safetensors", null)).name).toBe("world");
    expect((await formatOf("rwkv7-g1d-0.1b.safetensors", null)).name).toBe("g1");
  });

  test("takes the model's own template where it says something else", async () => {
    const template = "{% for m in messages %}[{{ m.role }}]{{ m.content }}[/]{% endfor %}[assistant]";
    const format = await formatOf("rwkv7-g1d-0.1b.safetensors", template);
    expect(format.name).toBe("jinja");
    expect(format.stop).toEqual(["[/][user]"]);
    expect(format.render(QUESTION, "off")).toBe("[user]Hi[/][assistant]");
  });

  test("takes the official form where the template says the same, with thoughts if it knows of them", async () => {
    expect((await formatOf("model.safetensors", worldTurns(""))).name).toBe("world");
    const tail = "{% if enable_thinking %} <think>{% endif %}";
    const format = await formatOf("model.safetensors", worldTurns(tail));
    expect(format.name).toBe("g1");
    expect(format.render(QUESTION, "on")).toBe("User: Hi\n\nAssistant: <think");
  });
});

describe("a choice", () => {
  test("by name, or the template as it is", async () => {
    expect((await formatOf("model.safetensors", worldTurns(""), "raven-instruct")).name).toBe(
      "raven-instruct",
    );
    const format = await formatOf("model.safetensors", worldTurns(" "), "jinja");
    expect(format.render(QUESTION, "off")).toBe("User: Hi\n\nAssistant: ");
  });

  test("that is unknown, or a template that is not there, is refused", async () => {
    await expect(formatOf("model.safetensors", null, "worlds")).rejects.toThrow(
      /Unknown prompt format "worlds"; expected one of auto, world, g1, raven, raven-instruct, pile, pile-qa, jinja/,
    );
    await expect(formatOf("model.safetensors", null, "jinja")).rejects.toThrow(
      /^model\.safetensors brings no chat template along/,
    );
  });
});
