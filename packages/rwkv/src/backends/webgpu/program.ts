// A recorded model on the GPU: takes steps by writing the table of runs and the input rows, running the dispatches, and
// reading back what the runs ask for.

import { UsageError } from "../../core/errors.ts";
import type { Program, Run, StepOptions, ZeroInputs } from "../../ops/backend.ts";
import { N_LIKELIEST } from "../../core/shortlist.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import { areEqual, type AddCommands, type Dispatches, type StepRows } from "./dispatches.ts";
import type { Gpu } from "./gpu.ts";
import type { InputCounts } from "./input-counts.ts";
import type { DispatchReport } from "./report.ts";
import type { Rows } from "./rows.ts";
import type { Shortlists } from "./shortlists.ts";
import type { Slots } from "./slots.ts";
import { StepOutput } from "./step-output.ts";
import { blocksOf, countRows, stepTable } from "./step-table.ts";
import type { Weights } from "./weights.ts";

export interface Recording {
  readonly gpu: Gpu;
  readonly weights: Weights;
  readonly slots: Slots;
  readonly rows: Rows;
  readonly counts: InputCounts;
  /** Null if there are too few logits for them. */
  readonly shortlists: Shortlists | null;
  readonly dispatches: Dispatches;
  readonly inputs: readonly Tensor[];
  readonly output: Tensor;
  readonly maxRows: number;
}

export class WebgpuProgram implements Program {
  readonly weightByteLength: number;
  readonly stateElements: number;
  readonly maxRows: number;
  readonly hasShortlists: boolean;
  /** What each dispatch of a step in decode computes, in order. */
  readonly dispatchReport: readonly DispatchReport[];
  #recording: Recording | null;
  /** How often slots had replaced buffers when bind groups were made; null before and after rows have. */
  #boundAt: number | null = null;
  #isStepping = false;
  /** Ends with the last call that works on the device. */
  #turn: Promise<void> = Promise.resolve();
  /** Calls that work on the device or wait to. */
  #nCalls = 0;
  readonly #output: StepOutput;
  #lastRows: StepRows | null = null;
  /** Settles when the last step that returned nothing is done. */
  #pending: Promise<void> = Promise.resolve();

  constructor(recording: Recording) {
    this.#recording = recording;
    this.weightByteLength = recording.weights.byteLength;
    this.stateElements = recording.slots.nElements;
    this.maxRows = recording.maxRows;
    this.hasShortlists = recording.shortlists !== null;
    const { gpu, rows, output, counts, shortlists } = recording;
    const { memory } = rows.placeOf(output);
    this.#output = new StepOutput(gpu, memory, rowElements(output), shortlists?.result ?? null, counts);
    this.dispatchReport = recording.dispatches.report;
  }

  createSlot(copyOf?: number): number {
    const { slots, shortlists } = this.#alive();
    const slot = slots.create(copyOf);
    if (copyOf !== undefined) shortlists?.kept.copy(slot, copyOf);
    return slot;
  }

  get isLost(): boolean {
    return this.#open().gpu.isLost;
  }

  releaseSlot(slot: number): void {
    const { slots, shortlists } = this.#open();
    slots.release(slot);
    shortlists?.kept.release(slot);
  }

