// A sequence on the device: its slot, the tokens it has read, and what is needed to go on. Sessions are the public
// face of it, generations drive it.
//
// The last token of a prompt, and the last one sampled, is kept pending: it belongs to the sequence but is read only
// when the logits after it are needed. So a prompt is read without computing any logits, nothing is computed twice,
// and a saved sequence needs no logits to go on.

import { UsageError } from "../core/errors.ts";
import type { Engine, Prompt, PromptRows } from "./engine.ts";
import { PhaseTimer, type TokenProgress } from "./progress.ts";
import type { LogitsWanted } from "./scheduler.ts";
import { Snapshot } from "./snapshot.ts";

/** Ids kept for penalties and saved with the session. */
const RECENT_TOKENS = 1024;

export interface ReadOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((progress: TokenProgress) => void) | undefined;
}

export class Sequence {
  readonly engine: Engine;
  readonly slot: number;
  /** The state to reset to; null for the program's own. */
  readonly #initialState: Float32Array | null;
  #nTokens = 0;
  /** At least the last RECENT_TOKENS; cut now and then rather than at each token. */
  #recentTokens: number[] = [];
  #pendingToken: number | null = null;
  /** `[V]` after the last token; known only if no token is pending. */
  #logits: Float32Array | null = null;
  /** Holds the logits of one token after the other. */
  #settled: Float32Array | null = null;
  /** State of the random generator after the last sampled token. */
  random: readonly number[] | null = null;

  private constructor(engine: Engine, slot: number, initialState: Float32Array | null) {
    this.engine = engine;
    this.slot = slot;
    this.#initialState = initialState;
  }

  /**
   * @param initialState - what `reset` returns to; null for the program's own
   * @param snapshot - where to begin; without it at the initial state
   */
  static async create(
    engine: Engine,
    initialState: Float32Array | null,
    snapshot?: Snapshot,
    allowOtherModel = false,
  ): Promise<Sequence> {
    engine.checkAlive();
    const sequence = new Sequence(engine, engine.program.createSlot(), initialState);
    try {
      await sequence.created();
      if (snapshot !== undefined) await sequence.rewind(snapshot, allowOtherModel);
      else if (initialState !== null) await engine.program.writeSlot(sequence.slot, initialState);
    } catch (error) {
      if (!engine.isDisposed) engine.program.releaseSlot(sequence.slot);
      throw error;
    }
    return sequence;
  }

  get nTokens(): number {
    return this.#nTokens;
  }

  get recentTokens(): readonly number[] {
    return this.#recentTokens.slice(-RECENT_TOKENS);
  }

  /** Whether there are logits to sample from, or a token to get them by. */
  get canContinue(): boolean {
    return this.#pendingToken !== null || this.#logits !== null;
  }

  /** @throws UsageError if nothing was read yet */
  requireContinuable(): void {
    if (this.canContinue) return;
    throw new UsageError(
      "There is nothing to continue: give a prompt, or restore a session that has read something.",
    );
  }

  /** @throws DeviceError if there is no memory for its state */
  async created(): Promise<void> {
    await this.engine.program.slotCreated?.(this.slot);
  }

  /** Gives the slot back; the sequence must not be used afterwards. */
  release(): void {
    if (!this.engine.isDisposed) this.engine.program.releaseSlot(this.slot);
  }

