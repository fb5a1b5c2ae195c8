// A recorded model in the memories of its kernels: takes steps by writing the run tables and having the command lists
// replayed, part after part. Computing happens in the kernels alone.

import { UsageError } from "../../core/errors.ts";
import type { Program, Recording, Run, StepOptions, TappedProgram, ZeroInputs } from "../../ops/backend.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import * as abi from "./abi.ts";
import type { Regions } from "./arena.ts";
import type { Command } from "./commands.ts";
import { setAddress, type Encoded } from "./encode.ts";
import type { Replay, StepRows } from "./replay.ts";
import type { RowCopy } from "./parts.ts";
import { RowMemory } from "./rows.ts";
import type { Slots } from "./slots.ts";

export interface CpuRecording {
  /** Hold all but the rows; the program takes the rest of its memory from them. */
  readonly arenas: readonly Regions[];
  readonly slots: Slots;
  readonly parts: readonly RecordedPart[];
  /** The number of the memory for an input, and of that in which the output is found. */
  readonly memoryOf: (tensor: Tensor) => number;
  readonly replay: Replay;
  readonly maxRows: number;
  /** All handles and internal scratch, by number. */
  readonly tensors: readonly Tensor[];
  /** What taps are copied to. */
  readonly copies: readonly Tensor[];
  readonly weightByteLength: number;
  /** Whether any product skips zeros. */
  readonly skipsZeros: boolean;
  /** Absent for a program with taps. */
  readonly recording?: Recording;
  /** Frees what is not the program's alone, once the replay is disposed. */
  readonly onDispose: () => void;
}

/** See parts.ts. */
export interface RecordedPart {
  readonly memory: number;
  readonly commands: readonly Command[];
  readonly copies: readonly RowCopy[];
  readonly encoded: Encoded;
}

/** What disposing drops. */
interface Device {
  readonly replay: Replay;
  readonly slots: Slots;
  readonly parts: readonly RecordedPart[];
  readonly memories: readonly Memory[];
  readonly recording: Recording | undefined;
  readonly onDispose: () => void;
}

/** A memory of the program, with the rows in it. */
interface Memory {
  readonly arena: Regions;
  readonly tokenRows: RowMemory;
  readonly logitRows: RowMemory;
}

export class CpuProgram implements Program, TappedProgram {
  readonly weightByteLength: number;
  readonly stateElements: number;
  readonly maxRows: number;
  readonly #inputs: readonly Tensor[];
  readonly #output: Tensor;
  readonly #copies: readonly Tensor[];
  readonly #memoryOf: (tensor: Tensor) => number;
  readonly #skipsZeros: boolean;
  #device: Device | null;
  #isStepping = false;
  /** Of the last step. */
  #rows: StepRows = { nTokens: 0, nLogits: 0 };
  /** Kept between steps, grown to the most logits asked for. */
  #logits = new Float32Array(0);

