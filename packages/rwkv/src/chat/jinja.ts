// Chat templates in Jinja, as GGUF files and Hugging Face models carry them, through @huggingface/jinja, which is loaded when
// the first one is used.

import { FormatError, UsageError } from "../core/errors.ts";
import { cleanWords } from "./clean.ts";
import type { ChatFormat } from "./format.ts";
import { checkAnswerable } from "./render.ts";
import { END_OF_TEXT, THINK_MODES, type ChatMessage, type LineBreaks, type ThinkMode } from "./template.ts";

/** A model's own chat template. */
export interface JinjaSource {
  /** What messages call it: the file it is from. */
  readonly name: string;
  readonly template: string;
  /** Texts of the tokens that begin and end a text, which a template may spell out; both are the end of text in RWKV. */
  readonly specialTokens: readonly string[];
}

/** Most characters of a template; the longest published ones have some 10,000. */
const MAX_TEMPLATE_LENGTH = 1_000_000;
/** Stands for a special token's text in the words of a message; no character either. */
const SPELLED = "\ufdd0";
/** Words by which to find out what stands between two turns. */
const PROBES = ["probe-one", "probe-two", "probe-three"] as const;
const ENABLE_THINKING: Readonly<Record<ThinkMode, boolean | undefined>> = {
  off: undefined,
  on: true,
  fast: false,
};

/**
 * A format of a template in Jinja. It is told `messages`, `add_generation_prompt`, `bos_token`, `eos_token` and, for the think
 * modes `on` and `fast`, `enable_thinking`. What ends an answer is taken from what it writes between two turns.
 * @throws FormatError if the template cannot be parsed, UsageError if it refuses a user, the assistant and the user again
 */
export async function jinjaFormat(source: JinjaSource): Promise<ChatFormat> {
  const run = await parse(source);
  const specialTokens = source.specialTokens.filter((token) => token !== "");
  const between = textBetweenTurns(run, specialTokens);
  const lineBreaks: LineBreaks | null = between === null || between.includes("\n\n") ? "single" : null;
  const stop = stopOf(between ?? "");

  const render = (messages: readonly ChatMessage[], think: ThinkMode): string => {
    checkAnswerable(messages);
    const words = messages.map(({ role, content, written }) => ({
      role,
      content: spelled(written?.trim() ?? cleaned(content, lineBreaks), specialTokens),
    }));
    const text = run({ messages: words, enable_thinking: ENABLE_THINKING[think] });
    return unspelled(withEndOfText(text, specialTokens), specialTokens);
  };
  return {
    name: "jinja",
    template: null,
    stop: stop === "" ? [] : [stop],
    thinkModes: source.template.includes("enable_thinking") ? THINK_MODES : ["off"],
    render,
    tail(think) {
      const question: ChatMessage[] = [{ role: "user", content: PROBES[0] }];
      const [plain, thinking] = [render(question, "off"), render(question, think)];
      return thinking.startsWith(plain) ? thinking.slice(plain.length) : "";
    },
  };
}

type Run = (values: Readonly<Record<string, unknown>>) => string;

async function parse({ name, template }: JinjaSource): Promise<Run> {
  if (template.length > MAX_TEMPLATE_LENGTH) {
    throw new FormatError(
      `${name}: the chat template has ${template.length} characters, more than ${MAX_TEMPLATE_LENGTH}. Choose a format by name.`,
    );
  }
  const { Template } = await import("@huggingface/jinja");
  let parsed: InstanceType<typeof Template>;
  try {
    parsed = new Template(template);
  } catch (cause) {
    throw new FormatError(
      `${name}: the chat template is no Jinja that can be read (${messageOf(cause)}). Choose a format by name.`,
      { cause },
    );
  }
  return (values) => {
    const given = { add_generation_prompt: true, bos_token: END_OF_TEXT, eos_token: END_OF_TEXT, ...values };
    try {
      return parsed.render(given);
    } catch (cause) {
      throw new UsageError(
        `${name}: the chat template refuses these messages (${messageOf(cause)}). Choose a format by name.`,
        { cause },
      );
    }
  };
}

/** What stands between the words of the assistant and those of the next user turn; null if that cannot be seen. */
function textBetweenTurns(run: Run, specialTokens: readonly string[]): string | null {
  const roles = ["user", "assistant", "user"];
  const messages = PROBES.map((content, i) => ({ role: roles[i], content }));
  const text = withEndOfText(run({ messages }), specialTokens);
  const start = text.indexOf(PROBES[1]);
  const end = text.indexOf(PROBES[2]);
  return start === -1 || end < start ? null : text.slice(start + PROBES[1].length, end);
}

/** A mark that closes the turn, or else the white space and the label of the next one. */
function stopOf(between: string): string {
  const text = between.split(END_OF_TEXT)[0]!.trimEnd();
  return /^\S+/.exec(text)?.[0] ?? text;
}

/** As the official code does it where an empty line ends a turn; elsewhere only line ends are unified. */
function cleaned(content: string, lineBreaks: LineBreaks | null): string {
  if (lineBreaks !== null) return cleanWords(content, lineBreaks);
  return content.replaceAll(END_OF_TEXT, "").replace(/\r\n?/g, "\n").trim();
}

/** Words keep the texts of special tokens as mere text. */
function spelled(words: string, specialTokens: readonly string[]): string {
  return specialTokens.reduce(
    (text, token, i) => text.replaceAll(token, `${SPELLED}${i}${SPELLED}`),
    words.replaceAll(SPELLED, ""),
  );
}

function unspelled(text: string, specialTokens: readonly string[]): string {
  return specialTokens.reduce((plain, token, i) => plain.replaceAll(`${SPELLED}${i}${SPELLED}`, token), text);
}

function withEndOfText(text: string, specialTokens: readonly string[]): string {
  return specialTokens.reduce((marked, token) => marked.replaceAll(token, END_OF_TEXT), text);
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