  async resetSlot(slot: number): Promise<void> {
    await this.#inTurn(async ({ slots, shortlists }) => {
      await slots.reset(slot);
      shortlists?.kept.forget(slot);
    });
  }

  async copySlot(to: number, from: number): Promise<void> {
    await this.#inTurn(async ({ slots, shortlists }) => {
      await slots.copy(to, from);
      shortlists?.kept.copy(to, from);
    });
  }

  async readSlot(slot: number): Promise<Float32Array> {
    return this.#inTurn(({ slots }) => slots.read(slot));
  }

  async writeSlot(slot: number, values: Float32Array): Promise<void> {
    const { slots, shortlists } = this.#alive();
    if (values.length !== slots.nElements) {
      throw new UsageError(
        `the state of slot ${slot} has ${slots.nElements} elements, but ${values.length} were given.`,
      );
    }
    const copy = values.slice(); // the caller may change its own while this waits
    await this.#inTurn(async () => {
      await slots.write(slot, copy);
      shortlists?.kept.forget(slot);
    });
  }

  zeroInputs(): ZeroInputs | null {
    return this.#alive().counts.zeroInputs;
  }

  async step(
    runs: readonly Run[],
    inputs: readonly Float32Array[],
    options?: StepOptions,
  ): Promise<Float32Array> {
    const recording = this.#alive();
    if (this.#isStepping) {
      throw new UsageError("a step of this program is in progress; await it before the next.");
    }
    options?.signal?.throwIfAborted();
    const rows = countRows(runs, this.maxRows);
    this.#checkInputs(recording, inputs, rows.token);
    const { slots, shortlists, dispatches } = recording;
    this.#checkShortlists(recording, runs, rows);
    const blocks = blocksOf(slots, runs);
    const slotsWithShortlists = runs.flatMap(({ slot, shortlist }) => (shortlist === undefined ? [] : slot));
    const keptRows = shortlists?.kept.beginStep(slotsWithShortlists) ?? [];
    this.#isStepping = true;
    slots.beginStep(new Set(blocks));
    try {
      return await this.#inTurn(async () => {
        await this.#prepare(recording, runs, rows, keptRows);
        dispatches.writeTable(stepTable(runs, blocks, rows));
        this.#writeInputs(recording, inputs);
        shortlists?.write(runs, rows, keptRows);
        for (const { slot } of runs) shortlists?.kept.forget(slot);
        const finish: AddCommands = (encoder) => this.#output.addCopies(encoder, rows);
        await dispatches.run(rows, finish, options?.signal);
        // A step like the one before it, as in decode, is followed by another like it.
        const isLikeLast = this.#lastRows !== null && areEqual(this.#lastRows, rows);
        this.#lastRows = rows;
        if (isLikeLast) dispatches.encodeAhead(rows, finish);
        if (rows.logit === 0) await this.#passOn(recording);
        const output = await this.#output.read(runs, rows);
        for (const slot of slotsWithShortlists) shortlists?.kept.keep(slot);
        return output;
      });
    } finally {
      this.#isStepping = false;
      slots.endStep();
      shortlists?.kept.endStep();
    }
  }

  async readLogits(slot: number): Promise<Float32Array> {
    return this.#inTurn(({ slots, shortlists }) => {
      slots.blockOf(slot); // refuses what is no slot
      if (shortlists !== null) return shortlists.kept.read(slot);
      throw new UsageError(
        `this program has too few logits for shortlists, and so it keeps none; read them from a step.`,
      );
    });
  }

  dispose(): void {
    if (this.#recording === null) return;
    const recording = this.#recording;
    this.#recording = null;
    // A step in progress still submits commands, which must not meet buffers that are gone.
    if (this.#nCalls > 0) void this.#turn.then(() => this.#free(recording));
    else this.#free(recording);
  }

  #free({ weights, slots, rows, counts, shortlists, dispatches }: Recording): void {
    for (const part of [weights, slots, rows, counts, shortlists, dispatches, this.#output]) part?.dispose();
  }

  /** Waits for the calls before: whatever replaces buffers must not do so in the middle of a step. */
  async #inTurn<T>(work: (recording: Recording) => Promise<T>): Promise<T> {
    this.#alive();
    const turn = this.#turn.then(() => work(this.#alive()));
    const end = (): void => {
      this.#nCalls -= 1;
    };
    this.#nCalls += 1;
    this.#turn = turn.then(end, end);
    return turn;
  }

  #open(): Recording {
    if (this.#recording === null) throw new UsageError("the program was disposed; build another.");
    return this.#recording;
  }

  #alive(): Recording {
    const recording = this.#open();
    recording.gpu.checkAlive();
    return recording;
  }

  async #prepare(
    recording: Recording,
    runs: readonly Run[],
    nRows: StepRows,
    keptRows: readonly number[],
  ): Promise<void> {
    const { slots, rows, shortlists, dispatches } = recording;
    await slots.prepare(runs.map(({ slot }) => slot));
    if (await rows.reserve(nRows.token, nRows.logit)) this.#boundAt = null;
    if (await shortlists?.reserve(nRows.shortlist, keptRows)) this.#boundAt = null;
    await this.#output.reserve(nRows);
    if (this.#boundAt !== slots.nReplaced) dispatches.bind();
    this.#boundAt = slots.nReplaced;
  }

  #checkShortlists({ shortlists, output }: Recording, runs: readonly Run[], { shortlist }: StepRows): void {
    if (shortlist === 0) return;
    if (shortlists !== null) {
      shortlists.check(runs);
      return;
    }
    throw new UsageError(
      `a shortlist has ${N_LIKELIEST} tokens, but this program has ${rowElements(output)} logits in all; ask for all of them.`,
    );
  }

  #checkInputs({ inputs: tensors }: Recording, inputs: readonly Float32Array[], nTokens: number): void {
    if (inputs.length !== tensors.length) {
      throw new UsageError(`the program has ${tensors.length} inputs, but ${inputs.length} were given.`);
    }
    tensors.forEach((tensor, i) => {
      const wanted = nTokens * rowElements(tensor);
      const { length } = inputs[i]!;
      if (length === wanted) return;
      throw new UsageError(
        `input "${tensor.name}" needs ${nTokens} rows of ${rowElements(tensor)}, ${wanted} elements, but ${length} ` +
          `were given.`,
      );
    });
  }

  #writeInputs({ gpu, rows, inputs: tensors }: Recording, inputs: readonly Float32Array[]): void {
    inputs.forEach((values, i) => {
      const { buffer } = rows.placeOf(tensors[i]!).memory;
      gpu.device.queue.writeBuffer(buffer!, 0, values as Float32Array<ArrayBuffer>);
    });
  }

  /** Lets the caller prepare the next step while the GPU is busy with this one, but not the one after it. */
  async #passOn({ gpu }: Recording): Promise<void> {
    const before = this.#pending;
    this.#pending = gpu.done();
    this.#pending.catch(() => undefined); // whoever works on the program next hears of it
    await before;
  }
}
