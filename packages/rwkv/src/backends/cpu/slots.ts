// The states of sequences. Each memory of the program has a block for each sequence, with the states that are used
// there; as a whole, as in saved files, they follow one another in order of declaration, without gaps.

import { UsageError } from "../../core/errors.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import type { Regions } from "./arena.ts";

/** Elements that follow one another both in the whole state and in the block of one memory. */
interface Piece {
  readonly memory: number;
  readonly inBlock: number;
  readonly inWhole: number;
  readonly nElements: number;
}

export class Slots {
  /** f32 elements of one slot. */
  readonly nElements: number;
  readonly #arenas: readonly Regions[];
  readonly #initials: ReadonlyMap<Tensor, number>;
  /** Of each state. */
  readonly #places = new Map<Tensor, Piece>();
  /** As few as there can be: one, with one memory. */
  readonly #pieces: readonly Piece[];
  /** Of a block, in each memory. */
  readonly #blockElements: readonly number[];
  /** Of the slot's block, in each memory. */
  readonly #addresses = new Map<number, readonly number[]>();
  #nMade = 0;
  /** Slots that the step in progress works on. */
  #inStep: ReadonlySet<number> = new Set();
  #releasedInStep: (readonly number[])[] = [];

  /**
   * @param initials - the states in order of declaration, with the value they begin with
   * @param memoryOf - the number of the memory in which a state is used
   */
  constructor(
    arenas: readonly Regions[],
    initials: ReadonlyMap<Tensor, number>,
    memoryOf: (state: Tensor) => number,
  ) {
    this.#arenas = arenas;
    this.#initials = initials;
    const blockElements = arenas.map(() => 0);
    let inWhole = 0;
    for (const state of initials.keys()) {
      const memory = memoryOf(state);
      const nElements = rowElements(state);
      this.#places.set(state, { memory, inBlock: blockElements[memory]!, inWhole, nElements });
      blockElements[memory]! += nElements;
      inWhole += nElements;
    }
    this.nElements = inWhole;
    this.#blockElements = blockElements;
    this.#pieces = joined([...this.#places.values()]);
  }

  /** Byte offset of a state in the block of its memory. */
  offsetOf(state: Tensor): number {
    return 4 * this.#places.get(state)!.inBlock;
  }

  /**
   * The address of the slot's block in each memory.
   * @throws UsageError if there is no such slot
   */
  addressesOf(slot: number): readonly number[] {
    const addresses = this.#addresses.get(slot);
    if (addresses === undefined) {
      throw new UsageError(`slot ${slot} does not exist or was released; make one with createSlot.`);
    }
    return addresses;
  }

  /** @throws DeviceError if there is no memory for one more */
  create(): number {
    const addresses: number[] = [];
    try {
      this.#blockElements.forEach((nElements, memory) => {
        addresses.push(this.#arenas[memory]!.allocate(4 * nElements, "the state of one more sequence"));
      });
    } catch (error) {
      this.#free(addresses);
      throw error;
    }
    // Numbers are not used again, so that a released slot is recognised as one.
    const slot = this.#nMade++;
    this.#addresses.set(slot, addresses);
    this.reset(slot);
    return slot;
  }

  release(slot: number): void {
    const addresses = this.addressesOf(slot);
    this.#addresses.delete(slot);
    if (this.#inStep.has(slot)) this.#releasedInStep.push(addresses);
    else this.#free(addresses);
  }

  reset(slot: number): void {
    const addresses = this.addressesOf(slot);
    for (const [state, initial] of this.#initials) {
      const { memory, inBlock, nElements } = this.#places.get(state)!;
      const first = addresses[memory]! / 4 + inBlock;
      this.#arenas[memory]!.floats.fill(initial, first, first + nElements);
    }
  }

  copy(to: number, from: number): void {
    const targets = this.addressesOf(to);
    const sources = this.addressesOf(from);
    this.#blockElements.forEach((nElements, memory) => {
      const first = sources[memory]! / 4;
      this.#arenas[memory]!.floats.copyWithin(targets[memory]! / 4, first, first + nElements);
    });
  }

  /** The whole state of a slot; a copy. */
  read(slot: number): Float32Array {
    const addresses = this.addressesOf(slot);
    const values = new Float32Array(this.nElements);
    for (const { memory, inBlock, inWhole, nElements } of this.#pieces) {
      const first = addresses[memory]! / 4 + inBlock;
      values.set(this.#arenas[memory]!.floats.subarray(first, first + nElements), inWhole);
    }
    return values;
  }

  /** @param values - a whole state */
  write(slot: number, values: Float32Array): void {
    const addresses = this.addressesOf(slot);
    for (const { memory, inBlock, inWhole, nElements } of this.#pieces) {
      const target = this.#arenas[memory]!.floats;
      target.set(values.subarray(inWhole, inWhole + nElements), addresses[memory]! / 4 + inBlock);
    }
  }

  /** From now on a slot of the step that is released keeps its memory until `endStep`. */
  beginStep(slots: ReadonlySet<number>): void {
    this.#inStep = slots;
  }

  endStep(): void {
    this.#inStep = new Set();
    for (const addresses of this.#releasedInStep) this.#free(addresses);
    this.#releasedInStep = [];
  }

  #free(addresses: readonly number[]): void {
    addresses.forEach((address, memory) => {
      this.#arenas[memory]!.free(address);
    });
  }
}

/** Neighbours in the same memory become one piece. */
function joined(places: readonly Piece[]): Piece[] {
  const pieces: Piece[] = [];
  for (const place of places) {
    const last = pieces.at(-1);
    // Each memory's block is filled in the same order, so what adjoins in the whole adjoins in the block.
    if (last?.memory === place.memory) {
      pieces[pieces.length - 1] = { ...last, nElements: last.nElements + place.nElements };
    } else {
      pieces.push(place);
    }
  }
  return pieces;
}
