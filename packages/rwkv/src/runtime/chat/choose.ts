// Which prompt format a model speaks: the caller's choice, or what the model says of itself.

import { templateFormat, type ChatFormat } from "../../chat/format.ts";
import { CHAT_TEMPLATES, G1_CHAT, templateOfModel, WORLD_CHAT } from "../../chat/formats.ts";
import { jinjaFormat } from "../../chat/jinja.ts";
import { END_OF_TEXT, type ChatMessage, type ChatTemplate } from "../../chat/template.ts";
import { UsageError } from "../../core/errors.ts";
import type { Model } from "../model.ts";

/** Names that `chatFormat` takes: those of the templates, the model's own, or whatever fits best. */
export const CHAT_FORMATS: readonly string[] = ["auto", ...CHAT_TEMPLATES.keys(), "jinja"];

/** By which two formats are compared. */
const TALK: readonly ChatMessage[] = [
  { role: "user", content: "One question." },
  { role: "assistant", content: "One answer." },
  { role: "user", content: "Another question." },
];

/**
 * The prompt format for a model.
 * @param choice - one of `CHAT_FORMATS`. `jinja` is the template that the model brings along. `auto`, the default, goes by the
 * names and the vocabulary of the model, and takes its own template only if that says something else: the official forms
 * leave the tags of thoughts open, as the models learnt it, where such templates close them
 * @throws UsageError for another name, or `jinja` without a template; FormatError if the model's template is damaged
 */
export async function chatFormat(model: Model, choice = "auto"): Promise<ChatFormat> {
  const named = CHAT_TEMPLATES.get(choice);
  if (named !== undefined) return templateFormat(named);
  const { chatTemplate, config } = model;
  const { name, title } = model.info;
  if (choice === "auto") {
    const template = templateOfModel(title === null ? [name] : [name, title], config.nVocab);
    if (chatTemplate === null) return templateFormat(template);
    const jinja = await jinjaFormat(chatTemplate);
    if (!saysTheSame(jinja, template)) return jinja;
    const thinks = template === WORLD_CHAT && jinja.thinkModes.includes("on");
    return templateFormat(thinks ? G1_CHAT : template);
  }
  if (choice !== "jinja") {
    throw new UsageError(`Unknown prompt format "${choice}"; expected one of ${CHAT_FORMATS.join(", ")}.`);
  }
  if (chatTemplate === null) {
    throw new UsageError(
      `${name} brings no chat template along. Choose a format by name: ${[...CHAT_TEMPLATES.keys()].join(", ")}.`,
    );
  }
  return jinjaFormat(chatTemplate);
}

/** But for an end-of-text token in front, which the official chats do without. */
function saysTheSame(jinja: ChatFormat, template: ChatTemplate): boolean {
  const text = jinja.render(TALK, "off");
  const start = text.startsWith(END_OF_TEXT) ? END_OF_TEXT : "";
  return text === start + templateFormat(template).render(TALK, "off");
}
