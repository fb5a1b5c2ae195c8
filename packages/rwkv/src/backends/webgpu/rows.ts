// The rows of a step on the GPU. All scratch rows of one kind share a buffer, in which the rows of one token lie side by side,
// so that nothing moves when it grows; inputs and the output have buffers of their own, whose rows follow one another.

import { DeviceError } from "../../core/errors.ts";
import { rowElements, type RowKind, type Tensor } from "../../ops/tensor.ts";
import type { Gpu } from "./gpu.ts";
import { KERNEL_USAGE, Memory, type Place } from "./memory.ts";

/** Rows of a kind in one buffer, made as long as the longest step so far needs. */
interface RowGroup {
  readonly memory: Memory;
  readonly rows: Exclude<RowKind, "none">;
  rowWords: number;
  nRows: number;
}

/** The least rows that a buffer is made for. */
const FEWEST_ROWS = 8;

export class Rows {
  readonly #gpu: Gpu;
  readonly #places = new Map<Tensor, Place>();
  readonly #groups: RowGroup[] = [];

  constructor(gpu: Gpu, tensors: readonly Tensor[]) {
    this.#gpu = gpu;
    for (const rows of ["token", "logit"] as const) {
      const scratch = tensors.filter((tensor) => tensor.kind === "scratch" && tensor.rows === rows);
      if (scratch.length > 0) this.#addGroup(`${rows} rows`, rows, scratch);
    }
    for (const tensor of tensors) {
      if (tensor.kind === "input") this.#addGroup(`input ${tensor.name}`, "token", [tensor]);
      if (tensor.kind === "output") this.#addGroup(`output ${tensor.name}`, "logit", [tensor]);
    }
  }

  placeOf(tensor: Tensor): Place {
    return this.#places.get(tensor)!;
  }

  /** Most token rows of a step that a kernel of this device can see. */
  get maxTokenRows(): number {
    const widest = Math.max(
      ...this.#groups.filter(({ rows }) => rows === "token").map(({ rowWords }) => rowWords),
    );
    return Math.floor(this.#gpu.maxBindingBytes / (4 * widest));
  }

  /**
   * Makes room for the rows of a step. What the buffers held is lost where they grow.
   * @returns whether any buffer was replaced
   * @throws DeviceError if there is no memory; smaller steps work as before
   */
  async reserve(nTokens: number, nLogits: number): Promise<boolean> {
    let hasGrown = false;
    for (const group of this.#groups) {
      const wanted = Math.max(group.rows === "token" ? nTokens : nLogits, FEWEST_ROWS);
      if (group.nRows >= wanted) continue;
      const { memory, rowWords } = group;
      const most = Math.floor(this.#gpu.maxBindingBytes / (4 * rowWords));
      if (wanted > most) {
        throw new DeviceError(
          `${wanted} rows of ${memory.label} take ${4 * rowWords * wanted} bytes, but kernels of this GPU see at most ` +
            `${this.#gpu.maxBindingBytes} of a buffer. Ask for at most ${most} rows in a step.`,
        );
      }
      // Room for half as much again, so that steps that grow slowly do not move their buffers each time.
      const nRows = Math.min(Math.ceil(1.5 * wanted), most);
      const buffer = await this.#gpu.allocating(`${nRows} ${memory.label}`, () =>
        this.#gpu.createBuffer(memory.label, 4 * rowWords * nRows, KERNEL_USAGE),
      );
      memory.replace(this.#gpu, buffer);
      group.nRows = nRows;
      hasGrown = true;
    }
    return hasGrown;
  }

  dispose(): void {
    for (const { memory } of this.#groups) memory.dispose(this.#gpu);
  }

  #addGroup(label: string, rows: RowGroup["rows"], tensors: readonly Tensor[]): void {
    const memory = new Memory(label);
    const rowWords = tensors.reduce((sum, tensor) => sum + rowElements(tensor), 0);
    let at = 0;
    for (const tensor of tensors) {
      this.#places.set(tensor, { memory, at, stride: rowWords });
      at += rowElements(tensor);
    }
    this.#groups.push({ memory, rows, rowWords, nRows: 0 });
  }
}
