// A program in a worker, as the page's sessions see it. Calls arrive there in order, so that a slot can be used before the worker
// has made it.

import { UsageError } from "../../core/errors.ts";
import type { Program, Run, StepOptions, ZeroInputs } from "../../ops/backend.ts";
import type { Channel } from "./channel.ts";
import type { EngineCalls, PageCalls, ProgramFacts, SlotOf } from "./calls.ts";

export class WorkerProgram implements Program {
  readonly weightByteLength: number;
  readonly stateElements: number;
  readonly maxRows: number;
  readonly hasShortlists: boolean;
  readonly #channel: Channel<EngineCalls, PageCalls>;
  readonly #number: number;
  readonly #free: () => void;
  readonly #slots = new Map<number, Promise<void>>();
  #nSlots = 0;
  #zeroInputs: ZeroInputs | null;
  #isLost: boolean | undefined;

  /** @param free - has the worker free it */
  constructor(channel: Channel<EngineCalls, PageCalls>, facts: ProgramFacts, free: () => void) {
    this.#channel = channel;
    this.#number = facts.number;
    this.#free = free;
    this.weightByteLength = facts.weightByteLength;
    this.stateElements = facts.stateElements;
    this.maxRows = facts.maxRows;
    this.hasShortlists = facts.hasShortlists;
    this.#zeroInputs = facts.zeroInputs;
    this.#isLost = facts.canBeLost ? false : undefined;
  }

  /** As far as the worker has told. */
  get isLost(): boolean | undefined {
    return this.#isLost;
  }

  /** To be called when the worker tells of the loss. */
  lose(): void {
    this.#isLost = true;
  }

  createSlot(copyOf?: number): number {
    if (copyOf !== undefined) void this.#created(copyOf);
    const slot = this.#nSlots++;
    const created = this.#channel.call("createSlot", { ...this.#at(slot), copyOf });
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
    this.#channel.tell("releaseSlot", this.#at(slot));
  }

  resetSlot(slot: number): Promise<void> {
    return this.#channel.call("resetSlot", this.#at(slot));
  }

  copySlot(to: number, from: number): Promise<void> {
    return this.#channel.call("copySlot", { ...this.#at(to), from });
  }

  readSlot(slot: number): Promise<Float32Array> {
    return this.#channel.call("readSlot", this.#at(slot));
  }

  writeSlot(slot: number, values: Float32Array): Promise<void> {
    const copy = values.slice();
    return this.#channel.call("writeSlot", { ...this.#at(slot), values: copy }, { transfer: [copy.buffer] });
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
      { program: this.#number, runs, inputs: copies },
      { signal, transfer },
    );
    this.#zeroInputs = zeroInputs;
    return logits;
  }

  readLogits(slot: number): Promise<Float32Array> {
    return this.#channel.call("readLogits", this.#at(slot));
  }

  zeroInputs(): ZeroInputs | null {
    return this.#zeroInputs;
  }

  /** The worker ends with its last program. */
  dispose(): void {
    this.#free();
  }

  #at(slot: number): SlotOf {
    return { program: this.#number, slot };
  }

  #created(slot: number): Promise<void> {
    const created = this.#slots.get(slot);
    if (created !== undefined) return created;
    throw new UsageError(`slot ${slot} does not exist or was released; make one with createSlot.`);
  }
}
