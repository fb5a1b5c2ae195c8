// A loaded model as the runtime sees it: the program on its device, the scheduler in front of it, and what turns
// prompts into rows. Shared by the model's sessions; not part of the public interface.

import { DeviceError, UsageError } from "../core/errors.ts";
import type { SessionFile } from "../formats/session-file.ts";
import type { ModelConfig } from "../model/config.ts";
import type { LoadedProgram } from "../model/load.ts";
import type { Program } from "../ops/backend.ts";
import type { Tokenizer } from "../tokenizer/tokenizer.ts";
import { Scheduler } from "./scheduler.ts";

/** Text, token ids, or embedding rows `[T, C]` in place of tokens (row-major f32, in the space of `emb.weight`). */
export type Prompt = string | readonly number[] | Float32Array;

/** A prompt ready to be read: ids, or embedding rows. */
export interface PromptRows {
  readonly nRows: number;
  readonly tokens: readonly number[] | null;
  readonly rows: Float32Array | null;
}

/** Where the state of a sequence lies: a slot of the program that the engine had when it was made. */
export interface Place {
  readonly program: Program;
  readonly slot: number;
}

export interface EngineOptions {
  readonly name: string;
  readonly loaded: LoadedProgram;
  readonly fingerprint: string;
  readonly tokenizer: Tokenizer | null;
}

export class Engine {
  /** Base name of the model's file. */
  readonly name: string;
  readonly config: ModelConfig;
  readonly fingerprint: string;
  readonly tokenizer: Tokenizer | null;
  /** The state a new sequence starts from where the checkpoint holds a tuned one; null for the empty state. */
  readonly initialState: Float32Array | null;
  #loaded: LoadedProgram;
  #scheduler: Scheduler;
  #isDisposed = false;

  constructor({ name, loaded, fingerprint, tokenizer }: EngineOptions) {
    this.name = name;
    this.config = loaded.config;
    this.fingerprint = fingerprint;
    this.tokenizer = tokenizer;
    this.initialState = loaded.initialState;
    this.#loaded = loaded;
    this.#scheduler = schedulerOf(loaded);
  }

  /** Another after `replace`. */
  get program(): Program {
    return this.#loaded.program;
  }

  get scheduler(): Scheduler {
    return this.#scheduler;
  }

  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    this.#scheduler.close(disposedError());
    free(this.#loaded);
  }

