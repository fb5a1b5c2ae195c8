// A conversation over a session: messages in, answers out, with a way back to before each turn.
//
// What the session has read is always a text, and the format says what it should have read. Where the one begins the other,
// the rest is read; else the session goes back to the last snapshot whose text still fits. So a message edited, a system
// message changed or another format chosen need no cases of their own: whatever no longer fits is read again.

import { templateFormat, type ChatFormat } from "../../chat/format.ts";
import { END_OF_TEXT, type ChatMessage, type ThinkMode } from "../../chat/template.ts";
import { splitThoughts, ThoughtSplitter, type WrittenPiece } from "../../chat/thoughts.ts";
import { bytesSource } from "../../core/byte-source.ts";
import { UsageError } from "../../core/errors.ts";
import { drawSeed } from "../../sampler/random.ts";
import type { Tokenizer } from "../../tokenizer/tokenizer.ts";
import type { Prompt } from "../engine.ts";
import type { GenerateOptions, GenerationResult } from "../generation.ts";
import type { Model } from "../model.ts";
import type { Session } from "../session.ts";
import { Answer, type AnswerResult } from "./answer.ts";
import { decodeChatFile, encodeChatFile } from "./chat-file.ts";
import { chatFormat } from "./choose.ts";
import { areSame, Timeline } from "./timeline.ts";

/** How a conversation begins. */
export interface ConversationOptions {
  /** Default: what `chatFormat` finds for the model. */
  readonly format?: ChatFormat | undefined;
  /** What was said before; read with the first answer. */
  readonly messages?: readonly ChatMessage[] | undefined;
  /** A session to begin with, such as a tuned state; it belongs to the conversation from then on. Default: a new one. */
  readonly session?: Session | undefined;
  /** Default `off`. */
  readonly think?: ThinkMode | undefined;
  /** Whether the end-of-text token is read first. Official chats do without; a model's own template has it its way. */
  readonly startToken?: boolean | undefined;
  /** Each answer has a seed of its own that follows from this one. Default: a random one. */
  readonly seed?: number | undefined;
}

/** Sampling, limits and ends of an answer. `stop` is beside what the format ends answers with. */
export type SayOptions = Omit<GenerateOptions, "echo">;

/** What the user says, and the messages before it. */
interface Question {
  readonly before: readonly ChatMessage[];
  readonly text: string;
}

interface Parts {
  readonly tokenizer: Tokenizer;
  readonly timeline: Timeline;
  /** Whether the session began with something that a new one does not have. */
  readonly hasOwnStart: boolean;
  readonly startToken: boolean;
  seed: number;
  /** Answers begun with this seed. */
  nAnswers: number;
  format: ChatFormat;
  think: ThinkMode;
  messages: readonly ChatMessage[];
}

/** Messages and the session that reads them. It does one thing at a time; a second call meanwhile is refused. */
export class Conversation implements AsyncDisposable {
  readonly #parts: Parts;
  #isBusy = false;

  private constructor(parts: Parts) {
    this.#parts = parts;
  }

  /** @throws UsageError for a model without a tokenizer, or a think mode that the format lacks */
  static async create(model: Model, options: ConversationOptions = {}): Promise<Conversation> {
    const { session, startToken = false, think = "off", messages = [], seed = drawSeed() } = options;
    const tokenizer = tokenizerOf(model);
    const format = options.format ?? (await chatFormat(model));
    checkThink(format, think);
    const timeline = await Timeline.of(session ?? (await model.createSession()));
    const hasOwnStart = session !== undefined;
    const begun = { tokenizer, timeline, hasOwnStart, startToken, seed, nAnswers: 0 };
    return new Conversation({ ...begun, format, think, messages });
  }

  /**
   * A conversation from the bytes that `save` gave.
   * @param name - what messages call them
   * @throws UsageError naming both models if it belongs to another one, or one without a tokenizer
   * @throws FormatError if the bytes are damaged
   */
  static async restore(model: Model, bytes: Uint8Array, name = "saved conversation"): Promise<Conversation> {
    const tokenizer = tokenizerOf(model);
    const { header, start, session } = await decodeChatFile(bytes, name);
    const { template, think, messages, startToken, seed, nAnswers } = header;
    const format = template === null ? await chatFormat(model, "jinja") : templateFormat(template);
    checkThink(format, think);
    await using first =
      start === null ? await model.createSession() : await model.restore(bytesSource(start, name));
    const restored = await model.restore(bytesSource(session, name));
    const timeline = await Timeline.of(restored, await first.snapshot());
    timeline.note(header.read, messages.slice(0, header.nMessagesRead));
    const begun = { tokenizer, timeline, hasOwnStart: start !== null, startToken, seed, nAnswers };
    return new Conversation({ ...begun, format, think, messages });
  }

