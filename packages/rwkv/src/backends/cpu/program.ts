// A recorded model in the memory of its kernels: takes steps by writing the run table and having the command list replayed.
// Computing happens in the kernels alone.

import { UsageError } from "../../core/errors.ts";
import type { Program, Run, StepOptions } from "../../ops/backend.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import * as abi from "./abi.ts";
import type { Arena } from "./arena.ts";
import { setAddress, type Encoded } from "./encode.ts";
import type { Replay, StepRows } from "./replay.ts";
import { RowMemory } from "./rows.ts";
import type { Slots } from "./slots.ts";

export interface Recording {
  /** Holds all but the rows; the program takes the rest of its memory from it. */
  readonly arena: Arena;
  readonly slots: Slots;
  readonly encoded: Encoded;
  readonly replay: Replay;
  readonly maxRows: number;
  /** All handles and internal scratch, by number. */
  readonly tensors: readonly Tensor[];
  readonly weightByteLength: number;
}

/** What disposing drops. */
interface Device {
  readonly arena: Arena;
  readonly replay: Replay;
  readonly encoded: Encoded;
  readonly slots: Slots;
  readonly tokenRows: RowMemory;
  readonly logitRows: RowMemory;
}

export class CpuProgram implements Program {
  readonly weightByteLength: number;
  readonly stateElements: number;
  readonly maxRows: number;
  readonly #inputs: readonly Tensor[];
  readonly #output: Tensor;
  #device: Device | null;
  #isStepping = false;
  /** Kept between steps, grown to the most logits asked for. */
  #logits = new Float32Array(0);

  constructor(recording: Recording) {
    const { arena, slots, encoded, replay, tensors } = recording;
    const place = (tensor: Tensor, address: number): void => setAddress(arena, encoded, tensor, address);
    const tokenRows = new RowMemory(arena, tensors, "token", place);
    const logitRows = new RowMemory(arena, tensors, "logit", place);
    this.#device = { arena, replay, encoded, slots, tokenRows, logitRows };
    this.#inputs = tensors.filter(({ kind }) => kind === "input");
    this.#output = tensors.find(({ kind }) => kind === "output")!;
    this.weightByteLength = recording.weightByteLength;
    this.stateElements = slots.nElements;
    this.maxRows = recording.maxRows;
  }

  createSlot(): number {
    return this.#alive().slots.create();
  }

  releaseSlot(slot: number): void {
    this.#alive().slots.release(slot);
  }

  /* eslint-disable @typescript-eslint/require-await -- async turns a wrong slot into a rejection */
  async resetSlot(slot: number): Promise<void> {
    this.#alive().slots.reset(slot);
  }

  async copySlot(to: number, from: number): Promise<void> {
    const { slots } = this.#alive();
    slots.values(to).set(slots.values(from));
  }

  async readSlot(slot: number): Promise<Float32Array> {
    return this.#alive().slots.values(slot).slice();
  }

