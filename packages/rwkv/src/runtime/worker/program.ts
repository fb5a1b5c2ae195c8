// A program in a worker, as the page's sessions see it. Calls arrive there in order, so that a slot can be used before the worker
// has made it.

import { UsageError } from "../../core/errors.ts";
import type { Program, Run, StepOptions, ZeroInputs } from "../../ops/backend.ts";
import type { Channel } from "./channel.ts";
import type { EngineCalls, PageCalls, ProgramFacts } from "./calls.ts";

export class WorkerProgram implements Program {
  readonly weightByteLength: number;
  readonly stateElements: number;
  readonly maxRows: number;
  readonly #channel: Channel<EngineCalls, PageCalls>;
  readonly #slots = new Map<number, Promise<void>>();
  #nSlots = 0;
  #zeroInputs: ZeroInputs | null;

  constructor(channel: Channel<EngineCalls, PageCalls>, facts: ProgramFacts) {
    this.#channel = channel;
    this.weightByteLength = facts.weightByteLength;
    this.stateElements = facts.stateElements;
    this.maxRows = facts.maxRows;
    this.#zeroInputs = facts.zeroInputs;
  }

  createSlot(copyOf?: number): number {
    if (copyOf !== undefined) void this.#created(copyOf);
    const slot = this.#nSlots++;
    const created = this.#channel.call("createSlot", { slot, copyOf });
    // Whoever does not wait for it hears of a failure from the next call.
    created.catch(() => undefined);
    this.#slots.set(slot, created);
    return slot;
  }

  slotCreated(slot: number): Promise<void> {
    return this.#created(slot);
  }

  releaseSlot(slot: number): void {
    void this.#created(slot);
    this.#slots.delete(slot);
    this.#channel.tell("releaseSlot", slot);
  }

  resetSlot(slot: number): Promise<void> {
    return this.#channel.call("resetSlot", slot);
  }

  copySlot(to: number, from: number): Promise<void> {
    return this.#channel.call("copySlot", { to, from });
  }

  readSlot(slot: number): Promise<Float32Array> {
    return this.#channel.call("readSlot", slot);
  }

  writeSlot(slot: number, values: Float32Array): Promise<void> {
    const copy = values.slice();
    return this.#channel.call("writeSlot", { slot, values: copy }, { transfer: [copy.buffer] });
  }

  async step(
    runs: readonly Run[],
    inputs: readonly Float32Array[],
    { signal }: StepOptions = {},
  ): Promise<Float32Array> {
    const copies = inputs.map((rows) => rows.slice());
    const transfer = copies.map(({ buffer }) => buffer);
    const { logits, zeroInputs } = await this.#channel.call(
      "step",
      { runs, inputs: copies },
      { signal, transfer },
    );
    this.#zeroInputs = zeroInputs;
    return logits;
  }

  zeroInputs(): ZeroInputs | null {
    return this.#zeroInputs;
  }

  /** Ends the worker, and with it everything it holds. */
  dispose(): void {
    this.#channel.close(new UsageError("The model has been disposed. Load it again to go on."));
  }

  #created(slot: number): Promise<void> {
    const created = this.#slots.get(slot);
    if (created !== undefined) return created;
    throw new UsageError(`slot ${slot} does not exist or was released; make one with createSlot.`);
  }
}
