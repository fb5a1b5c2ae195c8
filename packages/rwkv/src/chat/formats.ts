// The prompt formats of each era. Sources: the official chat code (BlinkDL/ChatRWKV), the model cards and the template file
// of the G1 models.

import type { ChatTemplate, TurnForm } from "./template.ts";

const turn = (label: string, lead: string, end: string): TurnForm => ({ label, lead, end });

const NO_THOUGHTS = { off: "" };

/**
 * World models, v4 to v7: `User: ...`, an empty line, `Assistant:`. Answers of several paragraphs contain empty lines, so
 * that only the next turn's label ends one.
 */
export const WORLD_CHAT: ChatTemplate = {
  name: "world",
  start: "",
  introduction: "",
  turns: {
    system: turn("System:", " ", "\n\n"),
    user: turn("User:", " ", "\n\n"),
    assistant: turn("Assistant:", " ", "\n\n"),
  },
  lineBreaks: "single",
  tails: NO_THOUGHTS,
  stop: ["\n\nUser:"],
};

/**
 * G1 models: World chat, with thoughts. The tags are left open, without `>`: the tokenizer merges it with what follows, so
 * that a closed one would be other tokens than the model knows.
 */
export const G1_CHAT: ChatTemplate = {
  ...WORLD_CHAT,
  name: "g1",
  tails: { off: "", on: " <think", fast: " <think>\n</think" },
};

/** Base models of the Pile: plain text that the model continues. */
export const PILE_TEXT: ChatTemplate = {
  name: "pile",
  start: "",
  introduction: "",
  turns: { system: turn("\n", "", ""), user: turn("\n", "", ""), assistant: turn("", " ", "") },
  lineBreaks: "lines",
  tails: NO_THOUGHTS,
  stop: [],
};

/** Base models of the Pile: questions and answers of one line. */
export const PILE_QA: ChatTemplate = {
  name: "pile-qa",
  start: "\n",
  introduction: "",
  turns: { system: turn("", "", "\n"), user: turn("Q:", " ", "\n"), assistant: turn("A:", " ", "\n") },
  lineBreaks: "none",
  tails: NO_THOUGHTS,
  stop: ["\nQ:"],
};

/** Raven models: Bob asks, Alice answers in one paragraph. A system message replaces the introduction. */
export const RAVEN_CHAT: ChatTemplate = {
  name: "raven",
  start: "\n",
  introduction:
    "This is a detailed and coherent conversation between a person called Bob and an assistant called Alice. " +
    "Alice is friendly and knows a lot. She answers Bob's questions precisely and tells him when she does not know.\n\n",
  turns: {
    system: turn("", "", "\n\n"),
    user: turn("Bob:", " ", "\n\n"),
    assistant: turn("Alice:", " ", "\n\n"),
  },
  lineBreaks: "single",
  tails: NO_THOUGHTS,
  stop: ["\n\n"],
};

/** Raven models: an instruction and its response. A system message replaces the introduction. */
export const RAVEN_INSTRUCT: ChatTemplate = {
  name: "raven-instruct",
  start: "\n",
  introduction:
    "Below is an instruction that describes a task. Write a response that appropriately completes the request.\n\n",
  turns: {
    system: turn("", "", "\n\n"),
    user: turn("# Instruction:\n", "", "\n\n"),
    assistant: turn("# Response:\n", "", "\n\n"),
  },
  lineBreaks: "single",
  tails: NO_THOUGHTS,
  stop: ["\n\n# Instruction:"],
};

/** By name. */
export const CHAT_TEMPLATES: ReadonlyMap<string, ChatTemplate> = new Map(
  [WORLD_CHAT, G1_CHAT, RAVEN_CHAT, RAVEN_INSTRUCT, PILE_TEXT, PILE_QA].map((template) => [
    template.name,
    template,
  ]),
);

/** Most ids of a model with the vocabulary of the Pile models; those of World models are more. */
const MAX_PILE_VOCAB = 50304;
const MIN_PILE_VOCAB = 50254;

/**
 * The format that a model was trained on, by its names and the number of its ids.
 * @param names - what the file is called, and what it calls the model
 */
export function templateOfModel(names: readonly string[], nVocab: number): ChatTemplate {
  const isNamed = (pattern: RegExp): boolean => names.some((name) => pattern.test(name));
  if (isNamed(/rwkv-?7[ab]?[-_ ]g\d/i)) return G1_CHAT;
  if (isNamed(/raven/i)) return RAVEN_CHAT;
  return nVocab >= MIN_PILE_VOCAB && nVocab <= MAX_PILE_VOCAB ? PILE_TEXT : WORLD_CHAT;
}
