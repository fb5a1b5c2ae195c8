// The states of sequences, on the device. Each state tensor has a buffer with one block per slot, so that a kernel sees the
// slots of all runs of a step; as a whole, as in saved files, the states follow one another in order of declaration.
// Slots are made and released at once; the device is told before it is next used, since it answers only later.

import { DeviceError, UsageError } from "../../core/errors.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import type { Gpu } from "./gpu.ts";
import { USAGE } from "./gpu.ts";
import { KERNEL_USAGE, Memory, type Place } from "./memory.ts";

interface StateMemory {
  readonly memory: Memory;
  readonly nElements: number;
  readonly initial: number;
  /** Of its first element in a whole state. */
  readonly offset: number;
}

/** A place for a sequence's state. */
interface Slot {
  readonly block: number;
  /** Whether the device holds its state; before that it is the initial one. */
  isInitialised: boolean;
}

export class Slots {
  /** f32 elements of one slot. */
  readonly nElements: number;
  readonly #gpu: Gpu;
  readonly #states = new Map<Tensor, StateMemory>();
  readonly #slots = new Map<number, Slot>();
  readonly #freeBlocks: number[] = [];
  readonly #mostBlocks: number;
  #nBlocksUsed = 0;
  #nBlocks = 0;
  #nMade = 0;
  #nReplaced = 0;
  #inStep: ReadonlySet<number> = new Set();
  readonly #releasedInStep: number[] = [];

  /** @param initials - the states in order of declaration, with the value they begin with */
  constructor(gpu: Gpu, initials: ReadonlyMap<Tensor, number>) {
    this.#gpu = gpu;
    let offset = 0;
    let largest = 1;
    for (const [state, initial] of initials) {
      const nElements = rowElements(state);
      this.#states.set(state, { memory: new Memory(`state ${state.name}`), nElements, initial, offset });
      offset += nElements;
      largest = Math.max(largest, nElements);
    }
    this.nElements = offset;
    this.#mostBlocks = Math.floor(gpu.maxBindingBytes / (4 * largest));
  }

  placeOf(state: Tensor): Place {
    const { memory, nElements } = this.#states.get(state)!;
    return { memory, at: 0, stride: nElements };
  }

  /** How often buffers were replaced, after which bind groups are out of date. */
  get nReplaced(): number {
    return this.#nReplaced;
  }

  /** The block of a slot, by which kernels find it. @throws UsageError if there is no such slot */
  blockOf(slot: number): number {
    return this.#slotOf(slot).block;
  }

  /** @throws DeviceError if kernels could not see one more */
  create(): number {
    const block = this.#freeBlocks.pop() ?? this.#nBlocksUsed;
    if (block >= this.#mostBlocks) {
      throw new DeviceError(
        `no room for the state of one more sequence: kernels of this GPU see at most ${this.#gpu.maxBindingBytes} bytes of a ` +
          `buffer, which holds ${this.#mostBlocks} states. Release sessions that are not needed.`,
      );
    }
    this.#nBlocksUsed = Math.max(this.#nBlocksUsed, block + 1);
    // Numbers are not used again, so that a released slot is recognised as one.
    const slot = this.#nMade++;
    this.#slots.set(slot, { block, isInitialised: false });
    return slot;
  }

