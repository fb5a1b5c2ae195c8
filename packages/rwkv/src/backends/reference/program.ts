// A recorded forward pass with its weights and slots, run step by step. Hides how rows and states are kept: rows are
// made anew for each step, the state of a slot is one array in the order of declaration.

import { UsageError } from "../../core/errors.ts";
import type { Program, Recording, Run, StepOptions, TappedProgram } from "../../ops/backend.ts";
import type { OpCall } from "../../ops/signature.ts";
import { withTaps, type Tap } from "../../ops/taps.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import { compute } from "./kernels.ts";
import type { RunRows, StepData } from "./step-data.ts";
import { allocate, type Storage, type Values } from "./values.ts";

export interface ReferenceRecording {
  readonly storage: Storage;
  readonly maxRows: number;
  /** All handles. */
  readonly tensors: readonly Tensor[];
  /** What taps are copied to. */
  readonly copies: readonly Tensor[];
  /** Cleared when the program is disposed. */
  readonly weights: Map<Tensor, Values>;
  /** The initial value of each state, in order of declaration. */
  readonly initials: ReadonlyMap<Tensor, number>;
  readonly calls: readonly OpCall[];
  /** Hears that the program is disposed. */
  readonly onDispose: () => void;
}

/** Longest time a step computes before it lets timers and events through. */
const YIELD_AFTER_MS = 10;

/** A program that also shows its values before they are rounded to f32; they differ where storage is f64. */
export class ReferenceProgram implements Program, TappedProgram {
  readonly weightByteLength: number;
  readonly stateElements: number;
  readonly maxRows: number;
  readonly #recording: ReferenceRecording;
  /** Where each state begins in a slot. */
  readonly #stateOffsets = new Map<Tensor, number>();
  readonly #slots = new Map<number, Values>();
  readonly #tapped = new Set<ReferenceProgram>();
  /** Of the last step. */
  #copies: readonly Values[] = [];
  #nSlotsMade = 0;
  #isDisposed = false;

  constructor(recording: ReferenceRecording) {
    this.#recording = recording;
    this.maxRows = recording.maxRows;
    let weightByteLength = 0;
    for (const values of recording.weights.values()) weightByteLength += values.byteLength;
    this.weightByteLength = weightByteLength;
    let stateElements = 0;
    for (const state of recording.initials.keys()) {
      this.#stateOffsets.set(state, stateElements);
      stateElements += rowElements(state);
    }
    this.stateElements = stateElements;
  }

  zeroInputs(): null {
    return null;
  }