  /** Everything said so far; a new list with each turn. */
  get messages(): readonly ChatMessage[] {
    return this.#parts.messages;
  }

  /** The session underneath. It may be looked at and forked; reading with it would leave the messages behind. */
  get session(): Session {
    return this.#parts.timeline.session;
  }

  /** Whether the session has read just the messages; otherwise the next answer sees to it. */
  get isRead(): boolean {
    return areSame(this.#parts.messages, this.#parts.timeline.messages);
  }

  get format(): ChatFormat {
    return this.#parts.format;
  }

  /**
   * Takes effect with the next answer.
   * @throws UsageError if it lacks the think mode in use
   */
  set format(format: ChatFormat) {
    checkThink(format, this.#parts.think);
    this.#parts.format = format;
  }

  get think(): ThinkMode {
    return this.#parts.think;
  }

  /** @throws UsageError for a mode that the format lacks */
  set think(think: ThinkMode) {
    checkThink(this.#parts.format, think);
    this.#parts.think = think;
  }

  /** The system message; null if there is none. */
  get system(): string | null {
    const first = this.messages[0];
    return first?.role === "system" ? first.content : null;
  }

  /** Another system message from the next answer on, for which everything is read again; null for none. */
  set system(content: string | null) {
    const rest = this.system === null ? this.messages : this.messages.slice(1);
    this.#parts.messages = content === null ? rest : [{ role: "system", content }, ...rest];
  }

  get seed(): number {
    return this.#parts.seed;
  }

  /** Answers from here on follow from this seed, as in a conversation that begins with it. */
  set seed(seed: number) {
    this.#parts.seed = seed;
    this.#parts.nAnswers = 0;
  }

  /**
   * Says something and answers it. Both become messages when the answer has ended, also if it was stopped after its first
   * token; if it was stopped before, and on any error, the conversation is as it was.
   * @throws UsageError, once it is read, if an option is out of range or the format refuses the messages
   */
  say(text: string, options: SayOptions = {}): Answer {
    return this.#answer(() => ({ before: this.messages, text }), options);
  }

  /**
   * Another answer, with another seed, to the last message of the user.
   * @throws UsageError, once it is read, if there is none, and as `say`
   */
  retry(options: SayOptions = {}): Answer {
    return this.#answer(() => this.#lastQuestion(), options);
  }

  /**
   * Replaces the last message of the user, and answers it anew.
   * @throws UsageError, once it is read, if there is none, and as `say`
   */
  edit(text: string, options: SayOptions = {}): Answer {
    return this.#answer(() => ({ ...this.#lastQuestion(), text }), options);
  }

  /**
   * Takes the last turn back: the user's last message and all after it.
   * @returns what the user had said
   * @throws UsageError if there is none
   */
  async undo(): Promise<string> {
    return this.#exclusively(async () => {
      const { before, text } = this.#lastQuestion();
      await this.#parts.timeline.goBackTo(before);
      this.#parts.messages = before;
      return text;
    });
  }

  /** An independent conversation that goes on from here; costs one copy of the state. */
  async fork(): Promise<Conversation> {
    return this.#exclusively(
      async () => new Conversation({ ...this.#parts, timeline: await this.#parts.timeline.fork() }),
    );
  }

  /** Messages and state as bytes, for `Conversation.restore` in any process. Places to go back to are not among them. */
  async save(): Promise<Uint8Array<ArrayBuffer>> {
    return this.#exclusively(async () => {
      const { timeline, hasOwnStart, format, think, messages, startToken, seed, nAnswers } = this.#parts;
      const nMessagesRead = messages.findIndex((message, i) => message !== timeline.messages[i]);
      const header = {
        messages,
        nMessagesRead: nMessagesRead === -1 ? messages.length : nMessagesRead,
        read: timeline.text,
        template: format.template,
        think,
        startToken,
        seed,
        nAnswers,
      };
      const start = hasOwnStart ? await timeline.start.save() : null;
      return encodeChatFile({ header, start, session: await timeline.session.save() });
    });
  }

  /** Frees the state. */
  dispose(): void {
    this.session.dispose();
  }

