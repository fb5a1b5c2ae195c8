// Decoding: sample, emit, read, until something ends it. One object is both the stream and the promise of the whole.

import { UsageError } from "../core/errors.ts";
import type { Sampler } from "../sampler/chain.ts";
import { createSampler, type SamplingOptions } from "../sampler/options.ts";
import { createStopMatcher, type StopMatcher } from "../tokenizer/stop.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { Utf8Decoder } from "../tokenizer/utf8.ts";
import type { Prompt } from "./engine.ts";
import { perSecond, PhaseTimer, type TokenProgress } from "./progress.ts";
import type { Sequence } from "./sequence.ts";

/**
 * Why a generation ended: `length`, maxTokens were produced; `stop`, a stop token or stop string came; `aborted`, the
 * signal was aborted or the consumer left the loop.
 */
export type FinishReason = "length" | "stop" | "aborted";

/** Sampling, limits and ends of a generation. */
export interface GenerateOptions extends SamplingOptions {
  /** Exactly how many tokens are produced if nothing else ends it. Default 256. */
  readonly maxTokens?: number | undefined;
  /** Ids that end the text and are not part of it. Default: the tokenizer's end of text. */
  readonly stopTokens?: readonly number[] | undefined;
  /** Strings that end the text; neither they nor a part of them is ever emitted. */
  readonly stop?: readonly string[] | undefined;
  /** Whether the text begins with the prompt. Default false. */
  readonly echo?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called for each step of the prompt and each token produced; an error in it ends the generation. */
  readonly onProgress?: ((progress: TokenProgress) => void) | undefined;
}

/** What one token added. `text` may be empty: bytes of an unfinished character or of a possible stop are held back. */
export interface GenerationChunk {
  readonly text: string;
  /** The tokens since the last chunk: one, or none where held back text comes out at the end. */
  readonly tokens: readonly number[];
}

/** Wall-clock times; rates are 0 where nothing was measured. */
export interface GenerationTimings {
  readonly prefillMs: number;
  readonly prefillTokensPerSecond: number;
  readonly decodeMs: number;
  readonly decodeTokensPerSecond: number;
}

/** What a generation has produced, and what it took. */
export interface GenerationResult {
  readonly text: string;
  /** Every token produced but the stop token; those of a stop string are among them. */
  readonly tokens: readonly number[];
  readonly finishReason: FinishReason;
  readonly usage: { readonly promptTokens: number; readonly completionTokens: number };
  readonly timings: GenerationTimings;
  /** Gives the same text again with the same prompt and options. */
  readonly seed: number;
}

const DEFAULT_MAX_TOKENS = 256;

/**
 * A running generation: iterate it for a stream of chunks, or await it for the whole result. It starts on first use and
 * can be read once.
 */
export class Generation implements AsyncIterable<GenerationChunk>, PromiseLike<GenerationResult> {
  readonly #sequence: Sequence;
  readonly #prompt: Prompt | null;
  readonly #options: GenerateOptions;
  readonly #acquire: () => () => void;
  readonly #sampler: Sampler;
  readonly #maxTokens: number;
  #isStarted = false;
  #whole: Promise<GenerationResult> | null = null;
  #result: GenerationResult | null = null;

  /** @internal Use `session.generate`. */
  constructor(
    sequence: Sequence,
    prompt: Prompt | null,
    options: GenerateOptions,
    acquire: () => () => void,
  ) {
    this.#sequence = sequence;
    this.#prompt = prompt;
    this.#options = options;
    this.#acquire = acquire;
    this.#sampler = createSampler(options);
    this.#maxTokens = options.maxTokens ?? DEFAULT_MAX_TOKENS;
    if (!Number.isSafeInteger(this.#maxTokens) || this.#maxTokens < 0) {
      throw new UsageError(`maxTokens is ${this.#maxTokens}; expected a whole number of at least 0.`);
    }
    if (options.stop?.includes("") === true)
      throw new UsageError("A stop string is empty; it would end every text at once.");
    if (options.stop !== undefined && options.stop.length > 0) sequence.engine.requireTokenizer();
  }

  /** The result once the stream has ended; null before. */
  get result(): GenerationResult | null {
    return this.#result;
  }

  then<Fulfilled = GenerationResult, Rejected = never>(
    onFulfilled?: ((result: GenerationResult) => Fulfilled | PromiseLike<Fulfilled>) | null,
    onRejected?: ((reason: unknown) => Rejected | PromiseLike<Rejected>) | null,
  ): Promise<Fulfilled | Rejected> {
    this.#whole ??= this.#drain();
    return this.#whole.then(onFulfilled, onRejected);
  }

  /** Chunks as they are produced. Leaving the loop ends the generation; the session goes on from the last token. */
  async *[Symbol.asyncIterator](): AsyncGenerator<GenerationChunk, void, void> {
    if (this.#isStarted) {
      throw new UsageError(
        "A generation can be read once: iterate it or await it. Call generate() again for another.",
      );
    }
    this.#isStarted = true;
    const release = this.#acquire();
    try {
      yield* this.#run();
    } finally {
      release();
    }
  }

  async #drain(): Promise<GenerationResult> {
    const chunks = this[Symbol.asyncIterator]();
    while ((await chunks.next()).done !== true);
    return this.#result!;
  }