  fork(): Sequence {
    const copy = new Sequence(this.engine, this.engine.program.createSlot(this.slot), this.#initialState);
    copy.#nTokens = this.#nTokens;
    copy.#recentTokens = this.#recentTokens.slice(-RECENT_TOKENS);
    copy.#pendingToken = this.#pendingToken;
    copy.#logits = this.#logits?.slice() ?? null;
    copy.random = this.random;
    return copy;
  }

  async reset(): Promise<void> {
    const { program } = this.engine;
    if (this.#initialState === null) await program.resetSlot(this.slot);
    else await program.writeSlot(this.slot, this.#initialState);
    this.#nTokens = 0;
    this.#recentTokens = [];
    this.#pendingToken = null;
    this.#logits = null;
    this.random = null;
  }

  /** All that is needed to continue from here. */
  async snapshot(): Promise<Snapshot> {
    const state = await this.engine.program.readSlot(this.slot);
    return new Snapshot({
      header: {
        fingerprint: this.engine.fingerprint,
        modelName: this.engine.name,
        nTokens: this.#nTokens,
        recentTokens: this.recentTokens,
        pendingToken: this.#pendingToken,
        random: this.random,
      },
      state,
      logits: this.#logits?.slice() ?? null,
    });
  }

  /**
   * Continues from the snapshot from now on.
   * @param allowOtherModel - whether one of another model of the same sizes will do
   * @throws UsageError if it is of another model; the sequence is then as before
   */
  async rewind({ contents }: Snapshot, allowOtherModel = false): Promise<void> {
    this.engine.checkSnapshot(contents, "The snapshot", allowOtherModel);
    const { header, state, logits } = contents;
    await this.engine.program.writeSlot(this.slot, state);
    this.#nTokens = header.nTokens;
    this.#recentTokens = [...header.recentTokens];
    this.#pendingToken = header.pendingToken;
    this.#logits = logits;
    this.random = header.random;
  }

  /** Reads a prompt, keeping its last token pending. Returns the number of rows. */
  async read(prompt: Prompt, options: ReadOptions): Promise<number> {
    const input = this.engine.prepare(prompt);
    if (input.nRows === 0) return 0;
    const whole = this.#withPending(input);
    const last = input.tokens?.at(-1);
    if (last === undefined) {
      // Embedding rows are not kept pending, since a saved sequence could not hold them.
      const logits = await this.#readRows(whole, "last", options);
      this.#advance(input, null, logits);
    } else {
      const nRows = whole.nRows - 1;
      if (nRows > 0) await this.#readRows({ ...whole, nRows }, "none", options);
      this.#advance(input, last, null);
    }
    return input.nRows;
  }

  /**
   * Reads a whole prompt and returns logits of its rows.
   * @param target - where they go; a new array without it
   */
  async forward(
    prompt: Prompt,
    wanted: LogitsWanted,
    options: ReadOptions,
    target?: Float32Array,
  ): Promise<Float32Array> {
    const input = this.engine.prepare(prompt);
    if (input.nRows === 0) {
      throw new UsageError("forward() needs at least one token; there are no logits after an empty prompt.");
    }
    const result = target ?? this.#newLogits(input.nRows, wanted);
    const wantedElements = nLogitRows(input.nRows, wanted) * this.engine.config.nVocab;
    if (result.length !== wantedElements) {
      throw new UsageError(
        `target has ${result.length} elements, but logits "${wanted}" of ${input.nRows} rows are ${wantedElements}.`,
      );
    }
    const whole = this.#withPending(input);
    // The row of a pending token comes first and is not the caller's.
    const hasOwnRow = wanted === "all" && whole.nRows > input.nRows;
    const logits = hasOwnRow ? this.#newLogits(whole.nRows, wanted) : result;
    await this.#readRows(whole, wanted, options, logits);
    if (hasOwnRow) result.set(logits.subarray(logits.length - result.length));
    this.#advance(input, null, wanted === "none" ? null : this.#settle(logits));
    return result;
  }

  /** Logits after the last token, reading the pending one if there is one; `[V]`, null if nothing was read yet. */
  async settle(): Promise<Float32Array | null> {
    if (this.#pendingToken !== null) {
      const input: PromptRows = { nRows: 1, tokens: [this.#pendingToken], rows: null };
      this.#logits = await this.#readRows(input, "last", {}, this.#lastRow());
      this.#pendingToken = null;
    }
    return this.#logits;
  }

  /** Takes a sampled token into the sequence; it is read when the next logits are needed. */
  accept(token: number): void {
    this.#advance({ nRows: 1, tokens: [token], rows: null }, token, null);
  }

  #newLogits(nRows: number, wanted: LogitsWanted): Float32Array {
    return new Float32Array(nLogitRows(nRows, wanted) * this.engine.config.nVocab);
  }

  #lastRow(): Float32Array {
    this.#settled ??= new Float32Array(this.engine.config.nVocab);
    return this.#settled;
  }

  /** The last row of `logits`, kept by the sequence. */
  #settle(logits: Float32Array): Float32Array {
    const row = this.#lastRow();
    row.set(logits.subarray(logits.length - row.length));
    return row;
  }

  #withPending(input: PromptRows): PromptRows {
    return this.#pendingToken === null ? input : this.engine.prepend(this.#pendingToken, input);
  }

  #advance(input: PromptRows, pendingToken: number | null, logits: Float32Array | null): void {
    if (input.tokens !== null) {
      const { tokens } = input;
      for (let i = Math.max(0, tokens.length - RECENT_TOKENS); i < tokens.length; i++) {
        this.#recentTokens.push(tokens[i]!);
      }
      if (this.#recentTokens.length >= 2 * RECENT_TOKENS) this.#recentTokens = [...this.recentTokens];
    }
    this.#nTokens += input.nRows;
    this.#pendingToken = pendingToken;
    this.#logits = logits;
  }

  /** @param target - where the logits go; without it they are the caller's to keep */
  async #readRows(
    input: PromptRows,
    logits: LogitsWanted,
    options: ReadOptions,
    target = this.#newLogits(input.nRows, logits),
  ): Promise<Float32Array> {
    this.engine.checkAlive();
    const { program, scheduler } = this.engine;
    const { signal, onProgress } = options;
    signal?.throwIfAborted();
    const timer = new PhaseTimer();
    const position = this.#nTokens - (this.#pendingToken === null ? 0 : 1);
    // Only a read that a signal can stop half-way, or a callback fail, may have to be undone.
    const canFail = onProgress !== undefined || (signal !== undefined && input.nRows > 1);
    const backup = canFail ? program.createSlot(this.slot) : null;
    try {
      await scheduler.submit({
        slot: this.slot,
        nRows: input.nRows,
        logits,
        target,
        signal,
        fillRows: (inputs, targetRow, first, nRows) =>
          this.engine.fillRows(input, position, inputs, targetRow, first, nRows),
        onRows: (done) => onProgress?.(timer.progress("prefill", done, input.nRows)),
      });
      return target;
    } catch (error) {
      if (backup !== null && !this.engine.isDisposed) await program.copySlot(this.slot, backup);
      throw error;
    } finally {
      if (backup !== null && !this.engine.isDisposed) program.releaseSlot(backup);
    }
  }
}

function nLogitRows(nRows: number, wanted: LogitsWanted): number {
  return wanted === "all" ? nRows : wanted === "last" ? 1 : 0;
}
