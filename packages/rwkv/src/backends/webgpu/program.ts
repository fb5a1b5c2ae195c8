// A recorded model on the GPU: takes steps by writing the table of runs and the input rows, running the dispatches, and
// reading the output back.

import { UsageError } from "../../core/errors.ts";
import type { Program, Run, StepOptions } from "../../ops/backend.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import { areEqual, type AddCommands, type Dispatches, type StepRows } from "./dispatches.ts";
import type { Gpu } from "./gpu.ts";
import { USAGE } from "./usage.ts";
import { Memory } from "./memory.ts";
import type { DispatchReport } from "./report.ts";
import type { Rows } from "./rows.ts";
import type { Slots } from "./slots.ts";
import type { Weights } from "./weights.ts";

export interface Recording {
  readonly gpu: Gpu;
  readonly weights: Weights;
  readonly slots: Slots;
  readonly rows: Rows;
  readonly dispatches: Dispatches;
  readonly inputs: readonly Tensor[];
  readonly output: Tensor;
  readonly maxRows: number;
}

export class WebgpuProgram implements Program {
  readonly weightByteLength: number;
  readonly stateElements: number;
  readonly maxRows: number;
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
  /** What the output is read through. */
  readonly #staging = new Memory("staging");
  #stagingBytes = 0;
  #lastRows: StepRows | null = null;
  /** Settles when the last step that returned nothing is done. */
  #pending: Promise<void> = Promise.resolve();
  /** Kept between steps, grown to the most logits asked for. */
  #logits = new Float32Array(0);

  constructor(recording: Recording) {
    this.#recording = recording;
    this.weightByteLength = recording.weights.byteLength;
    this.stateElements = recording.slots.nElements;
    this.maxRows = recording.maxRows;
    this.dispatchReport = recording.dispatches.report;
  }

  createSlot(copyOf?: number): number {
    return this.#alive().slots.create(copyOf);
  }

  get isLost(): boolean {
    return this.#open().gpu.isLost;
  }

  releaseSlot(slot: number): void {
    this.#open().slots.release(slot);
  }

  async resetSlot(slot: number): Promise<void> {
    await this.#inTurn(({ slots }) => slots.reset(slot));
  }

  async copySlot(to: number, from: number): Promise<void> {
    await this.#inTurn(({ slots }) => slots.copy(to, from));
  }

  async readSlot(slot: number): Promise<Float32Array> {
    return this.#inTurn(({ slots }) => slots.read(slot));
  }

  async writeSlot(slot: number, values: Float32Array): Promise<void> {
    const { slots } = this.#alive();
    if (values.length !== slots.nElements) {
      throw new UsageError(
        `the state of slot ${slot} has ${slots.nElements} elements, but ${values.length} were given.`,
      );
    }
    const copy = values.slice(); // the caller may change its own while this waits
    await this.#inTurn(() => slots.write(slot, copy));
  }

