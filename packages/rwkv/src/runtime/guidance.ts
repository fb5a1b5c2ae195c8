// Classifier-free guidance (arXiv:2306.17806): a second sequence, which has read what the text shall not be like, follows the
// first, and each is read in the same step. Its logits n and the first one's p make n + scale * (p - n): what the prompt adds
// to the negative text, times `scale`. Logits do as well as log-probabilities there, since they differ by one number per row.

import { UsageError } from "../core/errors.ts";
import type { Prompt } from "./engine.ts";
import type { ReadOptions, Sequence } from "./sequence.ts";

/** A sequence that is lent for a generation, with what gives it back. */
export interface LentSequence {
  readonly sequence: Sequence;
  readonly release: () => void;
}

/** Steers one generation. */
export class Guide {
  readonly #sequence: Sequence;
  readonly #release: () => void;
  readonly #scale: number;
  readonly #guided: Float32Array;
  #logits: Float32Array | null = null;

  private constructor({ sequence, release }: LentSequence, scale: number) {
    this.#sequence = sequence;
    this.#release = release;
    this.#scale = scale;
    this.#guided = new Float32Array(sequence.engine.config.nVocab);
  }

  /** @throws UsageError for a scale that is no number */
  static checkScale(scale: number): void {
    if (Number.isFinite(scale)) return;
    throw new UsageError(`The scale of guidance is ${scale}; expected a number (1 changes nothing).`);
  }

  /** A guide that begins where the sequence is now, before it reads its prompt. */
  static fork(sequence: Sequence, scale: number): Guide {
    const fork = sequence.fork();
    return new Guide({ sequence: fork, release: () => fork.release() }, scale);
  }

  /** @throws UsageError if the lent sequence belongs to a model of another vocabulary; it is given back then */
  static of(lent: LentSequence, { engine }: Sequence, scale: number): Guide {
    const [own, wanted] = [lent.sequence.engine.config.nVocab, engine.config.nVocab];
    if (own === wanted) return new Guide(lent, scale);
    lent.release();
    throw new UsageError(
      `The negative session's model has ${own} ids, but ${engine.name} has ${wanted}; guidance needs the same vocabulary.`,
    );
  }

  /** @throws UsageError if there would be nothing to predict from after this negative prompt */
  requireContinuable(prompt: Prompt): void {
    if (prompt.length > 0 || this.#sequence.canContinue) return;
    throw new UsageError(
      "There is nothing to guide by: give a negative text, or a session that has read one.",
    );
  }

  /**
   * Reads the negative prompt while the sequence reads its own.
   * @param own - the other read, begun just now, so that they share steps
   * @throws what either throws, once both have ended; UsageError if there is nothing to predict from afterwards
   */
  async readAlong<Result>(own: Promise<Result>, prompt: Prompt, options: ReadOptions): Promise<Result> {
    const [result] = await both(own, prompt.length > 0 ? this.#sequence.read(prompt, options) : null);
    if (this.#sequence.canContinue) return result;
    throw new UsageError(
      "There is nothing to guide by: give a negative text, or a session that has read one.",
    );
  }

  /** As `readAlong`, for the pending tokens. */
  async settleAlong<Result>(own: Promise<Result>): Promise<Result> {
    const [result, logits] = await both(own, this.#sequence.settle());
    this.#logits = logits;
    return result;
  }

  /**
   * What is drawn from.
   * @param logits - `[V]`, of the sequence; the guide's own are those that it settled last
   * @returns `[V]`, valid until the next call
   */
  guided(logits: Float32Array): Float32Array {
    const own = this.#logits!;
    const guided = this.#guided;
    for (let i = 0; i < guided.length; i++) guided[i] = own[i]! + this.#scale * (logits[i]! - own[i]!);
    return guided;
  }

  accept(token: number): void {
    this.#sequence.accept(token);
  }

  release(): void {
    this.#release();
  }
}

async function both<A, B>(a: Promise<A>, b: Promise<B> | null): Promise<[A, B | null]> {
  const [first, second] = await Promise.allSettled([a, b]);
  if (first.status === "rejected") throw first.reason;
  if (second.status === "rejected") throw second.reason;
  return [first.value, second.value];
}
