// A sequence on the device: its slot, the tokens it has read, and what is needed to go on. Sessions are the public
// face of it, generations drive it.
//
// The last token of a prompt, and the last one sampled, is kept pending: it belongs to the sequence but is read only
// when the logits after it are needed. So a prompt is read without computing any logits, nothing is computed twice,
// and a saved sequence needs no logits to go on.

import { UsageError } from "../core/errors.ts";
import { shortlistElements, shortlistOf, type Shortlist, type ShortlistWanted } from "../core/shortlist.ts";
import type { Engine, Place, Prompt, PromptRows } from "./engine.ts";
import { PhaseTimer, type TokenProgress } from "./progress.ts";
import { Replay } from "./replay.ts";
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
  /** Stale once the model was reloaded, until the state is needed. */
  #place: Place;
  /** Null where the device cannot be lost. */
  #replay: Replay | null;
  /** The state to reset to; null for the program's own. */
  readonly #initialState: Float32Array | null;
  #nTokens = 0;
  /** At least the last RECENT_TOKENS; cut now and then rather than at each token. */
  #recentTokens: number[] = [];
  #pendingToken: number | null = null;
  /** `[V]` after the last token; known only if no token is pending. */
  #logits: Float32Array | null = null;
  /** The last token, if it was read for a shortlist: the logits after it are still on the device. */
  #shortToken: number | null = null;
  /** Holds the logits of one token after the other. */
  #settled: Float32Array | null = null;
  /** State of the random generator after the last sampled token. */
  random: readonly number[] | null = null;

  private constructor(
    engine: Engine,
    place: Place,
    replay: Replay | null,
    initialState: Float32Array | null,
  ) {
    this.engine = engine;
    this.#place = place;
    this.#replay = replay;
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
    const place = engine.createPlace();
    const sequence = new Sequence(engine, place, newReplay(place, null, 0), initialState);
    try {
      await sequence.created();
      if (snapshot !== undefined) await sequence.rewind(snapshot, allowOtherModel);
      else if (initialState !== null) await sequence.#write(initialState, 0);
    } catch (error) {
      sequence.release();
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
    return this.#pendingToken !== null || this.#shortToken !== null || this.#logits !== null;
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
    const { program, slot } = this.#place;
    if (this.engine.hasPlace(this.#place)) await program.slotCreated?.(slot);
  }

  /** Gives the slot back; the sequence must not be used afterwards. */
  release(): void {
    this.engine.releasePlace(this.#place);
  }

  fork(): Sequence {
    const { engine } = this;
    const place = engine.hasPlace(this.#place) ? engine.createPlace(this.#place) : this.#place;
    const copy = new Sequence(engine, place, this.#replay?.fork() ?? null, this.#initialState);
    copy.#nTokens = this.#nTokens;
    copy.#recentTokens = this.#recentTokens.slice(-RECENT_TOKENS);
    copy.#pendingToken = this.#pendingToken;
    copy.#logits = this.#logits?.slice() ?? null;
    copy.random = this.random;
    return copy;
  }

  async reset(): Promise<void> {
    await this.#write(this.#initialState, 0);
    this.#nTokens = 0;
    this.#recentTokens = [];
    this.#pendingToken = null;
    this.#shortToken = null;
    this.#logits = null;
    this.random = null;
  }

  /** All that is needed to continue from here. */
  async snapshot(): Promise<Snapshot> {
    if (this.#shortToken !== null) await this.settle();
    const state = await this.readState();
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
    await this.#write(state, header.nTokens - (header.pendingToken === null ? 0 : 1));
    this.#nTokens = header.nTokens;
    this.#recentTokens = [...header.recentTokens];
    this.#pendingToken = header.pendingToken;
    this.#shortToken = null;
    this.#logits = logits;
    this.random = header.random;
  }

  /** The state after what was read, the pending token left out; a copy. */
  async readState(): Promise<Float32Array> {
    const { program, slot } = this.#current() ?? (await this.#bringBack());
    return program.readSlot(slot);
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
    if (this.#shortToken !== null) {
      const place = this.#current();
      if (place !== null) this.#logits = await place.program.readLogits!(place.slot);
      else {
        // The device that had them is gone.
        this.#replay!.takeBack();
        this.#pendingToken = this.#shortToken;
      }
      this.#shortToken = null;
    }
    if (this.#pendingToken !== null) {
      const input: PromptRows = { nRows: 1, tokens: [this.#pendingToken], rows: null };
      this.#logits = await this.#readRows(input, "last", {}, this.#lastRow());
      this.#pendingToken = null;
    }
    return this.#logits;
  }

  /**
   * A shortlist of the logits after the last token, reading the pending one. Only where the program has shortlists. `settle` still
   * gives all of them until a token is accepted, and must be called where none is.
   * @returns null where all logits are here
   */
  async settleShort(wanted: ShortlistWanted): Promise<Shortlist | null> {
    const token = this.#pendingToken;
    if (token === null) return null;
    const target = new Float32Array(shortlistElements(wanted));
    await this.#readRows({ nRows: 1, tokens: [token], rows: null }, "last", {}, target, wanted);
    this.#pendingToken = null;
    this.#shortToken = token;
    return shortlistOf(target);
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
    this.#shortToken = null;
    this.#logits = logits;
  }

  /** @param target - where the logits, or the shortlist of them, go; without it they are the caller's to keep */
  async #readRows(
    input: PromptRows,
    logits: LogitsWanted,
    options: ReadOptions,
    target = this.#newLogits(input.nRows, logits),
    shortlist?: ShortlistWanted,
  ): Promise<Float32Array> {
    this.engine.checkAlive();
    const { engine } = this;
    const { signal, onProgress } = options;
    signal?.throwIfAborted();
    const place = this.#current() ?? (await this.#bringBack());
    const position = this.#nTokens - (this.#pendingToken === null ? 0 : 1);
    if (this.#replay?.isLong === true) {
      this.#replay = newReplay(place, await place.program.readSlot(place.slot), position);
    }
    const timer = new PhaseTimer();
    // Only a read that a signal can stop half-way, or a callback fail, may have to be undone.
    const canFail = onProgress !== undefined || (signal !== undefined && input.nRows > 1);
    const backup = canFail ? engine.createPlace(place) : null;
    try {
      await engine.scheduler.submit({
        slot: place.slot,
        nRows: input.nRows,
        logits,
        shortlist,
        target,
        signal,
        fillRows: (inputs, targetRow, first, nRows) =>
          engine.fillRows(input, position, inputs, targetRow, first, nRows),
        onRows: (done) => onProgress?.(timer.progress("prefill", done, input.nRows)),
      });
      this.#replay?.append(input, engine.config.nEmbd);
      return target;
    } catch (error) {
      if (backup !== null && engine.hasPlace(backup)) await place.program.copySlot(place.slot, backup.slot);
      throw error;
    } finally {
      if (backup !== null) engine.releasePlace(backup);
    }
  }

  /** Null if the model was reloaded since. */
  #current(): Place | null {
    this.engine.checkAlive();
    return this.engine.hasPlace(this.#place) ? this.#place : null;
  }

  /** Takes a place in the program of now and brings the state there to where the sequence is. */
  async #bringBack(): Promise<Place> {
    this.#place = await this.#replay!.run(this.engine);
    return this.#place;
  }

  /**
   * Makes this the state, whatever was there.
   * @param state - null for the program's own initial state; not changed afterwards
   * @param position - rows that it has read
   */
  async #write(state: Float32Array | null, position: number): Promise<void> {
    const { engine } = this;
    const current = this.#current();
    const place = current ?? engine.createPlace();
    try {
      if (state === null) await place.program.resetSlot(place.slot);
      else await place.program.writeSlot(place.slot, state);
    } catch (error) {
      if (current === null) engine.releasePlace(place);
      throw error;
    }
    this.#place = place;
    this.#replay = newReplay(place, state, position);
  }
}

function newReplay({ program }: Place, state: Float32Array | null, position: number): Replay | null {
  return program.isLost === undefined ? null : new Replay(state, position);
}

function nLogitRows(nRows: number, wanted: LogitsWanted): number {
  return wanted === "all" ? nRows : wanted === "last" ? 1 : 0;
}
