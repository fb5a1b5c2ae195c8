// Finds the chat template that a model brings along: in the metadata of a GGUF, or beside safetensors in the files that the
// Hugging Face hub knows.

import type { JinjaSource } from "../../chat/jinja.ts";
import { FormatError } from "../../core/errors.ts";
import type { Checkpoint } from "../../formats/checkpoint.ts";
import { decodeFile, isRecord, parseJson } from "../../tokenizer/json.ts";
import { readAll, type OpenedFile } from "../source.ts";

/** What a GGUF has in place of a template if its model speaks World chat. */
const WORLD_KEYWORD = "rwkv-world";
const TEMPLATE_FILE = "chat_template.jinja";
const CONFIG_FILE = "tokenizer_config.json";
/** Most bytes of either file; the configuration may list thousands of added tokens. */
const MAX_FILE_BYTES = 16 * 2 ** 20;

/**
 * @returns null if there is none
 * @throws FormatError if a file beside the model is damaged
 */
export async function findChatTemplate(
  checkpoint: Checkpoint,
  opened: OpenedFile,
  signal?: AbortSignal,
): Promise<JinjaSource | null> {
  if (checkpoint.format === "gguf") return templateInGguf(checkpoint);
  if (checkpoint.format !== "safetensors" || !opened.hasLocalFolder) return null;
  const bytes = await readBeside(opened, CONFIG_FILE, signal);
  const config = bytes === null ? {} : configOf(bytes);
  const template = await readBeside(opened, TEMPLATE_FILE, signal);
  const specialTokens = ["bos_token", "eos_token"].flatMap((key) => tokenText(config[key]));
  if (template !== null) {
    return { name: TEMPLATE_FILE, template: decodeFile(template, TEMPLATE_FILE), specialTokens };
  }
  const inConfig = defaultTemplate(config["chat_template"]);
  return inConfig === null ? null : { name: CONFIG_FILE, template: inConfig, specialTokens };
}

function templateInGguf({ metadata, name }: Checkpoint): JinjaSource | null {
  const template = metadata.get("tokenizer.chat_template");
  if (typeof template !== "string" || template === WORLD_KEYWORD) return null;
  const tokens = metadata.get("tokenizer.ggml.tokens");
  const first = Array.isArray(tokens) ? (tokens as readonly unknown[])[0] : undefined;
  return { name, template, specialTokens: tokenText(first) };
}

/** A token is a text, or an object that has one. */
function tokenText(token: unknown): string[] {
  const text = isRecord(token) ? token["content"] : token;
  return typeof text === "string" ? [text] : [];
}

/** A template, or a list of them with names. */
function defaultTemplate(value: unknown): string | null {
  if (typeof value === "string") return value;
  if (!Array.isArray(value)) return null;
  const named = value.filter(isRecord).find(({ name }) => name === "default");
  const template = named?.["template"];
  return typeof template === "string" ? template : null;
}

function configOf(bytes: Uint8Array): Readonly<Record<string, unknown>> {
  const config = parseJson(bytes, CONFIG_FILE);
  if (isRecord(config)) return config;
  throw new FormatError(`${CONFIG_FILE}: expected a JSON object. It looks damaged: get it again.`);
}

async function readBeside(
  opened: OpenedFile,
  fileName: string,
  signal?: AbortSignal,
): Promise<Uint8Array | null> {
  const source = await opened.openBeside(fileName, signal);
  if (source === null) return null;
  try {
    if (source.byteLength <= MAX_FILE_BYTES) return await readAll(source, signal);
    throw new FormatError(
      `${source.name} has ${source.byteLength} bytes; expected at most ${MAX_FILE_BYTES} beside a model. Get it again.`,
    );
  } finally {
    await source.close();
  }
}