  /** Goes on with the same model on another device, or the same one opened again. What was on the device before is freed. */
  replace(loaded: LoadedProgram): void {
    const before = this.#loaded;
    this.#scheduler.close(
      new DeviceError(`The device of ${this.name} was lost; the model has been reloaded.`),
    );
    this.#loaded = loaded;
    this.#scheduler = schedulerOf(loaded);
    free(before);
  }

  /** @throws DeviceError if there is no memory for one more state */
  createPlace(copyOf?: Place): Place {
    const { program } = this;
    return { program, slot: program.createSlot(copyOf?.slot) };
  }

  /** Whether the place is there; not after `replace`, nor once the model has been disposed. */
  hasPlace({ program }: Place): boolean {
    return !this.#isDisposed && program === this.program;
  }

  /** Gives the slot free, if it is there. */
  releasePlace(place: Place): void {
    if (this.hasPlace(place)) place.program.releaseSlot(place.slot);
  }

  /** @throws UsageError if the model has been disposed */
  checkAlive(): void {
    if (this.#isDisposed) throw disposedError();
  }

  /** @throws UsageError if an initial state was given that is no whole state */
  checkState(initialState: Float32Array | undefined): void {
    const { stateElements } = this.program;
    if (initialState === undefined || initialState.length === stateElements) return;
    throw new UsageError(
      `initialState has ${initialState.length} numbers, but a state of ${this.name} has ${stateElements}.`,
    );
  }

  /**
   * @param what - what messages call the state
   * @param allowOtherModel - whether it may be of another model of the same sizes
   * @throws UsageError naming both models if the state belongs to another one
   */
  checkSnapshot({ header, state, logits }: SessionFile, what: string, allowOtherModel: boolean): void {
    const { fingerprint, modelName, pendingToken } = header;
    const { nVocab } = this.config;
    const { stateElements } = this.program;
    const both =
      `${what} is a state of ${modelName} (fingerprint ${fingerprint.slice(0, 12)}), but the loaded model is ` +
      `${this.name} (fingerprint ${this.fingerprint.slice(0, 12)}).`;
    const hasSizes =
      state.length === stateElements &&
      (logits === null || logits.length === nVocab) &&
      (pendingToken === null || pendingToken < nVocab);
    if (!hasSizes) {
      throw new UsageError(
        `${both} Its sizes are others: ${state.length} numbers where this model's state has ${stateElements}, or ` +
          `logits or an id for another vocabulary than ${nVocab}. Load the model that it belongs to.`,
      );
    }
    if (fingerprint === this.fingerprint || allowOtherModel) return;
    throw new UsageError(
      `${both} A state continues only on its own model; allowOtherModel takes one of a model of the same sizes, such as ` +
        `another fine-tune.`,
    );
  }

  /** Ids that end a text where the caller names none. */
  get defaultStopTokens(): readonly number[] {
    const endOfText = this.tokenizer?.endOfText ?? null;
    return endOfText === null ? [] : [endOfText];
  }

  /** World models have a few more rows than their vocabulary has ids; those must never be drawn. */
  get nUsedIds(): number {
    return Math.min(this.tokenizer?.nVocab ?? Infinity, this.config.nVocab);
  }

  /** The logits of ids that may be drawn. */
  usedLogits(logits: Float32Array): Float32Array {
    return this.nUsedIds < logits.length ? logits.subarray(0, this.nUsedIds) : logits;
  }

  /** @throws UsageError for a model without a tokenizer */
  requireTokenizer(): Tokenizer {
    if (this.tokenizer !== null) return this.tokenizer;
    throw new UsageError(
      `${this.name} has ${this.config.nVocab} ids and no tokenizer was found beside it. Text needs one: ` +
        `give rwkv_vocab_v20230424.txt, its JSON form or a tokenizer.json (option "tokenizer"), or use token ids.`,
    );
  }

  /** @throws UsageError for text without a tokenizer, an unknown id, or rows of another width */
  prepare(prompt: Prompt): PromptRows {
    if (typeof prompt === "string") {
      const tokens = this.requireTokenizer().encode(prompt);
      this.#checkTokens(tokens);
      return { nRows: tokens.length, tokens, rows: null };
    }
    const { nEmbd } = this.config;
    if (prompt instanceof Float32Array) {
      if (prompt.length % nEmbd !== 0) {
        throw new UsageError(
          `Embedding rows of ${this.name} are ${nEmbd} numbers wide, but ${prompt.length} numbers were given, which is not a multiple.`,
        );
      }
      return { nRows: prompt.length / nEmbd, tokens: null, rows: prompt };
    }
    this.#checkTokens(prompt);
    return { nRows: prompt.length, tokens: prompt, rows: null };
  }

  /** The same input with one token before it. */
  prepend(token: number, input: PromptRows): PromptRows {
    if (input.tokens !== null)
      return { nRows: input.nRows + 1, tokens: [token, ...input.tokens], rows: null };
    const { nEmbd } = this.config;
    const rows = new Float32Array((input.nRows + 1) * nEmbd);
    this.#loaded.embedding.row(token, rows, 0);
    rows.set(input.rows!, nEmbd);
    return { nRows: input.nRows + 1, tokens: null, rows };
  }

  /** Room for so many rows of the program's inputs. */
  createInputs(nRows: number): Float32Array[] {
    return this.#loaded.inputWidths.map((width) => new Float32Array(nRows * width));
  }

  /**
   * Writes the program's inputs for the rows `[first, first + nRows)` of a prompt.
   * @param position - rows the sequence had read before the prompt
   */
  fillRows(
    prompt: PromptRows,
    position: number,
    inputs: readonly Float32Array[],
    targetRow: number,
    first: number,
    nRows: number,
  ): void {
    const { nEmbd } = this.config;
    const [embeddings, positions] = inputs;
    for (let i = 0; i < nRows; i++) {
      const offset = (targetRow + i) * nEmbd;
      if (prompt.tokens !== null) {
        this.#loaded.embedding.row(prompt.tokens[first + i]!, embeddings!, offset);
      } else {
        const start = (first + i) * nEmbd;
        embeddings!.set(prompt.rows!.subarray(start, start + nEmbd), offset);
      }
      if (positions !== undefined) this.#loaded.positions!.row(position + first + i, positions, offset);
    }
  }

  #checkTokens(tokens: readonly number[]): void {
    const { nVocab } = this.config;
    for (const token of tokens) {
      if (Number.isInteger(token) && token >= 0 && token < nVocab) continue;
      throw new UsageError(`Token ${token} is unknown to ${this.name}: its ids are 0 to ${nVocab - 1}.`);
    }
  }
}

function schedulerOf({ program, config, inputWidths }: LoadedProgram): Scheduler {
  return new Scheduler(program, config.nVocab, inputWidths);
}

/** Gives back what a load took. */
export function free({ program, embedding }: LoadedProgram): void {
  program.dispose();
  embedding.close();
}

function disposedError(): UsageError {
  return new UsageError("The model has been disposed. Load it again to go on.");
}