  async writeSlot(slot: number, values: Float32Array): Promise<void> {
    const target = this.#alive().slots.values(slot);
    if (values.length !== target.length) {
      throw new UsageError(
        `the state of slot ${slot} has ${target.length} elements, but ${values.length} were given.`,
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
    const device = this.#alive();
    if (this.#isStepping) {
      throw new UsageError("a step of this program is in progress; await it before the next.");
    }
    options?.signal?.throwIfAborted();
    const rows = this.#countRows(runs);
    const addresses = slotAddresses(device, runs);
    this.#checkInputs(inputs, rows.nTokens);
    this.#isStepping = true;
    device.slots.beginStep(addresses);
    try {
      device.tokenRows.reserve(rows.nTokens);
      device.logitRows.reserve(rows.nLogits);
      writeTables(device, runs, addresses, rows);
      const { floats } = device.arena;
      inputs.forEach((values, i) => {
        floats.set(values, device.tokenRows.addressOf(this.#inputs[i]!) / 4);
      });
      await device.replay.run(rows, options?.signal);
      return this.#readLogits(device, rows.nLogits);
    } finally {
      this.#isStepping = false;
      device.slots.endStep();
    }
  }

  dispose(): void {
    this.#device?.replay.dispose();
    this.#device = null;
    this.#logits = new Float32Array(0);
  }

  #alive(): Device {
    if (this.#device === null) throw new UsageError("the program was disposed; build another.");
    return this.#device;
  }

  #countRows(runs: readonly Run[]): StepRows {
    let nTokens = 0;
    let nLogits = 0;
    for (const { slot, nRows, logits } of runs) {
      if (!Number.isSafeInteger(nRows) || nRows < 1) {
        throw new UsageError(`the run of slot ${slot} has ${nRows} rows; give at least 1.`);
      }
      nTokens += nRows;
      if (logits !== "none") nLogits += logits === "all" ? nRows : 1;
    }
    if (nTokens < 1 || nTokens > this.maxRows) {
      throw new UsageError(
        `a step of this program has 1 to ${this.maxRows} rows, but ${nTokens} were given.`,
      );
    }
    return { nTokens, nLogits };
  }

  #checkInputs(inputs: readonly Float32Array[], nTokens: number): void {
    if (inputs.length !== this.#inputs.length) {
      throw new UsageError(`the program has ${this.#inputs.length} inputs, but ${inputs.length} were given.`);
    }
    this.#inputs.forEach((tensor, i) => {
      const wanted = nTokens * rowElements(tensor);
      const { length } = inputs[i]!;
      if (length === wanted) return;
      throw new UsageError(
        `input "${tensor.name}" needs ${nTokens} rows of ${rowElements(tensor)}, ${wanted} elements, but ${length} ` +
          `were given.`,
      );
    });
  }

  #readLogits({ arena, logitRows }: Device, nLogits: number): Float32Array {
    const nElements = nLogits * rowElements(this.#output);
    if (nElements === 0) return new Float32Array(0);
    if (this.#logits.length < nElements) this.#logits = new Float32Array(nElements);
    const start = logitRows.addressOf(this.#output) / 4;
    this.#logits.set(arena.floats.subarray(start, start + nElements));
    return this.#logits.subarray(0, nElements);
  }
}

/** The slot of each run with its address. */
function slotAddresses({ slots }: Device, runs: readonly Run[]): Map<number, number> {
  const addresses = new Map<number, number>();
  for (const { slot } of runs) {
    if (addresses.has(slot)) {
      throw new UsageError(`slot ${slot} has two runs in one step; give them one after the other.`);
    }
    addresses.set(slot, slots.addressOf(slot));
  }
  return addresses;
}

/** Writes the run table, the wanted rows and their numbers. */
function writeTables(
  { arena, encoded }: Device,
  runs: readonly Run[],
  addresses: ReadonlyMap<number, number>,
  { nTokens, nLogits }: StepRows,
): void {
  const { words } = arena;
  let firstRow = 0;
  let logitAt = encoded.logitRows / 4;
  runs.forEach(({ slot, nRows, logits }, i) => {
    const at = (encoded.runs + i * abi.RUN_BYTES) / 4;
    words[at + abi.RUN_FIRST_ROW / 4] = firstRow;
    words[at + abi.RUN_N_ROWS / 4] = nRows;
    words[at + abi.RUN_SLOT / 4] = addresses.get(slot)!;
    const end = firstRow + nRows;
    const firstLogit = logits === "none" ? end : logits === "last" ? end - 1 : firstRow;
    for (let row = firstLogit; row < end; row++) words[logitAt++] = row;
    firstRow = end;
  });
  const context = encoded.context / 4;
  words[context + abi.CONTEXT_N_RUNS / 4] = runs.length;
  words[context + abi.CONTEXT_N_TOKEN_ROWS / 4] = nTokens;
  words[context + abi.CONTEXT_N_LOGIT_ROWS / 4] = nLogits;
}