  constructor(recorded: CpuRecording) {
    const { arenas, slots, parts, replay, tensors, copies, memoryOf, recording, onDispose } = recorded;
    this.#inputs = tensors.filter(({ kind }) => kind === "input");
    this.#output = tensors.find(({ kind }) => kind === "output")!;
    this.#copies = copies;
    this.#memoryOf = memoryOf;
    const ends = [...this.#inputs, this.#output];
    const memories = arenas.map((arena, memory) => {
      const here = parts.filter((part) => part.memory === memory);
      const operands = here.flatMap(({ commands }) => commands.flatMap((command) => command.operands));
      const used = new Set([...operands, ...ends.filter((tensor) => memoryOf(tensor) === memory)]);
      const place = (tensor: Tensor, address: number): void => {
        for (const { encoded } of here) setAddress(arena, encoded, tensor, address);
      };
      return {
        arena,
        tokenRows: new RowMemory(arena, used, "token", place),
        logitRows: new RowMemory(arena, used, "logit", place),
      };
    });
    this.#device = { replay, slots, parts, memories, recording, onDispose };
    this.weightByteLength = recorded.weightByteLength;
    this.#skipsZeros = recorded.skipsZeros;
    this.stateElements = slots.nElements;
    this.maxRows = recorded.maxRows;
  }

  createSlot(copyOf?: number): number {
    return this.#alive().slots.create(copyOf);
  }

  releaseSlot(slot: number): void {
    this.#alive().slots.release(slot);
  }

  /* eslint-disable @typescript-eslint/require-await -- async turns a wrong slot into a rejection */
  async resetSlot(slot: number): Promise<void> {
    this.#alive().slots.reset(slot);
  }

  async copySlot(to: number, from: number): Promise<void> {
    this.#alive().slots.copy(to, from);
  }

  async readSlot(slot: number): Promise<Float32Array> {
    return this.#alive().slots.read(slot);
  }

  async writeSlot(slot: number, values: Float32Array): Promise<void> {
    const { slots } = this.#alive();
    if (values.length !== slots.nElements) {
      throw new UsageError(
        `the state of slot ${slot} has ${slots.nElements} elements, but ${values.length} were given.`,
      );
    }
    slots.write(slot, values);
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
    device.slots.beginStep(new Set(addresses.keys()));
    try {
      for (const { tokenRows, logitRows } of device.memories) {
        tokenRows.reserve(rows.nTokens);
        logitRows.reserve(rows.nLogits);
      }
      for (const part of device.parts) writeTables(device, part, runs, addresses, rows);
      inputs.forEach((values, i) => {
        const input = this.#inputs[i]!;
        const { arena, tokenRows } = device.memories[this.#memoryOf(input)]!;
        arena.floats.set(values, tokenRows.addressOf(input) / 4);
      });
      for (let part = 0; part < device.parts.length; part++) {
        if (part > 0) options?.signal?.throwIfAborted();
        copyRows(device, device.parts[part]!, rows);
        await device.replay.run(part, rows, options?.signal);
      }
      this.#rows = rows;
      return this.#readLogits(device, rows.nLogits);
    } finally {
      this.#isStepping = false;
      device.slots.endStep();
    }
  }

  zeroInputs(): ZeroInputs | null {
    const { memories, parts } = this.#alive();
    if (!this.#skipsZeros) return null;
    const count = (field: number): number => {
      let sum = 0;
      for (const { memory, encoded } of parts) {
        const { words } = memories[memory]!.arena;
        const at = (encoded.context + field) / 4;
        sum += words[at]! + 2 ** 32 * words[at + 1]!;
      }
      return sum;
    };
    return { nInputs: count(abi.CONTEXT_INPUTS), nZeros: count(abi.CONTEXT_ZERO_INPUTS) };
  }

  get recording(): Recording | undefined {
    return this.#alive().recording;
  }

  readTap(tap: number): Float32Array {
    return this.#rowsOf(this.#alive(), this.#copies[tap]!).slice();
  }

  dispose(): void {
    const device = this.#device;
    if (device === null) return;
    this.#device = null;
    this.#logits = new Float32Array(0);
    device.replay.dispose();
    device.onDispose();
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

  #readLogits(device: Device, nLogits: number): Float32Array {
    const nElements = nLogits * rowElements(this.#output);
    if (nElements === 0) return new Float32Array(0);
    if (this.#logits.length < nElements) this.#logits = new Float32Array(nElements);
    this.#logits.set(this.#rowsOf(device, this.#output));
    return this.#logits.subarray(0, nElements);
  }

  /** What the last step wrote to the rows of a tensor; valid until memory is allocated. */
  #rowsOf({ memories }: Device, tensor: Tensor): Float32Array {
    const { arena, tokenRows, logitRows } = memories[this.#memoryOf(tensor)]!;
    const { nTokens, nLogits } = this.#rows;
    const isLogit = tensor.rows === "logit";
    const nElements = (isLogit ? nLogits : nTokens) * rowElements(tensor);
    if (nElements === 0) return new Float32Array(0);
    const start = (isLogit ? logitRows : tokenRows).addressOf(tensor) / 4;
    return arena.floats.subarray(start, start + nElements);
  }
}

/** The slot of each run with its addresses. */
function slotAddresses({ slots }: Device, runs: readonly Run[]): Map<number, readonly number[]> {
  const addresses = new Map<number, readonly number[]>();
  for (const { slot } of runs) {
    if (addresses.has(slot)) {
      throw new UsageError(`slot ${slot} has two runs in one step; give them one after the other.`);
    }
    addresses.set(slot, slots.ownAddressesOf(slot));
  }
  return addresses;
}

/** Writes the run table of a part, the wanted rows and their numbers. */
function writeTables(
  { memories }: Device,
  { memory, encoded }: RecordedPart,
  runs: readonly Run[],
  addresses: ReadonlyMap<number, readonly number[]>,
  { nTokens, nLogits }: StepRows,
): void {
  const { words } = memories[memory]!.arena;
  let firstRow = 0;
  let logitAt = encoded.logitRows / 4;
  runs.forEach(({ slot, nRows, logits }, i) => {
    const at = (encoded.runs + i * abi.RUN_BYTES) / 4;
    words[at + abi.RUN_FIRST_ROW / 4] = firstRow;
    words[at + abi.RUN_N_ROWS / 4] = nRows;
    words[at + abi.RUN_SLOT / 4] = addresses.get(slot)![memory]!;
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

/** Brings the rows that a part reads and other memories hold. */
function copyRows({ memories }: Device, { memory, copies }: RecordedPart, rows: StepRows): void {
  for (const { tensor, from } of copies) {
    const isLogit = tensor.rows === "logit";
    const addressIn = ({ tokenRows, logitRows }: Memory): number =>
      (isLogit ? logitRows : tokenRows).addressOf(tensor) / 4;
    const [source, target] = [memories[from]!, memories[memory]!];
    const first = addressIn(source);
    const nElements = (isLogit ? rows.nLogits : rows.nTokens) * rowElements(tensor);
    target.arena.floats.set(source.arena.floats.subarray(first, first + nElements), addressIn(target));
  }
}
