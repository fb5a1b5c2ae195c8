// The logits that stay on the device where a step returns a shortlist of them. They belong to a slot as its state does, until
// that goes on; copies of a slot share its row, which nobody writes to while two have it.

import { DeviceError, UsageError } from "../../core/errors.ts";
import type { Gpu } from "./gpu.ts";
import { KERNEL_USAGE, Memory } from "./memory.ts";
import { USAGE } from "./usage.ts";

export class KeptLogits {
  readonly memory = new Memory("kept logits");
  readonly #gpu: Gpu;
  readonly #width: number;
  /** What a row is read through. */
  readonly #staging = new Memory("staging of kept logits");
  /** By slot: the row of the logits after its last token. */
  readonly #rows = new Map<number, number>();
  /** By slot: the row that the step in progress writes. */
  readonly #written = new Map<number, number>();
  /** By row: how many of both maps have it. */
  readonly #nUsers: number[] = [];
  /** Rows that nobody has, the first ones at the end. */
  readonly #freeRows: number[] = [];
  #nRows = 0;

  /** @param width - elements of a row */
  constructor(gpu: Gpu, width: number) {
    this.#gpu = gpu;
    this.#width = width;
  }

  /** The rows that a step is to write, for slots with shortlists. What was kept stays until `forget`. */
  beginStep(slots: readonly number[]): number[] {
    return slots.map((slot) => {
      const own = this.#rows.get(slot);
      const row = own !== undefined && this.#nUsers[own] === 1 ? own : this.#freeRow();
      this.#nUsers[row]! += 1;
      this.#written.set(slot, row);
      return row;
    });
  }

  /**
   * Makes the device hold the rows. Those that are there stay.
   * @returns whether the buffer was replaced
   * @throws DeviceError if there is no memory for them; the device holds what it held before
   */
  async reserve(rows: readonly number[]): Promise<boolean> {
    const nWanted = 1 + Math.max(-1, ...rows);
    if (nWanted <= this.#nRows) return false;
    const rowBytes = 4 * this.#width;
    const most = Math.floor(this.#gpu.maxBindingBytes / rowBytes);
    if (nWanted > most) {
      throw new DeviceError(
        `no room for the logits of one more sequence: kernels of this GPU see at most ${this.#gpu.maxBindingBytes} bytes of a ` +
          `buffer, which holds ${most} rows of them. Release sessions that are not needed.`,
      );
    }
    const nRows = Math.min(Math.max(nWanted, 2 * this.#nRows), most);
    const buffer = await this.#gpu.allocating(`the logits of ${nRows} sequences`, () =>
      this.#gpu.createBuffer(this.memory.label, rowBytes * nRows, KERNEL_USAGE),
    );
    const before = this.memory.buffer;
    if (before !== null) this.#copy(before, 0, buffer, rowBytes * this.#nRows);
    this.memory.replace(this.#gpu, buffer);
    this.#nRows = nRows;
    return true;
  }

  /** What the step in progress has written are the logits of the slot, unless that was released meanwhile. */
  keep(slot: number): void {
    const row = this.#written.get(slot);
    if (row === undefined) return;
    this.#written.delete(slot);
    this.#rows.set(slot, row);
  }

  endStep(): void {
    for (const row of this.#written.values()) this.#drop(row);
    this.#written.clear();
  }

  /** The slot's state has changed, and its logits are not known. */
  forget(slot: number): void {
    const row = this.#rows.get(slot);
    if (row === undefined) return;
    this.#rows.delete(slot);
    this.#drop(row);
  }

  /** The state of `to` is now that of `from`, and so are its logits. */
  copy(to: number, from: number): void {
    if (to === from) return;
    this.forget(to);
    const row = this.#rows.get(from);
    // The step in progress may write to it before the copy is looked at.
    if (row === undefined || row === this.#written.get(from)) return;
    this.#nUsers[row]! += 1;
    this.#rows.set(to, row);
  }

  release(slot: number): void {
    this.forget(slot);
    const row = this.#written.get(slot);
    if (row === undefined) return;
    this.#written.delete(slot);
    this.#drop(row);
  }

  /** The logits after a slot's last token; a copy. @throws UsageError if they were not kept */
  async read(slot: number): Promise<Float32Array> {
    const row = this.#rows.get(slot);
    if (row === undefined) {
      throw new UsageError(
        `the last step of slot ${slot} returned no shortlist, so that its logits were not kept; ask for one in a step first.`,
      );
    }
    const byteLength = 4 * this.#width;
    if (this.#staging.buffer === null) {
      const usage = USAGE.copyDst | USAGE.mapRead;
      const make = (): GPUBuffer => this.#gpu.createBuffer(this.#staging.label, byteLength, usage);
      this.#staging.replace(this.#gpu, await this.#gpu.allocating("reading kept logits", make));
    }
    const staging = this.#staging.buffer!;
    this.#copy(this.memory.buffer!, byteLength * row, staging, byteLength);
    const logits = new Float32Array(this.#width);
    await this.#gpu.read(staging, logits);
    return logits;
  }

  dispose(): void {
    this.memory.dispose(this.#gpu);
    this.#staging.dispose(this.#gpu);
  }

  #freeRow(): number {
    const row = this.#freeRows.pop();
    return row ?? this.#nUsers.push(0) - 1;
  }

  #drop(row: number): void {
    this.#nUsers[row]! -= 1;
    if (this.#nUsers[row]! > 0) return;
    this.#freeRows.push(row);
    this.#freeRows.sort((a, b) => b - a);
  }

  #copy(from: GPUBuffer, fromBytes: number, to: GPUBuffer, byteLength: number): void {
    const encoder = this.#gpu.device.createCommandEncoder();
    encoder.copyBufferToBuffer(from, fromBytes, to, 0, byteLength);
    this.#gpu.device.queue.submit([encoder.finish()]);
  }
}
