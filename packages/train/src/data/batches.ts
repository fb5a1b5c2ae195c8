// Batches out of documents, in one of two ways. `rows`: documents are laid end to end and cut into rows of one length, as
// the official trainer does. `documents`: each is a sequence of its own, read in pieces as long as it lasts. Either way a
// position says exactly what comes next.

import { UsageError } from "rwkv";
import type { Sequence } from "../threads/share.ts";
import type { Documents } from "./documents.ts";
import { shuffled } from "./order.ts";

export interface BatchOptions {
  readonly packing: "rows" | "documents";
  /** Sequences at a time. */
  readonly batch: number;
  /** Most tokens of one sequence in one step. */
  readonly context: number;
  /** Stands before and after each document; null for nothing. */
  readonly endOfText: number | null;
  /** `rows` only: whether a row goes on from the state of the row before it. */
  readonly carryState: boolean;
  readonly seed: number;
}

/** Where the next batch begins; plain data. */
export interface DataPosition {
  readonly epoch: number;
  /** `rows`: steps of this epoch so far. `documents`: documents of this epoch that were begun. */
  readonly next: number;
  /** `documents`: what each slot reads, the document's number and the tokens read; null for nothing. */
  readonly slots: readonly ({ readonly document: number; readonly offset: number } | null)[];
}

export interface Batch {
  readonly sequences: readonly Sequence[];
  readonly nTokens: number;
  /** Targets that are learnt. */
  readonly nTargets: number;
  /** Whole passes over the data when the batch has been read, with a fraction. */
  readonly epochs: number;
}

export interface Batches {
  next(): Batch;
  position(): DataPosition;
}

/** @throws UsageError if there is less than one batch of data */
export function createBatches(documents: Documents, options: BatchOptions, from?: DataPosition): Batches {
  return options.packing === "rows"
    ? new RowBatches(documents, options, from)
    : new DocumentBatches(documents, options, from);
}

function batchOf(sequences: readonly Sequence[], epochs: number): Batch {
  let nTokens = 0;
  let nTargets = 0;
  for (const { targets } of sequences) {
    nTokens += targets.length;
    for (const target of targets) if (target >= 0) nTargets++;
  }
  return { sequences, nTokens, nTargets, epochs };
}

class RowBatches implements Batches {
  readonly #documents: Documents;
  readonly #options: BatchOptions;
  readonly #stepsPerEpoch: number;
  #epoch: number;
  #step: number;
  /** Of the current epoch: all tokens, and as targets. */
  #stream: { readonly tokens: Int32Array; readonly targets: Int32Array } | null = null;

  constructor(documents: Documents, options: BatchOptions, from?: DataPosition) {
    this.#documents = documents;
    this.#options = options;
    const { batch, context } = options;
    const rowsPerEpoch = Math.floor((streamLength(documents, options) - 1) / context);
    this.#stepsPerEpoch = Math.floor(rowsPerEpoch / batch);
    if (this.#stepsPerEpoch === 0) {
      throw new UsageError(
        `The data has ${streamLength(documents, options)} tokens, but one batch takes ${batch} rows of ${context} tokens ` +
          `and one more. Give more data, a smaller batch or a smaller data.context.`,
      );
    }
    this.#epoch = from?.epoch ?? 0;
    this.#step = from?.next ?? 0;
  }

