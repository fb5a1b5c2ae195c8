// One conversation: what the library's user holds. It reads, generates, forks, saves and resets; one call at a time.

import { UsageError } from "../core/errors.ts";
import { searchBeams, type Beam, type BeamSearchOptions } from "./beam-search.ts";
import { rankChoices, type Choice, type ChooseOptions, type RankedChoice } from "./choose.ts";
import type { Prompt } from "./engine.ts";
import { Generation, type GenerateOptions } from "./generation.ts";
import type { TokenProgress } from "./progress.ts";
import type { LogitsWanted } from "./scheduler.ts";
import type { Sequence } from "./sequence.ts";
import type { SaveOptions, Snapshot } from "./snapshot.ts";

/** How a prompt is read. */
export interface AppendOptions {
  /** Stops inside a long prompt too; the session is then as before the call. */
  readonly signal?: AbortSignal | undefined;
  /** Called after each step; an error in it undoes the read. */
  readonly onProgress?: ((progress: TokenProgress) => void) | undefined;
}

/** How a prompt is read, and what comes back. */
export interface ForwardOptions extends AppendOptions {
  /** Which rows to return: after the last token, after every token, or none. Default `last`. */
  readonly logits?: LogitsWanted | undefined;
  /**
   * Where the rows go, an array of just their length, which is then what comes back. A loop over tokens that hands in the
   * same one each time makes no garbage; a read that fails may leave anything in it. Default: a new array.
   */
  readonly target?: Float32Array | undefined;
}

/** Slots of sessions that were dropped without `dispose`. */
const droppedSessions = new FinalizationRegistry<Sequence>((sequence) => {
  sequence.release();
});

/** A sequence of tokens and its state. Made by `model.createSession`, `model.restore` and `session.fork`. */
export class Session implements AsyncDisposable {
  readonly #sequence: Sequence;
  #isBusy = false;
  #isDisposed = false;

  /** @internal */
  constructor(sequence: Sequence) {
    this.#sequence = sequence;
    droppedSessions.register(this, sequence, this);
  }

  /** Tokens (or embedding rows) read since the empty state. */
  get nTokens(): number {
    return this.#sequence.nTokens;
  }

  /** The last ids read or generated, oldest first, at most 1,024. */
  get recentTokens(): readonly number[] {
    return this.#sequence.recentTokens;
  }

  /**
   * Reads the prompt, so that what follows continues it. Either all of it is read or, on any error, nothing.
   * @param prompt - text, token ids, or embedding rows `[T, C]` as f32
   * @throws UsageError for text without a tokenizer, an unknown id, or a session that is busy or disposed
   * @throws the signal's reason if aborted
   */
  async append(prompt: Prompt, options: AppendOptions = {}): Promise<void> {
    await this.#exclusively(() => this.#sequence.read(prompt, options));
  }

  /**
   * Reads at least one token or row and returns logits.
   * @returns f32, row-major, yours to keep: `[1, V]` after the last token, `[T, V]` for `all`, empty for `none`
   * @throws as `append`, UsageError if `target` has another length
   */
  async forward(prompt: Prompt, options: ForwardOptions = {}): Promise<Float32Array> {
    const { logits = "last", target } = options;
    return this.#exclusively(() => this.#sequence.forward(prompt, logits, options, target));
  }