  zeroInputs(): null {
    this.#alive();
    return null;
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
    const rows = this.#countRows(runs);
    this.#checkInputs(recording, inputs, rows.token);
    const { slots, dispatches } = recording;
    const blocks = blocksOf(slots, runs);
    this.#isStepping = true;
    slots.beginStep(new Set(blocks));
    try {
      return await this.#inTurn(async () => {
        await this.#prepare(recording, runs, rows);
        dispatches.writeTable(stepTable(runs, blocks, rows));
        this.#writeInputs(recording, inputs);
        const output = recording.rows.placeOf(recording.output).memory.buffer!;
        const outputBytes = 4 * rows.logit * rowElements(recording.output);
        const finish: AddCommands = (encoder) => {
          if (outputBytes > 0) encoder.copyBufferToBuffer(output, 0, this.#staging.buffer!, 0, outputBytes);
        };
        await dispatches.run(rows, finish, options?.signal);
        // A step like the one before it, as in decode, is followed by another like it.
        const isLikeLast = this.#lastRows !== null && areEqual(this.#lastRows, rows);
        this.#lastRows = rows;
        if (isLikeLast) dispatches.encodeAhead(rows, finish);
        return this.#readLogits(recording, outputBytes / 4);
      });
    } finally {
      this.#isStepping = false;
      slots.endStep();
    }
  }

  dispose(): void {
    if (this.#recording === null) return;
    const recording = this.#recording;
    this.#recording = null;
    // A step in progress still submits commands, which must not meet buffers that are gone.
    if (this.#nCalls > 0) void this.#turn.then(() => this.#free(recording));
    else this.#free(recording);
  }

  #free({ gpu, weights, slots, rows, dispatches }: Recording): void {
    for (const part of [weights, slots, rows, dispatches]) part.dispose();
    this.#staging.dispose(gpu);
    this.#logits = new Float32Array(0);
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

  async #prepare(recording: Recording, runs: readonly Run[], nRows: StepRows): Promise<void> {
    const { gpu, slots, rows, dispatches, output } = recording;
    await slots.prepare(runs.map(({ slot }) => slot));
    if (await rows.reserve(nRows.token, nRows.logit)) this.#boundAt = null;
    const bytes = 4 * nRows.logit * rowElements(output);
    if (bytes > this.#stagingBytes) {
      const usage = USAGE.copyDst | USAGE.mapRead;
      this.#staging.replace(
        gpu,
        await gpu.allocating("reading the output", () => gpu.createBuffer("staging", bytes, usage)),
      );
      this.#stagingBytes = bytes;
    }
    if (this.#boundAt !== slots.nReplaced) dispatches.bind();
    this.#boundAt = slots.nReplaced;
  }

  #countRows(runs: readonly Run[]): StepRows {
    let token = 0;
    let logit = 0;
    for (const { slot, nRows, logits } of runs) {
      if (!Number.isSafeInteger(nRows) || nRows < 1) {
        throw new UsageError(`the run of slot ${slot} has ${nRows} rows; give at least 1.`);
      }
      token += nRows;
      if (logits !== "none") logit += logits === "all" ? nRows : 1;
    }
    if (token < 1 || token > this.maxRows) {
      throw new UsageError(`a step of this program has 1 to ${this.maxRows} rows, but ${token} were given.`);
    }
    return { token, logit, run: runs.length };
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

  async #readLogits({ gpu }: Recording, nElements: number): Promise<Float32Array> {
    if (nElements === 0) {
      // The caller prepares the next step while the GPU is busy with this one, but not the one after it.
      const before = this.#pending;
      this.#pending = gpu.done();
      this.#pending.catch(() => undefined); // whoever works on the program next hears of it
      await before;
      return new Float32Array(0);
    }
    if (this.#logits.length < nElements) this.#logits = new Float32Array(nElements);
    const logits = this.#logits.subarray(0, nElements);
    await gpu.read(this.#staging.buffer!, logits);
    return logits;
  }
}

/** The block of each run's slot. */
function blocksOf(slots: Slots, runs: readonly Run[]): number[] {
  const seen = new Set<number>();
  return runs.map(({ slot }) => {
    if (seen.has(slot)) {
      throw new UsageError(`slot ${slot} has two runs in one step; give them one after the other.`);
    }
    seen.add(slot);
    return slots.blockOf(slot);
  });
}

/** The words that kernels/kernel.ts describes. */
function stepTable(
  runs: readonly Run[],
  blocks: readonly number[],
  rows: StepRows,
): Uint32Array<ArrayBuffer> {
  const rowRunsAt = runs.length;
  const wantedAt = rowRunsAt + Math.ceil(rows.token / 4);
  const words = new Uint32Array(4 * (1 + wantedAt + Math.ceil(rows.logit / 4)));
  words.set([rows.token, rows.logit, rowRunsAt, wantedAt]);
  let row = 0;
  let logit = 4 * (1 + wantedAt);
  runs.forEach(({ nRows, logits }, i) => {
    words.set([row, nRows, blocks[i]!], 4 * (1 + i));
    const end = row + nRows;
    const firstLogit = logits === "none" ? end : logits === "last" ? end - 1 : row;
    for (; row < end; row++) {
      words[4 * (1 + rowRunsAt) + row] = i;
      if (row >= firstLogit) words[logit++] = row;
    }
  });
  return words;
}