  async *#run(): AsyncGenerator<GenerationChunk, void, void> {
    const { signal, onProgress, seed } = this.#options;
    const sequence = this.#sequence;
    if (seed === undefined && sequence.random !== null) this.#sampler.restore(sequence.random);
    const emitter = new TextEmitter(sequence.engine.tokenizer, this.#options.stop ?? []);
    const stopTokens = new Set(this.#options.stopTokens ?? this.#defaultStopTokens());
    const tokens: number[] = [];
    let text = "";
    let finishReason: FinishReason = "aborted";
    let nPromptTokens = 0;
    const prefill = new PhaseTimer();
    let prefillMs = 0;
    let decode = prefill;

    try {
      const prompt = this.#prompt ?? "";
      if (this.#options.echo === true && typeof prompt === "string" && prompt !== "") {
        text = prompt;
        yield { text: prompt, tokens: [] };
      }
      if (prompt.length > 0) nPromptTokens = await sequence.read(prompt, { signal, onProgress });
      if (!sequence.canContinue) {
        throw new UsageError(
          "There is nothing to continue: give a prompt, or restore a session that has read something.",
        );
      }
      prefillMs = prefill.elapsedMs();
      if (nPromptTokens > 0) prefill.measure("rwkv:prefill");
      decode = new PhaseTimer();
      while (tokens.length < this.#maxTokens && finishReason === "aborted") {
        if (signal?.aborted === true) break;
        const logits = await sequence.settle();
        const token = this.#sampler.sample(this.#usedLogits(logits!));
        sequence.random = this.#sampler.state();
        if (stopTokens.has(token)) {
          finishReason = "stop";
          break;
        }
        sequence.accept(token);
        tokens.push(token);
        const piece = emitter.push(token);
        text += piece;
        if (emitter.isStopped) finishReason = "stop";
        onProgress?.(decode.progress("decode", tokens.length, this.#maxTokens));
        yield { text: piece, tokens: [token] };
      }
      if (finishReason === "aborted" && tokens.length === this.#maxTokens) finishReason = "length";
      const rest = emitter.flush();
      text += rest;
      if (rest !== "") yield { text: rest, tokens: [] };
    } catch (error) {
      // An abort inside the prompt has been undone; it ends the generation like any other abort.
      if (signal?.aborted !== true || error !== signal.reason) throw error;
    } finally {
      const decodeMs = decode === prefill ? 0 : decode.elapsedMs();
      if (tokens.length > 0) decode.measure("rwkv:decode");
      this.#result = {
        text,
        tokens,
        finishReason,
        usage: { promptTokens: nPromptTokens, completionTokens: tokens.length },
        timings: {
          prefillMs,
          prefillTokensPerSecond: perSecond(nPromptTokens, prefillMs),
          decodeMs,
          decodeTokensPerSecond: perSecond(tokens.length, decodeMs),
        },
        seed: this.#sampler.seed,
      };
    }
  }

  /** World models have a few more rows than their vocabulary has ids; those must never be drawn. */
  #usedLogits(logits: Float32Array): Float32Array {
    const nVocab = this.#sequence.engine.tokenizer?.nVocab ?? logits.length;
    return nVocab < logits.length ? logits.subarray(0, nVocab) : logits;
  }

  #defaultStopTokens(): readonly number[] {
    const endOfText = this.#sequence.engine.tokenizer?.endOfText ?? null;
    return endOfText === null ? [] : [endOfText];
  }
}

/** Tokens to text: bytes that may belong to a stop string or an unfinished character are held back. */
class TextEmitter {
  readonly #tokenizer: Tokenizer | null;
  readonly #matcher: StopMatcher | null;
  readonly #decoder = new Utf8Decoder();
  isStopped = false;

  constructor(tokenizer: Tokenizer | null, stop: readonly string[]) {
    this.#tokenizer = tokenizer;
    const encoder = new TextEncoder();
    this.#matcher = stop.length === 0 ? null : createStopMatcher(stop.map((text) => encoder.encode(text)));
  }

  /** Without a tokenizer there is no text, only tokens. */
  push(token: number): string {
    if (this.#tokenizer === null) return "";
    const bytes = this.#tokenizer.tokenBytes(token);
    if (this.#matcher === null) return this.#decoder.push(bytes);
    const { emit, matched } = this.#matcher.push(bytes);
    if (matched !== null) this.isStopped = true;
    return this.#decoder.push(emit);
  }

  flush(): string {
    const held = this.#matcher === null || this.isStopped ? new Uint8Array(0) : this.#matcher.flush();
    return this.#decoder.push(held) + this.#decoder.flush();
  }
}