  /**
   * Continues the sequence, after reading `prompt` if there is one.
   * @param prompt - as for `append`; null or "" continues what was read before
   * @returns an async iterable of chunks as they are produced, and a promise of the whole result. It starts when it
   * is first iterated or awaited, and produces no faster than it is read
   * @throws UsageError if an option is out of range
   */
  generate(prompt: Prompt | null, options: GenerateOptions = {}): Generation {
    const negative = options.guidance?.negative;
    const lendNegative =
      negative instanceof Session
        ? () => ({ release: negative.#acquire(), sequence: negative.#sequence })
        : null;
    return new Generation(this.#sequence, prompt, options, () => this.#acquire(), lendNegative);
  }

  /**
   * The likeliest continuations that a beam search finds, the likeliest first; the first is at least as likely as the
   * greedy one. The session reads the prompt, and is left after it: `append` the tokens of a beam to go on with it.
   * @param prompt - as for `append`; null or "" continues what was read before
   * @throws UsageError for an option out of range, or nothing to continue; the signal's reason if aborted
   */
  async beamSearch(prompt: Prompt | null, options: BeamSearchOptions = {}): Promise<Beam[]> {
    return this.#exclusively(() => searchBeams(this.#sequence, prompt, options));
  }

  /**
   * Ranks texts by how likely they are to come next, the likeliest first. The session is left as it is.
   * @param choices - texts or ids, at least one, none empty
   * @throws UsageError for what is no choice, or nothing read before it; the signal's reason if aborted
   */
  async choose(choices: readonly Choice[], options: ChooseOptions = {}): Promise<RankedChoice[]> {
    return this.#exclusively(() => rankChoices(this.#sequence, choices, options));
  }

  /** An independent session that continues from here. The state is copied when one of the two next reads, if ever. */
  async fork(): Promise<Session> {
    // Copied before the first wait, so that several forks can be asked for together.
    const release = this.#acquire();
    let copy: Sequence;
    try {
      copy = this.#sequence.fork();
    } finally {
      release();
    }
    try {
      await copy.created();
    } catch (error) {
      copy.release();
      throw error;
    }
    return new Session(copy);
  }

  /** Back to the state the session was created with; nothing of what it read remains. */
  async reset(): Promise<void> {
    await this.#exclusively(() => this.#sequence.reset());
  }

  /**
   * The session as bytes, for `model.restore` in any process; in f32 continuing them gives the same bits as going on.
   * @throws UsageError if a number of the state is too large for f16
   */
  async save(options: SaveOptions = {}): Promise<Uint8Array<ArrayBuffer>> {
    return this.#exclusively(async () => (await this.#sequence.snapshot()).save(options));
  }

  /** The session at this moment, to `rewind` to or to create others from; costs one copy of the state. */
  async snapshot(): Promise<Snapshot> {
    return this.#exclusively(() => this.#sequence.snapshot());
  }

  /**
   * Goes on from the snapshot, whatever was read since: the same bits and, with no new seed, the same random numbers.
   * Forwards as well as back, and with snapshots of other sessions too.
   * @throws UsageError if it is of another model; the session is then as before
   */
  async rewind(snapshot: Snapshot): Promise<void> {
    await this.#exclusively(() => this.#sequence.rewind(snapshot));
  }

  /** The state after every token read: f32, laid out as `model.stateLayout` says; a copy. */
  async readState(): Promise<Float32Array> {
    return this.#exclusively(async () => {
      await this.#sequence.settle();
      return this.#sequence.readState();
    });
  }

  /** Frees the state. A session that is merely dropped is freed when it is garbage-collected. */
  dispose(): void {
    if (this.#isDisposed) return;
    if (this.#isBusy)
      throw new UsageError("The session is busy: abort or await its running call before disposing of it.");
    this.#isDisposed = true;
    droppedSessions.unregister(this);
    this.#sequence.release();
  }

  /** `dispose`, for `await using`. */
  [Symbol.asyncDispose](): Promise<void> {
    this.dispose();
    return Promise.resolve();
  }

  async #exclusively<Result>(work: () => Promise<Result>): Promise<Result> {
    const release = this.#acquire();
    try {
      return await work();
    } finally {
      release();
    }
  }

  /** @returns a function that gives the session free again */
  #acquire(): () => void {
    this.#sequence.engine.checkAlive();
    if (this.#isDisposed) throw new UsageError("The session has been disposed. Create or restore another.");
    if (this.#isBusy) {
      throw new UsageError(
        "The session is busy with another call. Await that call first, or fork() the session to do both at once.",
      );
    }
    this.#isBusy = true;
    return () => {
      this.#isBusy = false;
    };
  }
}
