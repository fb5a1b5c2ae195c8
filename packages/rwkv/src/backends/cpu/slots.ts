// The states of sequences, one region of memory each: all state tensors in order of declaration, without gaps, as in
// saved files.

import { UsageError } from "../../core/errors.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import type { Arena } from "./arena.ts";

export class Slots {
  /** f32 elements of one slot. */
  readonly nElements: number;
  readonly #arena: Arena;
  readonly #initials: ReadonlyMap<Tensor, number>;
  readonly #offsets = new Map<Tensor, number>();
  readonly #addresses = new Map<number, number>();
  #nMade = 0;
  /** Addresses that the step in progress works on, by slot. */
  #inStep: ReadonlyMap<number, number> = new Map();
  #releasedInStep: number[] = [];

  /** @param initials - the states in order of declaration, with the value they begin with */
  constructor(arena: Arena, initials: ReadonlyMap<Tensor, number>) {
    this.#arena = arena;
    this.#initials = initials;
    let nElements = 0;
    for (const state of initials.keys()) {
      this.#offsets.set(state, nElements * 4);
      nElements += rowElements(state);
    }
    this.nElements = nElements;
  }

  /** Byte offset of a state in its slot. */
  offsetOf(state: Tensor): number {
    return this.#offsets.get(state)!;
  }

  /** @throws UsageError if there is no such slot */
  addressOf(slot: number): number {
    const address = this.#addresses.get(slot);
    if (address === undefined) {
      throw new UsageError(`slot ${slot} does not exist or was released; make one with createSlot.`);
    }
    return address;
  }

  /** @throws DeviceError if there is no memory for one more */
  create(): number {
    const address = this.#arena.allocate(this.nElements * 4, "the state of one more sequence");
    // Numbers are not used again, so that a released slot is recognised as one.
    const slot = this.#nMade++;
    this.#addresses.set(slot, address);
    this.reset(slot);
    return slot;
  }

  release(slot: number): void {
    const address = this.addressOf(slot);
    this.#addresses.delete(slot);
    if (this.#inStep.has(slot)) this.#releasedInStep.push(address);
    else this.#arena.free(address);
  }

  reset(slot: number): void {
    const { floats } = this.#arena;
    const start = this.addressOf(slot) / 4;
    for (const [state, initial] of this.#initials) {
      const first = start + this.offsetOf(state) / 4;
      floats.fill(initial, first, first + rowElements(state));
    }
  }

  /** The elements of a slot; valid until memory is allocated. */
  values(slot: number): Float32Array {
    const start = this.addressOf(slot) / 4;
    return this.#arena.floats.subarray(start, start + this.nElements);
  }

  /** From now on a slot of the step that is released keeps its memory until `endStep`. */
  beginStep(addresses: ReadonlyMap<number, number>): void {
    this.#inStep = addresses;
  }

  endStep(): void {
    this.#inStep = new Map();
    for (const address of this.#releasedInStep) this.#arena.free(address);
    this.#releasedInStep = [];
  }
}
