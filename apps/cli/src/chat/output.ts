// How answers appear: text to stdout as it comes, thoughts folded away or shown, and what it took to stderr.

import type { Answer, AnswerResult, TokenProgress, WrittenPiece } from "rwkv";
import { writeOut } from "../output.ts";
import { createProgressBar, type ProgressBar } from "../progress.ts";

/** Shorter prompts are read before a bar could be seen. */
const MIN_TOKENS_FOR_BAR = 64;

/** A remark about the chat, not part of it. */
export function note(text: string): void {
  process.stderr.write(`${dim(text, process.stderr)}\n`);
}

/** How an answer is shown. */
export interface ShowOptions {
  readonly showsThoughts: boolean;
  readonly isQuiet: boolean;
}

/** Shows one answer. */
export class AnswerView {
  readonly #options: ShowOptions;
  #bar: ProgressBar | null = null;
  /** What is written before the next words, if any come: white space held back, or what parts an answer from thoughts. */
  #gap = "";
  /** Whether words have been written, and whether the last of them were thoughts. */
  #hasBegun = false;
  #wasThought = false;
  #nTokens = 0;
  #isFolding = false;

  constructor(options: ShowOptions) {
    this.#options = options;
  }

  /** To be called with the progress of the answer. */
  onProgress({ phase, tokensDone, tokensTotal, tokensPerSecond }: TokenProgress): void {
    if (phase === "decode") {
      this.#clearBar();
      this.#nTokens = tokensDone;
    } else if (tokensTotal >= MIN_TOKENS_FOR_BAR) {
      this.#bar ??= createProgressBar("reading", this.#options.isQuiet);
      this.#bar.update(tokensDone, tokensTotal, `${tokensPerSecond.toFixed(0)} tokens/s`);
    }
  }

  /** Writes the answer as it comes, and a line about what it took. */
  async show(answer: Answer): Promise<AnswerResult> {
    try {
      for await (const piece of answer) {
        if (piece.isThought && !this.#options.showsThoughts) {
          this.#fold();
        } else {
          this.#unfold();
          await this.#write(piece);
        }
      }
    } finally {
      this.#clearBar();
      this.#unfold();
      if (this.#hasBegun) await writeOut("\n");
    }
    const result = answer.result!;
    this.#summarize(result);
    return result;
  }

  async #write({ text, isThought }: WrittenPiece): Promise<void> {
    const isNew = !this.#hasBegun || isThought !== this.#wasThought;
    const words = isNew ? text.trimStart() : text;
    const body = words.trimEnd();
    if (body !== "") {
      const gap = this.#hasBegun && isNew ? "\n\n" : this.#gap;
      await writeOut(styled(gap + body, isThought));
      this.#gap = words.slice(body.length);
      this.#hasBegun = true;
      this.#wasThought = isThought;
    } else if (!isNew) {
      this.#gap += words;
    }
  }

  #clearBar(): void {
    this.#bar?.clear();
    this.#bar = null;
  }

  #fold(): void {
    if (!this.#showsNotes) return;
    this.#isFolding = true;
    process.stderr.write(`${CLEAR_LINE}${dim(`thinking, ${this.#nTokens} tokens`, process.stderr)}`);
  }

  #unfold(): void {
    if (!this.#isFolding) return;
    this.#isFolding = false;
    process.stderr.write(`${CLEAR_LINE}${dim(`(thought for ${this.#nTokens} tokens)`, process.stderr)}\n`);
  }

  #summarize({ message, generation: { usage, timings, finishReason } }: AnswerResult): void {
    if (!this.#showsNotes) return;
    const why = { aborted: "stopped after ", length: "cut at ", stop: "" }[finishReason];
    const rate = `${timings.decodeTokensPerSecond.toFixed(1)} tokens/s`;
    const text = message === null ? "stopped" : `${why}${usage.completionTokens} tokens, ${rate}`;
    note(`[${text}]`);
  }

  get #showsNotes(): boolean {
    return !this.#options.isQuiet && process.stderr.isTTY;
  }
}

const CLEAR_LINE = "\r\u001b[K";
// eslint-disable-next-line no-control-regex -- it is control characters that are looked for
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;

/** A terminal obeys control characters, and a model may write any. */
function styled(text: string, isThought: boolean): string {
  const { stdout } = process;
  if (!stdout.isTTY) return text;
  const harmless = text.replace(CONTROL, "\ufffd");
  return isThought ? dim(harmless, stdout) : harmless;
}

function dim(text: string, stream: NodeJS.WriteStream): string {
  return stream.isTTY && stream.hasColors() ? `\u001b[2m${text}\u001b[22m` : text;
}
