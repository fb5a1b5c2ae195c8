// The states of sequences, on the device. Each state tensor has a buffer with one block per slot, so that a kernel sees the
// slots of all runs of a step; as a whole, as in saved files, the states follow one another in order of declaration.
// Slots are made and released at once, copies included; the device, which tells only later whether it has memory, follows
// before it next works on any slot.

import { DeviceError, UsageError } from "../../core/errors.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";
import type { Gpu } from "./gpu.ts";
import { USAGE } from "./usage.ts";
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
  /** Whether its block holds its state, once the copies that wait are done; before that it is the initial one. */
  isInitialised: boolean;
}

/** Between two blocks. */
interface BlockCopy {
  readonly to: number;
  readonly from: number;
}

export class Slots {
  /** f32 elements of one slot. */
  readonly nElements: number;
  readonly #gpu: Gpu;
  readonly #states = new Map<Tensor, StateMemory>();
  readonly #slots = new Map<number, Slot>();
  readonly #freeBlocks: number[] = [];
  /** What copies go through: WebGPU copies only between different buffers. As long as a slot; made with the first block. */
  readonly #between = new Memory("copy of a state");
  /** In order of their making; nothing writes to any block before they are done. */
  #waitingCopies: BlockCopy[] = [];
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

  /**
   * @param copyOf - a slot with the state to begin with; without it, the initial one
   * @throws UsageError if there is no slot `copyOf`, DeviceError if kernels could not see one more
   */
  create(copyOf?: number): number {
    const original = copyOf === undefined ? null : this.#slotOf(copyOf);
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
    const isInitialised = original?.isInitialised ?? false;
    this.#slots.set(slot, { block, isInitialised });
    if (isInitialised) this.#waitingCopies.push({ to: block, from: original!.block });
    this.#copyWaiting();
    return slot;
  }

  release(slot: number): void {
    const { block } = this.#slotOf(slot);
    this.#slots.delete(slot);
    // A copy that nobody will see needs no memory.
    if (this.#waitingCopies.every(({ from }) => from !== block)) {
      this.#waitingCopies = this.#waitingCopies.filter(({ to }) => to !== block);
    }
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
   * Makes the device hold the slots, and the copies that wait.
   * @throws DeviceError if there is no memory for them; what the device held before is as it was
   */
  async prepare(slots: readonly number[]): Promise<void> {
    const blocks = [...slots.map((slot) => this.blockOf(slot)), ...this.#waitingCopies.map(({ to }) => to)];
    await this.#grow(1 + Math.max(...blocks));
    this.#copyWaiting();
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
    this.#copyNow({ to: this.blockOf(to), from: this.blockOf(from) });
    this.#gpu.checkAlive();
  }

  /** The whole state of a slot; a copy. */
  async read(slot: number): Promise<Float32Array> {
    await this.prepare([slot]);
    const values = new Float32Array(this.nElements);
    if (this.nElements === 0) return values;
    const staging = await this.#gpu.allocating("a copy of a state", () =>
      this.#createStateBuffer(USAGE.copyDst | USAGE.mapRead),
    );
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
    await this.prepare([slot]);
    const { block } = this.#slotOf(slot);
    for (const { memory, nElements, offset } of this.#states.values()) {
      this.#gpu.device.queue.writeBuffer(
        memory.buffer!,
        4 * nElements * block,
        values as Float32Array<ArrayBuffer>,
        offset,
        nElements,
      );
    }
  }

  dispose(): void {
    for (const { memory } of this.#states.values()) memory.dispose(this.#gpu);
    this.#between.dispose(this.#gpu);
  }

  #slotOf(slot: number): Slot {
    const found = this.#slots.get(slot);
    if (found === undefined) {
      throw new UsageError(`slot ${slot} does not exist or was released; make one with createSlot.`);
    }
    return found;
  }

  #createStateBuffer(usage: number): GPUBuffer {
    return this.#gpu.createBuffer("copy of a state", 4 * Math.max(this.nElements, 1), usage);
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

  /** Does the copies that wait, if their blocks are there. */
  #copyWaiting(): void {
    if (this.#waitingCopies.some(({ to }) => to >= this.#nBlocks)) return;
    for (const copy of this.#waitingCopies.splice(0)) this.#copyNow(copy);
  }

  #copyNow({ to, from }: BlockCopy): void {
    const encoder = this.#gpu.device.createCommandEncoder();
    const between = this.#between.buffer!;
    this.#copyBlock(encoder, from, between);
    for (const { memory, nElements, offset } of this.#states.values()) {
      encoder.copyBufferToBuffer(between, 4 * offset, memory.buffer!, 4 * nElements * to, 4 * nElements);
    }
    this.#gpu.device.queue.submit([encoder.finish()]);
  }

  async #grow(nWanted: number): Promise<void> {
    if (nWanted <= this.#nBlocks) return;
    const nBlocks = Math.min(Math.max(nWanted, 2 * this.#nBlocks), this.#mostBlocks);
    const states = [...this.#states.values()];
    const { buffers, between } = await this.#gpu.allocating(`the states of ${nBlocks} sequences`, () => ({
      buffers: states.map(({ memory, nElements }) =>
        this.#gpu.createBuffer(memory.label, 4 * nElements * nBlocks, KERNEL_USAGE),
      ),
      between: this.#between.buffer ?? this.#createStateBuffer(USAGE.copySrc | USAGE.copyDst),
    }));
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
    if (this.#between.buffer === null) this.#between.replace(this.#gpu, between);
    this.#nBlocks = nBlocks;
    this.#nReplaced += 1;
  }
}
