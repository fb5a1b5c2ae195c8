import { describe, expect, test } from "vitest";
import { bytesSource } from "../../core/byte-source.ts";
import type { Checkpoint, CheckpointFormat, MetadataValue } from "../../formats/checkpoint.ts";
import { findChatTemplate } from "./find-template.ts";
import type { OpenedFile } from "../source.ts";

function checkpoint(format: CheckpointFormat, metadata: Record<string, MetadataValue> = {}): Checkpoint {
  return {
    format,
    name: "model",
    formatVersion: null,
    tensors: new Map(),
    metadata: new Map(Object.entries(metadata)),
    close: () => Promise.resolve(),
  };
}

/** A folder of files in memory. */
function folder(files: Record<string, string>, hasLocalFolder = true): OpenedFile {
  const encoder = new TextEncoder();
  return {
    source: bytesSource(new Uint8Array(0)),
    hasLocalFolder,
    openBeside: (fileName) => {
      const text = files[fileName];
      return Promise.resolve(text === undefined ? null : bytesSource(encoder.encode(text), fileName));
    },
  };
}

describe("in a GGUF", () => {
  test("the template and the text of id 0", async () => {
    const metadata = { "tokenizer.chat_template": "{{ 1 }}", "tokenizer.ggml.tokens": ["<s>", "a"] };
    expect(await findChatTemplate(checkpoint("gguf", metadata), folder({}))).toEqual({
      name: "model",
      template: "{{ 1 }}",
      specialTokens: ["<s>"],
    });
  });

  test("the keyword for World models is no template, and nothing beside the file counts", async () => {
    const beside = folder({ "chat_template.jinja": "{{ 2 }}" });
    const world = checkpoint("gguf", { "tokenizer.chat_template": "rwkv-world" });
    expect(await findChatTemplate(world, beside)).toBeNull();
    expect(await findChatTemplate(checkpoint("gguf"), beside)).toBeNull();
  });
});

describe("beside safetensors", () => {
  const model = checkpoint("safetensors");

  test("a file of its own comes before the configuration, which has the special tokens", async () => {
    const config = JSON.stringify({
      bos_token: "<s>",
      eos_token: { content: "</s>" },
      chat_template: "{{ 1 }}",
    });
    const specialTokens = ["<s>", "</s>"];
    const files = { "tokenizer_config.json": config, "chat_template.jinja": "{{ 2 }}" };
    expect(await findChatTemplate(model, folder(files))).toEqual({
      name: "chat_template.jinja",
      template: "{{ 2 }}",
      specialTokens,
    });
    expect(await findChatTemplate(model, folder({ "tokenizer_config.json": config }))).toEqual({
      name: "tokenizer_config.json",
      template: "{{ 1 }}",
      specialTokens,
    });
  });

  test("of several templates the one called default", async () => {
    const chat_template = [
      { name: "tool_use", template: "{{ 1 }}" },
      { name: "default", template: "{{ 2 }}" },
    ];
    const files = { "tokenizer_config.json": JSON.stringify({ chat_template }) };
    expect(await findChatTemplate(model, folder(files))).toMatchObject({ template: "{{ 2 }}" });
  });

  test("without files, without a template or without a local folder there is none", async () => {
    expect(await findChatTemplate(model, folder({}))).toBeNull();
    expect(await findChatTemplate(model, folder({ "tokenizer_config.json": "{}" }))).toBeNull();
    expect(await findChatTemplate(model, folder({ "chat_template.jinja": "x" }, false))).toBeNull();
    expect(await findChatTemplate(checkpoint("pth"), folder({ "chat_template.jinja": "x" }))).toBeNull();
  });

  test("a damaged configuration is an error that names it", async () => {
    for (const text of ["{", "[]"]) {
      const files = folder({ "tokenizer_config.json": text });
      await expect(findChatTemplate(model, files)).rejects.toThrow(/^tokenizer_config\.json: expected /);
    }
    const large = folder({ "chat_template.jinja": "x".repeat(16 * 2 ** 20 + 1) });
    await expect(findChatTemplate(model, large)).rejects.toThrow(/has 16777217 bytes; expected at most/);
  });
});
