// How a conversation becomes a text, as data: the words for it. The forms of each era stand in formats.ts.

/** Who says something. */
export type ChatRole = "system" | "user" | "assistant";

/** One turn of a conversation. */
export interface ChatMessage {
  readonly role: ChatRole;
  readonly content: string;
  /**
   * What a model wrote for this turn of the assistant, to the letter: with thoughts and paragraphs. Where it is known it is
   * what later turns follow on.
   */
  readonly written?: string | undefined;
}

/**
 * Whether a model of the G1 family thinks before it answers: `off` leaves it to the model, `on` opens a thought, `fast`
 * gives it an empty one, so that it answers at once.
 */
export type ThinkMode = "off" | "on" | "fast";

/** All think modes. */
export const THINK_MODES: readonly ThinkMode[] = ["off", "on", "fast"];

/** What stands around the words of a turn. */
export interface TurnForm {
  /** Before the turn. A prompt ends with the assistant's, so that the model goes on with `lead`. */
  readonly label: string;
  /** Between label and words; left out where there are no words. */
  readonly lead: string;
  /** After the words. */
  readonly end: string;
}

/**
 * What becomes of line breaks inside the words: `single` closes up empty lines, since an empty line ends a turn; `none`
 * joins all lines; `lines` trims each line and drops the empty ones.
 */
export type LineBreaks = "single" | "none" | "lines";

/** The form of conversations that a family of models was trained on. */
export interface ChatTemplate {
  readonly name: string;
  /** What every conversation begins with. */
  readonly start: string;
  /** What follows `start` where the first message is not the system's; empty for most. */
  readonly introduction: string;
  readonly turns: Readonly<Record<ChatRole, TurnForm>>;
  readonly lineBreaks: LineBreaks;
  /** What stands behind the assistant's label, by think mode. A model without thoughts has `off` alone. */
  readonly tails: Readonly<Partial<Record<ThinkMode, string>>>;
  /** Strings at which an answer has ended, beside the tokenizer's end of text; option `stop` of `generate`. */
  readonly stop: readonly string[];
}

/**
 * Stands in a rendered text for the id that ends a text, which no text encodes to. It is no character, and words lose it.
 */
export const END_OF_TEXT = "\uffff";
