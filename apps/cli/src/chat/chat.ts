// A chat: conversations on branches, the settings of answers, and the loop that reads messages and shows answers.

import {
  chatFormat,
  Conversation,
  isChatFile,
  jinjaFormat,
  parseChatPrompt,
  templateFormat,
  UsageError,
  type Answer,
  type ChatFormat,
  type ChatMessage,
  type Model,
  type SayOptions,
  type Session,
  type ThinkMode,
} from "rwkv";
import { Interrupted, reportError } from "../errors.ts";
import { withInterrupt } from "../interrupt.ts";
import { ClosedPipe } from "../output.ts";
import { runCommand } from "./commands.ts";
import { readBytes } from "./files.ts";
import type { ChatInput } from "./input.ts";
import { AnswerView } from "./output.ts";
import type { Settings } from "./settings.ts";

/** How a chat begins, as the command line says it. */
export interface ChatStart {
  /** One of `CHAT_FORMATS`. */
  readonly format: string;
  /** A file with a template in Jinja, in place of `format`. */
  readonly templateFile: string | undefined;
  readonly think: ThinkMode;
  readonly startToken: boolean;
  readonly system: string | undefined;
  /** A file of messages to begin with. */
  readonly promptFile: string | undefined;
  /** The session to begin with; null for a new one. */
  readonly createSession: (() => Promise<Session>) | null;
  readonly seed: number | undefined;
}

/** What may change while a chat goes on. */
export interface ChatSettings {
  values: Settings;
  stop: readonly string[];
  showsThoughts: boolean;
}

const MAIN_BRANCH = "main";

export class Chat {
  readonly model: Model;
  readonly settings: ChatSettings;
  readonly #start: ChatStart;
  readonly #isQuiet: boolean;
  readonly #branches: Map<string, Conversation>;
  #branch = MAIN_BRANCH;

  private constructor(
    model: Model,
    start: ChatStart,
    settings: ChatSettings,
    first: Conversation,
    isQuiet: boolean,
  ) {
    this.model = model;
    this.settings = settings;
    this.#start = start;
    this.#isQuiet = isQuiet;
    this.#branches = new Map([[MAIN_BRANCH, first]]);
  }

  /** @throws UsageError or FormatError for what the command line asks for and cannot be had */
  static async open(model: Model, start: ChatStart, settings: ChatSettings, isQuiet: boolean): Promise<Chat> {
    return new Chat(model, start, settings, await newConversation(model, start), isQuiet);
  }

  get conversation(): Conversation {
    return this.#branches.get(this.#branch)!;
  }

  /** The name of the branch in use. */
  get branch(): string {
    return this.#branch;
  }

  get branches(): ReadonlyMap<string, Conversation> {
    return this.#branches;
  }

  /** Reads messages and answers them until the input ends or a command leaves. */
  async run(input: ChatInput): Promise<void> {
    for (let draft = ""; ;) {
      const message = await input.next(draft);
      draft = "";
      if (message === null) return;
      if (message.trim() === "") continue;
      try {
        const outcome = await this.#react(message.trim(), input);
        if (outcome === null) return;
        draft = outcome;
      } catch (error) {
        if (error instanceof Interrupted || error instanceof ClosedPipe) throw error;
        reportError(error);
      }
    }
  }

  /** Lets the model answer, and shows it. Ctrl-C stops the answer, and without a terminal the chat as well. */
  async answer(ask: (options: SayOptions) => Answer, isTerminal: boolean): Promise<void> {
    const view = new AnswerView({ showsThoughts: this.settings.showsThoughts, isQuiet: this.#isQuiet });
    await withInterrupt(async ({ signal }) => {
      const onProgress = view.onProgress.bind(view);
      await view.show(ask({ ...this.settings.values, stop: this.settings.stop, signal, onProgress }));
      const reason: unknown = signal.reason;
      if (reason instanceof Interrupted && (!isTerminal || reason.message !== "SIGINT")) throw reason;
    });
  }

  /** Begins anew, as the command line said it, on the same branch. */
  async clear(): Promise<void> {
    this.#replace(await newConversation(this.model, this.#start));
  }

  /**
   * Goes on, on the same branch, from a conversation that `save` wrote, or from messages in JSON.
   * @throws UsageError or FormatError if it cannot be read; the chat is as before
   */
  async load(path: string): Promise<void> {
    const bytes = await readBytes(path);
    this.#replace(
      isChatFile(bytes)
        ? await Conversation.restore(this.model, bytes, path)
        : await newConversation(this.model, { ...this.#start, promptFile: path, system: undefined }),
    );
  }

  /** Goes on with a copy, under a name of its own. @throws UsageError if the name is taken */
  async fork(name: string): Promise<void> {
    if (this.#branches.has(name)) {
      throw new UsageError(`There is a branch "${name}" already: /switch ${name} goes there.`);
    }
    this.#branches.set(name, await this.conversation.fork());
    this.#branch = name;
  }

  /** @throws UsageError if there is no such branch */
  switchTo(name: string): void {
    if (!this.#branches.has(name)) {
      throw new UsageError(`There is no branch "${name}", only ${[...this.#branches.keys()].join(", ")}.`);
    }
    this.#branch = name;
  }

  /** @returns what stands on the next line for a start; null to leave */
  async #react(message: string, input: ChatInput): Promise<string | null> {
    if (message.startsWith("/") && !message.startsWith("//")) return runCommand(this, message, input);
    if (message === "+") return runCommand(this, "/retry", input);
    const text = message.startsWith("//") ? message.slice(1) : message;
    await this.answer((options) => this.conversation.say(text, options), input.isTerminal);
    return "";
  }

  #replace(conversation: Conversation): void {
    this.conversation.dispose();
    this.#branches.set(this.#branch, conversation);
  }
}

async function newConversation(model: Model, start: ChatStart): Promise<Conversation> {
  const { promptFile, system, createSession, think, startToken, seed } = start;
  const prompt =
    promptFile === undefined
      ? { messages: [], template: null }
      : parseChatPrompt(new TextDecoder().decode(await readBytes(promptFile)), promptFile);
  const format = await formatOf(model, start);
  const isChosen = start.templateFile !== undefined || start.format !== "auto";
  return Conversation.create(model, {
    format: prompt.template === null || isChosen ? format : templateFormat(prompt.template),
    messages: withSystem(prompt.messages, system),
    session: await createSession?.(),
    think,
    startToken,
    seed,
  });
}

async function formatOf(model: Model, { format, templateFile }: ChatStart): Promise<ChatFormat> {
  if (templateFile === undefined) return chatFormat(model, format);
  const template = new TextDecoder().decode(await readBytes(templateFile));
  const specialTokens = model.chatTemplate?.specialTokens ?? [];
  return jinjaFormat({ name: templateFile, template, specialTokens });
}

/** A system message of the command line goes before that of a file. */
function withSystem(messages: readonly ChatMessage[], system: string | undefined): readonly ChatMessage[] {
  if (system === undefined) return messages;
  const rest = messages[0]?.role === "system" ? messages.slice(1) : messages;
  return [{ role: "system", content: system }, ...rest];
}
