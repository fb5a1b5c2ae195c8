// Gathers what sessions want read into steps. Whatever waits at the same time shares a step, as a ragged batch of
// runs: one person's prefill, a batch of prompts and many users' decodes are the same call. Results never depend on
// what shares a step, only the speed does.

import { shortlistElements, type ShortlistWanted } from "../core/shortlist.ts";
import type { Program, Run } from "../ops/backend.ts";

/** The rows whose logits are returned: after the last token, after every token, or none. */
export type LogitsWanted = "none" | "last" | "all";

/** Rows of one sequence that shall be read. */
export interface Job {
  readonly slot: number;
  readonly nRows: number;
  readonly logits: LogitsWanted;
  /** With logits `last`: has a shortlist of them come in their place. Only where the program has shortlists. */
  readonly shortlist?: ShortlistWanted | undefined;
  /** Where the wanted rows go, `[wanted rows, V]`, or the shortlist. */
  readonly target: Float32Array;
  readonly signal: AbortSignal | undefined;
  /**
   * Fills the rows `[first, first + nRows)` of each of the program's inputs at the given row of `target`. An error in it
   * ends this job alone.
   */
  fillRows(inputs: readonly Float32Array[], targetRow: number, first: number, nRows: number): void;
  onRows?(rowsDone: number): void;
}

interface Waiting {
  readonly job: Job;
  done: number;
  resolve(): void;
  reject(reason: unknown): void;
}

/** Most bytes of logits one step computes; longer requests for all logits are cut into more steps. */
const MAX_LOGIT_BYTES = 64 * 2 ** 20;

export class Scheduler {
  readonly #program: Program;
  readonly #nVocab: number;
  readonly #inputs: readonly Float32Array[];
  readonly #inputWidths: readonly number[];
  #queue: Waiting[] = [];
  #isRunning = false;
  #closedReason: Error | null = null;

  /** @param inputWidths - elements per row of each program input */
  constructor(program: Program, nVocab: number, inputWidths: readonly number[]) {
    this.#program = program;
    this.#nVocab = nVocab;
    this.#inputWidths = inputWidths;
    this.#inputs = inputWidths.map((width) => new Float32Array(width * program.maxRows));
  }

  /**
   * Reads the rows, advances the job's slot and fills the job's target.
   * @throws the signal's reason if aborted; the slot is then somewhere between before and after
   */
  submit(job: Job): Promise<void> {
    if (this.#closedReason !== null) return Promise.reject(this.#closedReason);
    return new Promise((resolve, reject) => {
      this.#queue.push({ job, done: 0, resolve, reject });
      if (!this.#isRunning) void this.#run();
    });
  }

  /** Refuses everything from now on, the waiting jobs included. */
  close(reason: Error): void {
    this.#closedReason = reason;
    for (const waiting of this.#queue) waiting.reject(reason);
    this.#queue = [];
  }

  async #run(): Promise<void> {
    this.#isRunning = true;
    // One microtask, so that jobs submitted together share the first step.
    await Promise.resolve();
    while (this.#queue.length > 0) {
      const batch = this.#compose();
      if (batch.length > 0) await this.#step(batch);
    }
    this.#isRunning = false;
  }

  /** Fair shares of a step's rows: each job an equal part of what is left, unused parts going to the next ones. */
  #compose(): { waiting: Waiting; nRows: number }[] {
    this.#queue = this.#queue.filter((waiting) => {
      if (waiting.job.signal?.aborted !== true) return true;
      waiting.reject(waiting.job.signal.reason);
      return false;
    });
    const candidates = this.#queue
      .slice(0, this.#program.maxRows)
      .sort((a, b) => a.job.nRows - a.done - (b.job.nRows - b.done));
    let rowsLeft = this.#program.maxRows;
    let logitRowsLeft = Math.max(candidates.length, Math.floor(MAX_LOGIT_BYTES / (4 * this.#nVocab)));
    return candidates.map((waiting, i) => {
      const jobsLeft = candidates.length - i;
      let nRows = Math.min(waiting.job.nRows - waiting.done, Math.floor(rowsLeft / jobsLeft));
      if (waiting.job.logits === "all")
        nRows = Math.min(nRows, Math.max(1, Math.floor(logitRowsLeft / jobsLeft)));
      rowsLeft -= nRows;
      logitRowsLeft -= waiting.job.logits === "all" ? nRows : 1;
      return { waiting, nRows };
    });
  }

  async #step(batch: readonly { waiting: Waiting; nRows: number }[]): Promise<void> {
    const runs: Run[] = [];
    const filled: { waiting: Waiting; nRows: number }[] = [];
    let row = 0;
    for (const part of batch) {
      const { waiting, nRows } = part;
      const { job, done } = waiting;
      try {
        job.fillRows(this.#inputs, row, done, nRows);
      } catch (error) {
        this.#finish(waiting, () => waiting.reject(error));
        continue;
      }
      filled.push(part);
      const isLast = done + nRows === job.nRows;
      if (isLast) runs.push({ slot: job.slot, nRows, logits: job.logits, shortlist: job.shortlist });
      else runs.push({ slot: job.slot, nRows, logits: job.logits === "last" ? "none" : job.logits });
      row += nRows;
    }
    if (filled.length === 0) return;
    const only = filled.length === 1 && row > 1 ? filled[0] : undefined;
    let logits: Float32Array;
    try {
      const inputs = this.#inputs.map((rows, i) => rows.subarray(0, row * this.#inputWidths[i]!));
      logits = await this.#program.step(runs, inputs, { signal: only?.waiting.job.signal });
    } catch (error) {
      for (const { waiting } of filled) this.#finish(waiting, () => waiting.reject(error));
      return;
    }
    let taken = 0;
    filled.forEach(({ waiting, nRows }, i) => {
      const { logits: wanted, shortlist } = runs[i]!;
      const nLogitRows = wanted === "all" ? nRows : wanted === "last" ? 1 : 0;
      const nElements = shortlist === undefined ? nLogitRows * this.#nVocab : shortlistElements(shortlist);
      if (nElements > 0) {
        const from = logits.subarray(taken, taken + nElements);
        waiting.job.target.set(from, wanted === "all" ? waiting.done * this.#nVocab : 0);
        taken += nElements;
      }
      waiting.done += nRows;
      try {
        waiting.job.onRows?.(waiting.done);
      } catch (error) {
        this.#finish(waiting, () => waiting.reject(error));
        return;
      }
      if (waiting.done === waiting.job.nRows) this.#finish(waiting, () => waiting.resolve());
    });
    // Served jobs go behind those that have not fitted into this step.
    const served = new Set(filled.map(({ waiting }) => waiting));
    this.#queue = [...this.#queue.filter((w) => !served.has(w)), ...this.#queue.filter((w) => served.has(w))];
  }

  #finish(waiting: Waiting, settle: () => void): void {
    this.#queue = this.#queue.filter((other) => other !== waiting);
    settle();
  }
}
