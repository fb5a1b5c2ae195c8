// Decoding: sample, emit, read, until something ends it. One object is both the stream and the promise of the whole.

import { UsageError } from "../core/errors.ts";
import type { Sampler } from "../sampler/chain.ts";
import { createSampler, type SamplingOptions } from "../sampler/options.ts";
import { Drawing } from "./drawing.ts";
import type { Prompt } from "./engine.ts";
import { Guide, type LentSequence } from "./guidance.ts";
import { perSecond, PhaseTimer, type TokenProgress } from "./progress.ts";
import type { Sequence } from "./sequence.ts";
import type { Session } from "./session.ts";
import { TextEmitter } from "./text-emitter.ts";
import { LogprobReader, type DrawnLogprob } from "./token-logprobs.ts";

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
  /** Steers away from another text. Default none. */
  readonly guidance?: GuidanceOptions | undefined;
  /**
   * How many of the likeliest tokens are told for each place, with their log-probabilities and that of the token drawn: by
   * the model's own distribution, before guidance and sampler. 0 tells the drawn one's alone. Default: nothing is told.
   */
  readonly logprobs?: number | undefined;
  /** Whether the text begins with the prompt. Default false. */
  readonly echo?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Called for each step of the prompt and each token produced; an error in it ends the generation. */
  readonly onProgress?: ((progress: TokenProgress) => void) | undefined;
}

/** Classifier-free guidance. */
export interface GuidanceOptions {
  /** How strongly: 1 changes nothing, above 1 leads away from the negative text, 0 follows it. */
  readonly scale: number;
  /**
   * What stands in place of the prompt for the text to be steered away from, read in a fork of the session; or a session that
   * has read it, which goes on with each token and is busy meanwhile.
   */
  readonly negative: Prompt | Session;
}

/** What one token added. `text` may be empty: bytes of an unfinished character or of a possible stop are held back. */
export interface GenerationChunk {
  readonly text: string;
  /** The tokens since the last chunk: one, or none where held back text comes out at the end. */
  readonly tokens: readonly number[];
  /** One for each of the tokens; only where `logprobs` was asked for. */
  readonly logprobs?: readonly DrawnLogprob[];
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
  /** One for each of the tokens; only where `logprobs` was asked for. */
  readonly logprobs?: readonly DrawnLogprob[];
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
  readonly #lendNegative: (() => LentSequence) | null;
  readonly #sampler: Sampler;
  readonly #maxTokens: number;
  #isStarted = false;
  #whole: Promise<GenerationResult> | null = null;
  #result: GenerationResult | null = null;

