// What a conversation asks of a prompt format, be it one of the templates here or a model's own in Jinja.

import { renderChat, tailOf } from "./render.ts";
import { THINK_MODES, type ChatMessage, type ChatTemplate, type ThinkMode } from "./template.ts";

/** Turns messages into the text that a model reads. */
export interface ChatFormat {
  readonly name: string;
  /** What it is made from; null for a template in Jinja. */
  readonly template: ChatTemplate | null;
  /** Strings at which an answer has ended, beside the tokenizer's end of text. */
  readonly stop: readonly string[];
  /** The modes that `render` takes. */
  readonly thinkModes: readonly ThinkMode[];
  /**
   * The text after which the model writes the assistant's next turn; the character U+FFFF stands for the id that ends a text.
   * @param messages - at least one; the last is not the assistant's
   * @throws UsageError for anything else, a mode that is not among `thinkModes`, or messages that the format refuses
   */
  render(messages: readonly ChatMessage[], think: ThinkMode): string;
  /** What `render` wrote of the assistant's turn itself: the beginning of its thoughts, or nothing. */
  tail(think: ThinkMode): string;
}

/** A template as a format. */
export function templateFormat(template: ChatTemplate): ChatFormat {
  return {
    name: template.name,
    template,
    stop: template.stop,
    thinkModes: THINK_MODES.filter((mode) => template.tails[mode] !== undefined),
    render: (messages, think) => renderChat(messages, template, think),
    tail: (think) => tailOf(template, think),
  };
}
