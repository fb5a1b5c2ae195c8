// The states of sequences. Each memory of the program has a block for each sequence, with the states that are used
// there; as a whole, as in saved files, they follow one another in order of declaration, without gaps. A copy shares the
// original's blocks until one of the two is written to; memory for that is set aside at once, so that no step can lack it.

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

/** An address in each memory. */
type Addresses = readonly number[];

/** A state of one slot or of several with the same. */
interface Block {
  readonly addresses: Addresses;
  /** Set aside for all but one of the slots. */
  readonly spares: Addresses[];
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
  /** Of each slot. */
  readonly #blocks = new Map<number, Block>();
  #nMade = 0;
  /** Slots that the step in progress works on. */
  #inStep: ReadonlySet<number> = new Set();
  #releasedInStep: Addresses[] = [];

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
   * The address of the slot's block in each memory, for a step to write to.
   * @throws UsageError if there is no such slot
   */
  ownAddressesOf(slot: number): Addresses {
    const { addresses, spares } = this.#blockOf(slot);
    if (spares.length === 0) return addresses;
    const own = this.#takeOwn(slot);
    this.#blockElements.forEach((nElements, memory) => {
      const first = addresses[memory]! / 4;
      this.#arenas[memory]!.floats.copyWithin(own[memory]! / 4, first, first + nElements);
    });
    return own;
  }

  /**
   * @param copyOf - a slot with the state to begin with; without it, the initial one
   * @throws DeviceError if there is no memory for one more
   */
  create(copyOf?: number): number {
    const shared = copyOf === undefined ? null : this.#blockOf(copyOf);
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
    if (shared === null) {
      this.#blocks.set(slot, { addresses, spares: [] });
      this.reset(slot);
    } else {
      this.#share(slot, shared, addresses);
    }
    return slot;
  }

  release(slot: number): void {
    const { addresses, spares } = this.#blockOf(slot);
    this.#blocks.delete(slot);
    const freed = spares.pop() ?? addresses;
    if (this.#inStep.has(slot)) this.#releasedInStep.push(freed);
    else this.#free(freed);
  }

  reset(slot: number): void {
    const addresses = this.#takeOwn(slot);
    for (const [state, initial] of this.#initials) {
      const { memory, inBlock, nElements } = this.#places.get(state)!;
      const first = addresses[memory]! / 4 + inBlock;
      this.#arenas[memory]!.floats.fill(initial, first, first + nElements);
    }
  }

  copy(to: number, from: number): void {
    const [target, source] = [this.#blockOf(to), this.#blockOf(from)];
    if (target !== source) this.#share(to, source, this.#takeOwn(to));
  }

  /** The whole state of a slot; a copy. */
  read(slot: number): Float32Array {
    const { addresses } = this.#blockOf(slot);
    const values = new Float32Array(this.nElements);
    for (const { memory, inBlock, inWhole, nElements } of this.#pieces) {
      const first = addresses[memory]! / 4 + inBlock;
      values.set(this.#arenas[memory]!.floats.subarray(first, first + nElements), inWhole);
    }
    return values;
  }

  /** @param values - a whole state */
  write(slot: number, values: Float32Array): void {
    const addresses = this.#takeOwn(slot);
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

  /** @throws UsageError if there is no such slot */
  #blockOf(slot: number): Block {
    const block = this.#blocks.get(slot);
    if (block !== undefined) return block;
    throw new UsageError(`slot ${slot} does not exist or was released; make one with createSlot.`);
  }

  /** Makes the slot's block its own, with nothing in particular in it if it was not before. */
  #takeOwn(slot: number): Addresses {
    const { addresses, spares } = this.#blockOf(slot);
    const spare = spares.pop();
    if (spare === undefined) return addresses;
    this.#blocks.set(slot, { addresses: spare, spares: [] });
    return spare;
  }

  /** @param spare - what the slot had, or got, for itself */
  #share(slot: number, block: Block, spare: Addresses): void {
    block.spares.push(spare);
    this.#blocks.set(slot, block);
  }

  #free(addresses: Addresses): void {
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