  get recording(): Recording {
    this.#checkAlive();
    return { calls: this.#recording.calls, tapped: (taps, maxRows) => this.#recordTapped(taps, maxRows) };
  }

  readTap(tap: number): Float32Array {
    this.#checkAlive();
    return Float32Array.from(this.#copies[tap]!);
  }

  createSlot(copyOf?: number): number {
    this.#checkAlive();
    const original = copyOf === undefined ? null : this.#slotValues(copyOf);
    // Numbers are not used again, so that a released slot is recognised as one.
    const slot = this.#nSlotsMade;
    const values = allocate(this.#recording.storage, [this.stateElements], "the state of one more sequence");
    if (original === null) this.#fillInitial(values);
    else values.set(original);
    this.#slots.set(slot, values);
    this.#nSlotsMade += 1;
    return slot;
  }

  releaseSlot(slot: number): void {
    this.#slotValues(slot);
    this.#slots.delete(slot);
  }

  /* eslint-disable @typescript-eslint/require-await -- async turns a wrong slot into a rejection */
  async resetSlot(slot: number): Promise<void> {
    this.#fillInitial(this.#slotValues(slot));
  }

  async copySlot(to: number, from: number): Promise<void> {
    this.#slotValues(to).set(this.#slotValues(from));
  }

  async readSlot(slot: number): Promise<Float32Array> {
    return Float32Array.from(this.#slotValues(slot));
  }

  /** As `readSlot`. */
  async readSlotF64(slot: number): Promise<Float64Array> {
    return Float64Array.from(this.#slotValues(slot));
  }

  async writeSlot(slot: number, values: Float32Array): Promise<void> {
    const target = this.#slotValues(slot);
    if (values.length !== this.stateElements) {
      throw new UsageError(
        `the state of slot ${slot} has ${this.stateElements} elements, but ${values.length} were given.`,
      );
    }
    target.set(values);
  }
  /* eslint-enable @typescript-eslint/require-await */

  async step(
    runs: readonly Run[],
    inputs: readonly Float32Array[],
    options?: StepOptions,
  ): Promise<Float32Array> {
    const logits = await this.#run(runs, inputs, options?.signal);
    return logits instanceof Float32Array ? logits : Float32Array.from(logits);
  }

  /** As `step`. */
  async stepF64(
    runs: readonly Run[],
    inputs: readonly Float32Array[],
    options?: StepOptions,
  ): Promise<Float64Array> {
    return Float64Array.from(await this.#run(runs, inputs, options?.signal));
  }

  dispose(): void {
    this.#isDisposed = true;
    for (const program of this.#tapped) program.dispose();
    this.#slots.clear();
    this.#recording.weights.clear();
    this.#copies = [];
    this.#recording.onDispose();
  }

  async #run(
    runs: readonly Run[],
    inputs: readonly Float32Array[],
    signal: AbortSignal | undefined,
  ): Promise<Values> {
    this.#checkAlive();
    const step = this.#prepare(runs, inputs);
    await yieldToEventLoop();
    let yieldedAt = performance.now();
    for (const call of this.#recording.calls) {
      if (performance.now() - yieldedAt > YIELD_AFTER_MS) {
        await yieldToEventLoop();
        yieldedAt = performance.now();
      }
      signal?.throwIfAborted();
      compute(step, call);
    }
    const { copies, tensors } = this.#recording;
    this.#copies = copies.map((tensor) => step.values(tensor));
    return step.values(tensors.find(({ kind }) => kind === "output")!);
  }

  // eslint-disable-next-line @typescript-eslint/require-await -- async, as for backends that must prepare something
  async #recordTapped(taps: readonly Tap[], maxRows: number): Promise<ReferenceProgram> {
    this.#checkAlive();
    const { calls, tensors } = this.#recording;
    const program: ReferenceProgram = new ReferenceProgram({
      ...this.#recording,
      ...withTaps(calls, tensors, taps),
      maxRows,
      weights: new Map(this.#recording.weights),
      onDispose: () => this.#tapped.delete(program),
    });
    this.#tapped.add(program);
    return program;
  }

  #prepare(runs: readonly Run[], inputs: readonly Float32Array[]): StepData {
    const { storage, tensors } = this.#recording;
    const runRows: RunRows[] = [];
    const states = new Map<number, Values>();
    const logitRows: number[] = [];
    let nRows = 0;
    for (const run of runs) {
      if (!Number.isSafeInteger(run.nRows) || run.nRows < 1) {
        throw new UsageError(`the run of slot ${run.slot} has ${run.nRows} rows; give at least 1.`);
      }
      if (states.has(run.slot)) {
        throw new UsageError(`slot ${run.slot} has two runs in one step; give them one after the other.`);
      }
      states.set(run.slot, this.#slotValues(run.slot));
      const rows = { slot: run.slot, start: nRows, end: nRows + run.nRows };
      runRows.push(rows);
      nRows = rows.end;
      const firstLogitRow = { none: rows.end, last: rows.end - 1, all: rows.start }[run.logits];
      for (let row = firstLogitRow; row < rows.end && nRows <= this.maxRows; row++) logitRows.push(row);
    }
    if (nRows < 1 || nRows > this.maxRows) {
      throw new UsageError(`a step of this program has 1 to ${this.maxRows} rows, but ${nRows} were given.`);
    }

    const values = new Map(this.#recording.weights);
    let nInputs = 0;
    for (const tensor of tensors) {
      if (tensor.kind === "weight" || tensor.kind === "state") continue;
      const nTensorRows = tensor.rows === "logit" ? logitRows.length : nRows;
      const rows = allocate(storage, [nTensorRows, rowElements(tensor)], `${tensor.kind} "${tensor.name}"`);
      values.set(tensor, rows);
      if (tensor.kind === "input") {
        const given = inputs[nInputs];
        if (given?.length !== rows.length) {
          throw new UsageError(
            `input "${tensor.name}" needs ${nRows} rows of ${rowElements(tensor)}, ${rows.length} elements, but ` +
              `${given?.length ?? "none"} were given.`,
          );
        }
        rows.set(given);
        nInputs += 1;
      } else {
        rows.fill(NaN); // so that a forward pass that reads what it has not written shows it
      }
    }
    if (inputs.length !== nInputs) {
      throw new UsageError(`the program has ${nInputs} inputs, but ${inputs.length} were given.`);
    }

    return {
      values: (tensor) => values.get(tensor)!,
      state: (tensor, run) => {
        const start = this.#stateOffsets.get(tensor)!;
        return states.get(run.slot)!.subarray(start, start + rowElements(tensor));
      },
      runs: runRows,
      logitRows,
    };
  }

  #fillInitial(values: Values): void {
    for (const [state, initial] of this.#recording.initials) {
      const start = this.#stateOffsets.get(state)!;
      values.fill(initial, start, start + rowElements(state));
    }
  }

  #slotValues(slot: number): Values {
    this.#checkAlive();
    const values = this.#slots.get(slot);
    if (values === undefined) {
      throw new UsageError(`slot ${slot} does not exist or was released; make one with createSlot.`);
    }
    return values;
  }

  #checkAlive(): void {
    if (this.#isDisposed) throw new UsageError("the program was disposed; build another.");
  }
}

function yieldToEventLoop(): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, 0));
}
