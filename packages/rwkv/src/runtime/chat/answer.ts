// An answer of the assistant while it is written. One object is both the stream and the promise of the whole, as a
// generation is.

import type { ChatMessage } from "../../chat/template.ts";
import type { WrittenPiece } from "../../chat/thoughts.ts";
import { UsageError } from "../../core/errors.ts";
import type { GenerationResult } from "../generation.ts";

/** What an answer came to. */
export interface AnswerResult {
  /** The assistant's message, without its thoughts; null if the answer was stopped before its first token. */
  readonly message: ChatMessage | null;
  /** What the model thought before, null if it did not. */
  readonly thoughts: string | null;
  /** Tokens, times and why it ended. Its text is what the model wrote behind the prompt, to the letter. */
  readonly generation: GenerationResult;
}

/**
 * An answer: iterate it for pieces of thoughts and answer as they come, or await it for the whole. It starts on first use and can
 * be read once. Leaving the loop ends it, and keeps what was written.
 */
export class Answer implements AsyncIterable<WrittenPiece>, PromiseLike<AnswerResult> {
  readonly #write: (finish: (result: AnswerResult) => void) => AsyncGenerator<WrittenPiece, void, void>;
  #isStarted = false;
  #whole: Promise<AnswerResult> | null = null;
  #result: AnswerResult | null = null;

  /** @internal Use `conversation.say`. */
  constructor(write: (finish: (result: AnswerResult) => void) => AsyncGenerator<WrittenPiece, void, void>) {
    this.#write = write;
  }

  /** The result once the stream has ended; null before. */
  get result(): AnswerResult | null {
    return this.#result;
  }

  then<Fulfilled = AnswerResult, Rejected = never>(
    onFulfilled?: ((result: AnswerResult) => Fulfilled | PromiseLike<Fulfilled>) | null,
    onRejected?: ((reason: unknown) => Rejected | PromiseLike<Rejected>) | null,
  ): Promise<Fulfilled | Rejected> {
    this.#whole ??= this.#drain();
    return this.#whole.then(onFulfilled, onRejected);
  }

  /** Pieces as they are written. Leaving the loop ends the answer. */
  [Symbol.asyncIterator](): AsyncGenerator<WrittenPiece, void, void> {
    if (this.#isStarted)
      throw new UsageError("An answer can be read once: iterate it or await it. Use retry() for another.");
    this.#isStarted = true;
    return this.#write((result) => {
      this.#result = result;
    });
  }

  async #drain(): Promise<AnswerResult> {
    const pieces = this[Symbol.asyncIterator]();
    while ((await pieces.next()).done !== true);
    return this.#result!;
  }
}