  /** `dispose`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
    return Promise.resolve();
  }

  #answer(ask: () => Question, options: SayOptions): Answer {
    return new Answer((finish) => this.#write(ask, options, finish));
  }

  async *#write(
    ask: () => Question,
    options: SayOptions,
    finish: (result: AnswerResult) => void,
  ): AsyncGenerator<WrittenPiece, void, void> {
    const release = this.#acquire();
    try {
      const parts = this.#parts;
      const { timeline, format, think } = parts;
      const { before, text } = ask();
      const messages: readonly ChatMessage[] = [...before, { role: "user", content: text }];
      const target = this.#textOf(messages);
      const rest = await timeline.goTowards(target);
      const seed = options.seed ?? (parts.seed + parts.nAnswers) % Number.MAX_SAFE_INTEGER;
      const stop = [...format.stop, ...(options.stop ?? [])];
      const generation = this.session.generate(this.#promptOf(rest), { ...options, seed, stop });
      parts.nAnswers++;
      const tail = format.tail(think);
      const splitter = new ThoughtSplitter();
      splitter.push(tail);
      let hasFailed = false;
      try {
        for await (const chunk of generation) yield* splitter.push(chunk.text);
        yield* splitter.flush();
      } catch (error) {
        hasFailed = true;
        // A session that cannot go back is of no use, and the first error says why.
        await timeline.goBack().catch(() => undefined);
        throw error;
      } finally {
        // Also where the reader left the loop.
        if (!hasFailed) finish(await this.#take(messages, target, tail, generation.result!));
      }
    } finally {
      release();
    }
  }

  /** Makes messages of what was written. */
  async #take(
    messages: readonly ChatMessage[],
    target: string,
    tail: string,
    generation: GenerationResult,
  ): Promise<AnswerResult> {
    const { timeline, tokenizer } = this.#parts;
    if (generation.tokens.length === 0 && generation.finishReason === "aborted") {
      await timeline.goBack();
      return { message: null, thoughts: null, generation };
    }
    const written = (tail + generation.text).trimEnd();
    const { thoughts, answer } = splitThoughts(written);
    const message: ChatMessage = { role: "assistant", content: answer, written };
    this.#parts.messages = [...messages, message];
    timeline.note(target + tokenizer.decode(generation.tokens), this.#parts.messages);
    return { message, thoughts, generation };
  }

  /** The text that the session is to have read before it answers. */
  #textOf(messages: readonly ChatMessage[]): string {
    const { format, think, startToken } = this.#parts;
    const text = format.render(messages, think);
    return startToken && !text.startsWith(END_OF_TEXT) ? END_OF_TEXT + text : text;
  }

  #promptOf(text: string): Prompt {
    if (!text.includes(END_OF_TEXT)) return text;
    const { tokenizer } = this.#parts;
    const endOfText = tokenizer.endOfText === null ? [] : [tokenizer.endOfText];
    return text
      .split(END_OF_TEXT)
      .flatMap((piece, i) => [...(i === 0 ? [] : endOfText), ...tokenizer.encode(piece)]);
  }

  /** @throws UsageError if the user has said nothing yet */
  #lastQuestion(): Question {
    const { messages } = this.#parts;
    const index = messages.findLastIndex(({ role }) => role === "user");
    if (index !== -1) return { before: messages.slice(0, index), text: messages[index]!.content };
    throw new UsageError("The user has said nothing yet, so that there is no turn to go back to.");
  }

  async #exclusively<Result>(work: () => Promise<Result>): Promise<Result> {
    const release = this.#acquire();
    try {
      return await work();
    } finally {
      release();
    }
  }

  /** @returns a function that gives the conversation free again */
  #acquire(): () => void {
    if (this.#isBusy) {
      throw new UsageError(
        "The conversation is busy with another call. Await that call first, or fork() to do both at once.",
      );
    }
    this.#isBusy = true;
    return () => {
      this.#isBusy = false;
    };
  }
}

function tokenizerOf({ tokenizer, info }: Model): Tokenizer {
  if (tokenizer !== null) return tokenizer;
  throw new UsageError(
    `A conversation needs a tokenizer, but ${info.name} has none inside it or beside it. Load the model with one.`,
  );
}

function checkThink(format: ChatFormat, think: ThinkMode): void {
  if (format.thinkModes.includes(think)) return;
  throw new UsageError(
    `Think mode "${think}" is not in the format "${format.name}", which has ${format.thinkModes.join(", ")}. ` +
      `Models of the G1 family think: use the format "g1".`,
  );
}