  next(): Batch {
    const { batch, context, carryState } = this.#options;
    if (this.#step === this.#stepsPerEpoch) {
      this.#epoch++;
      this.#step = 0;
      this.#stream = null;
    }
    this.#stream ??= streamOf(this.#documents, this.#options, this.#epoch);
    const { tokens, targets } = this.#stream;
    const isLast = this.#step + 1 === this.#stepsPerEpoch;
    const sequences = Array.from({ length: batch }, (_, slot): Sequence => {
      const row = carryState ? slot * this.#stepsPerEpoch + this.#step : this.#step * batch + slot;
      const start = row * context;
      return {
        slot,
        isStart: !carryState || this.#step === 0,
        isEnd: !carryState || isLast,
        tokens: tokens.slice(start, start + context),
        targets: targets.slice(start + 1, start + 1 + context),
      };
    });
    this.#step++;
    return batchOf(sequences, this.#epoch + this.#step / this.#stepsPerEpoch);
  }

  position(): DataPosition {
    return { epoch: this.#epoch, next: this.#step, slots: [] };
  }
}

function streamLength({ tokens, starts }: Documents, { endOfText }: BatchOptions): number {
  return tokens.length + (endOfText === null ? 0 : starts.length);
}

function streamOf(
  documents: Documents,
  options: BatchOptions,
  epoch: number,
): { tokens: Int32Array; targets: Int32Array } {
  const { starts, learnt } = documents;
  const { endOfText, seed } = options;
  const tokens = new Int32Array(streamLength(documents, options));
  const isMasked = learnt === null ? null : new Uint8Array(tokens.length);
  let n = 0;
  if (endOfText !== null) tokens[n++] = endOfText;
  for (const document of shuffled(starts.length - 1, seed, epoch)) {
    const [start, end] = [starts[document]!, starts[document + 1]!];
    tokens.set(documents.tokens.subarray(start, end), n);
    if (learnt !== null) for (let i = start; i < end; i++) isMasked![n + i - start] = 1 - learnt[i]!;
    n += end - start;
    if (endOfText !== null) tokens[n++] = endOfText;
  }
  const targets = isMasked === null ? tokens : tokens.map((id, i) => (isMasked[i] === 1 ? -1 : id));
  return { tokens, targets };
}

class DocumentBatches implements Batches {
  readonly #documents: Documents;
  readonly #options: BatchOptions;
  readonly #slots: ({ document: number; offset: number } | null)[];
  #epoch: number;
  #next: number;
  #order: Int32Array;

  constructor(documents: Documents, options: BatchOptions, from?: DataPosition) {
    this.#documents = documents;
    this.#options = options;
    this.#epoch = from?.epoch ?? 0;
    this.#next = from?.next ?? 0;
    this.#slots = Array.from({ length: options.batch }, (_, slot) => {
      const kept = from?.slots[slot] ?? null;
      return kept === null ? null : { ...kept };
    });
    this.#order = this.#shuffle();
  }

  #shuffle(): Int32Array {
    return shuffled(this.#documents.starts.length - 1, this.#options.seed, this.#epoch);
  }

  #begin(): { document: number; offset: number } {
    if (this.#next === this.#order.length) {
      this.#epoch++;
      this.#next = 0;
      this.#order = this.#shuffle();
    }
    return { document: this.#order[this.#next++]!, offset: 0 };
  }

  next(): Batch {
    const sequences = this.#slots.map((kept, slot) => {
      const reading = kept ?? this.#begin();
      const sequence = this.#piece(slot, reading.document, reading.offset);
      const offset = reading.offset + sequence.tokens.length;
      this.#slots[slot] = sequence.isEnd ? null : { document: reading.document, offset };
      return sequence;
    });
    return batchOf(sequences, this.#epoch + this.#next / this.#order.length);
  }

  /** Tokens from `offset` on of a document with the end of text before and after it. */
  #piece(slot: number, document: number, offset: number): Sequence {
    const { tokens, starts, learnt } = this.#documents;
    const { context, endOfText } = this.#options;
    const start = starts[document]!;
    const inner = starts[document + 1]! - start;
    const border = endOfText === null ? 0 : 1;
    const length = Math.max(1, inner + 2 * border - 1); // each token but the last has a target
    const end = Math.min(offset + context, length);
    const idAt = (i: number): number => {
      const at = i - border;
      return at < 0 || at >= inner ? endOfText! : tokens[start + at]!;
    };
    const targetAt = (i: number): number => {
      const at = i - border;
      if (at >= inner) return border === 0 ? -1 : endOfText!;
      return learnt !== null && learnt[start + at] === 0 ? -1 : tokens[start + at]!;
    };
    const indices = Array.from({ length: end - offset }, (_, i) => offset + i);
    return {
      slot,
      isStart: offset === 0,
      isEnd: end === length,
      tokens: Int32Array.from(indices, idAt),
      targets: Int32Array.from(indices, (i) => targetAt(i + 1)),
    };
  }

  position(): DataPosition {
    return { epoch: this.#epoch, next: this.#next, slots: this.#slots.map((slot) => slot && { ...slot }) };
  }
}
