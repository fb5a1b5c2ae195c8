// Memory for the rows of inputs, scratch and output. It follows the largest step seen so far, so that a program that
// only decodes never pays for prefill.

import { rowElements, type RowKind, type Tensor } from "../../ops/tensor.ts";
import type { Regions } from "./arena.ts";

export class RowMemory {
  readonly #arena: Regions;
  readonly #what: string;
  readonly #tensors: readonly Tensor[];
  readonly #bytesPerRow: number;
  readonly #setAddress: (tensor: Tensor, address: number) => void;
  readonly #addresses = new Map<Tensor, number>();
  #capacityRows = 0;
  #region: number | null = null;

  /**
   * @param tensors - among others those of this memory that have such rows
   * @param setAddress - tells the kernels where a tensor's rows lie from now on
   */
  constructor(
    arena: Regions,
    tensors: Iterable<Tensor>,
    rows: Exclude<RowKind, "none">,
    setAddress: (tensor: Tensor, address: number) => void,
  ) {
    this.#arena = arena;
    this.#tensors = [...tensors].filter((tensor) => tensor.rows === rows);
    this.#what = rows === "token" ? "scratch memory" : "memory for logits";
    this.#bytesPerRow = this.#tensors.reduce((sum, tensor) => sum + paddedBytes(tensor, 1), 0);
    this.#setAddress = setAddress;
  }

  /** Address of the first row; rows follow one another without gaps. Valid until the next `reserve`. */
  addressOf(tensor: Tensor): number {
    return this.#addresses.get(tensor)!;
  }

  /**
   * Makes room for `nRows` rows of every tensor; what the rows held is lost if that needs more than before.
   * @throws DeviceError if there is no memory; a later call may ask for fewer rows
   */
  reserve(nRows: number): void {
    if (nRows <= this.#capacityRows) return;
    if (this.#region !== null) this.#arena.free(this.#region);
    this.#region = null;
    this.#capacityRows = 0;
    const region = this.#arena.allocate(
      nRows * this.#bytesPerRow,
      `${this.#what} for a step of ${nRows} rows`,
    );
    this.#region = region;
    this.#capacityRows = nRows;
    let address = region;
    for (const tensor of this.#tensors) {
      this.#addresses.set(tensor, address);
      this.#setAddress(tensor, address);
      address += paddedBytes(tensor, nRows);
    }
  }
}

/** Rows of a tensor in whole cache lines, so that the next tensor starts on one. */
function paddedBytes(tensor: Tensor, nRows: number): number {
  return Math.ceil((rowElements(tensor) * nRows) / 16) * 64;
}