  release(slot: number): void {
    const { block } = this.#slotOf(slot);
    this.#slots.delete(slot);
    if (this.#inStep.has(block)) this.#releasedInStep.push(block);
    else this.#freeBlocks.push(block);
  }

  /** From now on a released block of the step is given to nobody until `endStep`. */
  beginStep(blocks: ReadonlySet<number>): void {
    this.#inStep = blocks;
  }

  endStep(): void {
    this.#inStep = new Set();
    this.#freeBlocks.push(...this.#releasedInStep.splice(0));
  }

  /**
   * Makes the device hold the slots.
   * @throws DeviceError if there is no memory for all slots; those that the device held before stay usable
   */
  async prepare(slots: Iterable<number>): Promise<void> {
    await this.#grow();
    for (const number of slots) {
      const slot = this.#slotOf(number);
      if (!slot.isInitialised) this.#writeInitial(slot);
    }
  }

  async reset(slot: number): Promise<void> {
    await this.prepare([slot]);
    this.#writeInitial(this.#slotOf(slot));
  }

  async copy(to: number, from: number): Promise<void> {
    await this.prepare([to, from]);
    if (to === from) return;
    const encoder = this.#gpu.device.createCommandEncoder();
    const [target, source] = [this.blockOf(to), this.blockOf(from)];
    // WebGPU copies only between different buffers.
    const between = await this.#stateBuffer(USAGE.copySrc | USAGE.copyDst);
    this.#copyBlock(encoder, source, between);
    for (const { memory, nElements, offset } of this.#states.values()) {
      encoder.copyBufferToBuffer(between, 4 * offset, memory.buffer!, 4 * nElements * target, 4 * nElements);
    }
    this.#gpu.device.queue.submit([encoder.finish()]);
    this.#gpu.destroyBuffer(between);
    this.#gpu.checkAlive();
  }

  /** The whole state of a slot; a copy. */
  async read(slot: number): Promise<Float32Array> {
    await this.prepare([slot]);
    const values = new Float32Array(this.nElements);
    if (this.nElements === 0) return values;
    const staging = await this.#stateBuffer(USAGE.copyDst | USAGE.mapRead);
    try {
      const encoder = this.#gpu.device.createCommandEncoder();
      this.#copyBlock(encoder, this.blockOf(slot), staging);
      this.#gpu.device.queue.submit([encoder.finish()]);
      await this.#gpu.read(staging, values);
    } finally {
      this.#gpu.destroyBuffer(staging);
    }
    return values;
  }

  /** @param values - a whole state */
  async write(slot: number, values: Float32Array): Promise<void> {
    const copy = values.slice(); // the caller may change its own while memory is made
    await this.prepare([slot]);
    const { block } = this.#slotOf(slot);
    for (const { memory, nElements, offset } of this.#states.values()) {
      this.#gpu.device.queue.writeBuffer(memory.buffer!, 4 * nElements * block, copy, offset, nElements);
    }
  }

  dispose(): void {
    for (const { memory } of this.#states.values()) memory.dispose(this.#gpu);
  }

  #slotOf(slot: number): Slot {
    const found = this.#slots.get(slot);
    if (found === undefined) {
      throw new UsageError(`slot ${slot} does not exist or was released; make one with createSlot.`);
    }
    return found;
  }

  #stateBuffer(usage: number): Promise<GPUBuffer> {
    return this.#gpu.allocating("a copy of a state", () =>
      this.#gpu.createBuffer("copy of a state", 4 * Math.max(this.nElements, 1), usage),
    );
  }

  #copyBlock(encoder: GPUCommandEncoder, block: number, target: GPUBuffer): void {
    for (const { memory, nElements, offset } of this.#states.values()) {
      encoder.copyBufferToBuffer(memory.buffer!, 4 * nElements * block, target, 4 * offset, 4 * nElements);
    }
  }

  #writeInitial(slot: Slot): void {
    for (const { memory, nElements, initial } of this.#states.values()) {
      const values = new Float32Array(nElements).fill(initial);
      this.#gpu.device.queue.writeBuffer(memory.buffer!, 4 * nElements * slot.block, values);
    }
    slot.isInitialised = true;
  }

  async #grow(): Promise<void> {
    if (this.#nBlocksUsed <= this.#nBlocks) return;
    const nBlocks = Math.min(Math.max(this.#nBlocksUsed, 2 * this.#nBlocks), this.#mostBlocks);
    const states = [...this.#states.values()];
    const buffers = await this.#gpu.allocating(`the states of ${nBlocks} sequences`, () =>
      states.map(({ memory, nElements }) =>
        this.#gpu.createBuffer(memory.label, 4 * nElements * nBlocks, KERNEL_USAGE),
      ),
    );
    const encoder = this.#gpu.device.createCommandEncoder();
    states.forEach(({ memory, nElements }, i) => {
      const { buffer } = memory;
      if (buffer !== null)
        encoder.copyBufferToBuffer(buffer, 0, buffers[i]!, 0, 4 * nElements * this.#nBlocks);
    });
    this.#gpu.device.queue.submit([encoder.finish()]);
    states.forEach(({ memory }, i) => {
      memory.replace(this.#gpu, buffers[i]!);
    });
    this.#nBlocks = nBlocks;
    this.#nReplaced += 1;
  }
}