  /**
   * @internal Use `session.generate`.
   * @param lendNegative - where the guidance names a session
   */
  constructor(
    sequence: Sequence,
    prompt: Prompt | null,
    options: GenerateOptions,
    acquire: () => () => void,
    lendNegative: (() => LentSequence) | null,
  ) {
    this.#sequence = sequence;
    this.#prompt = prompt;
    this.#options = options;
    this.#acquire = acquire;
    this.#lendNegative = lendNegative;
    this.#sampler = createSampler(options);
    this.#maxTokens = options.maxTokens ?? DEFAULT_MAX_TOKENS;
    if (!Number.isSafeInteger(this.#maxTokens) || this.#maxTokens < 0) {
      throw new UsageError(`maxTokens is ${this.#maxTokens}; expected a whole number of at least 0.`);
    }
    const { logprobs, guidance } = options;
    if (logprobs !== undefined && (!Number.isSafeInteger(logprobs) || logprobs < 0)) {
      throw new UsageError(`logprobs is ${logprobs}; expected a whole number of at least 0.`);
    }
    if (guidance !== undefined) Guide.checkScale(guidance.scale);
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
    const { signal, onProgress, seed, logprobs: nLogprobs } = this.#options;
    const sequence = this.#sequence;
    const { engine } = sequence;
    if (seed === undefined && sequence.random !== null) this.#sampler.restore(sequence.random);
    const emitter = new TextEmitter(engine.tokenizer, this.#options.stop ?? []);
    const stopTokens = new Set(this.#options.stopTokens ?? engine.defaultStopTokens);
    const reader = nLogprobs === undefined ? null : new LogprobReader();
    const logprobs: DrawnLogprob[] = [];
    const tokens: number[] = [];
    let text = "";
    let finishReason: FinishReason = "aborted";
    let nPromptTokens = 0;
    const prefill = new PhaseTimer();
    let prefillMs = 0;
    let decode = prefill;
    const guide = this.#startGuide();
    const drawing = guide === null && reader === null ? new Drawing(sequence, this.#sampler) : null;

    try {
      const prompt = this.#prompt ?? "";
      if (this.#options.echo === true && typeof prompt === "string" && prompt !== "") {
        text = prompt;
        yield { text: prompt, tokens: [] };
      }
      nPromptTokens = await this.#read(prompt, guide);
      sequence.requireContinuable();
      prefillMs = prefill.elapsedMs();
      if (nPromptTokens > 0) prefill.measure("rwkv:prefill");
      decode = new PhaseTimer();
      this.#sampler.begin(sequence.recentTokens, sequence.nTokens);
      while (tokens.length < this.#maxTokens && finishReason === "aborted") {
        if (signal?.aborted === true) break;
        const logits = drawing === null ? await this.#settle(guide) : null;
        const token = logits === null ? await drawing!.next() : this.#sample(logits, guide);
        sequence.random = this.#sampler.state();
        if (stopTokens.has(token)) {
          await sequence.settle();
          finishReason = "stop";
          break;
        }
        const told = reader?.drawn(engine.usedLogits(logits!), token, nLogprobs!);
        sequence.accept(token);
        guide?.accept(token);
        tokens.push(token);
        if (told !== undefined) logprobs.push(told);
        const piece = emitter.push(token);
        text += piece;
        if (emitter.isStopped) finishReason = "stop";
        onProgress?.(decode.progress("decode", tokens.length, this.#maxTokens));
        yield { text: piece, tokens: [token], ...(told !== undefined && { logprobs: [told] }) };
      }
      if (finishReason === "aborted" && tokens.length === this.#maxTokens) finishReason = "length";
      const rest = emitter.flush();
      text += rest;
      if (rest !== "") yield { text: rest, tokens: [] };
    } catch (error) {
      // An abort inside the prompt has been undone; it ends the generation like any other abort.
      if (signal?.aborted !== true || error !== signal.reason) throw error;
    } finally {
      guide?.release();
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
        ...(reader !== null && { logprobs }),
      };
    }
  }

  /** Null without guidance. */
  #startGuide(): Guide | null {
    const { guidance } = this.#options;
    if (guidance === undefined) return null;
    if (this.#lendNegative === null) return Guide.fork(this.#sequence, guidance.scale);
    return Guide.of(this.#lendNegative(), this.#sequence, guidance.scale);
  }

  /** All logits after the last token. */
  async #settle(guide: Guide | null): Promise<Float32Array> {
    const logits = this.#sequence.settle();
    return (await (guide === null ? logits : guide.settleAlong(logits)))!;
  }

  #sample(logits: Float32Array, guide: Guide | null): number {
    return this.#sampler.sample(
      this.#sequence.engine.usedLogits(guide === null ? logits : guide.guided(logits)),
    );
  }

  /** Reads the prompt, and the negative one beside it. Returns the rows of the prompt. */
  async #read(prompt: Prompt, guide: Guide | null): Promise<number> {
    const { signal, onProgress, guidance } = this.#options;
    const negative =
      guidance === undefined || this.#lendNegative !== null ? "" : (guidance.negative as Prompt);
    guide?.requireContinuable(negative);
    const own = prompt.length > 0 ? this.#sequence.read(prompt, { signal, onProgress }) : Promise.resolve(0);
    if (guide === null) return own;
    return guide.readAlong(own, negative, { signal });
  }
}
