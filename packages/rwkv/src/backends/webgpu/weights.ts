// Weights on the GPU. A matrix is uploaded as it is read, packed as kernels/formats.ts draws it; one that is larger than what a
// kernel can see of a buffer is cut into several by rows. Vectors are small and share one buffer.

import type { ReadPart } from "../../core/byte-source.ts";
import { byteLengthOf, isQuantized } from "../../core/dtype.ts";
import { DeviceError, UnsupportedError } from "../../core/errors.ts";
import type { WeightUpload } from "../../ops/backend.ts";
import type { Tensor } from "../../ops/tensor.ts";
import { checkUploadLength, readRows } from "../../ops/upload.ts";
import { gatheredBytes } from "./gather.ts";
import type { Gpu } from "./gpu.ts";
import type { GpuDType } from "./kernels/formats.ts";
import { KERNEL_USAGE, Memory, type Place } from "./memory.ts";
import { panelPacking, rowPacking, type Packing } from "./packing.ts";

/** Consecutive rows of a matrix in one buffer. */
export interface MatrixPart {
  readonly firstRow: number;
  readonly nRows: number;
  /** Of a row, or of a panel. */
  readonly place: Place;
  readonly byteLength: number;
}

export interface Matrix {
  readonly dtype: GpuDType;
  /** Whether it lies in panels, of which only what meets inputs that are not zero is read. */
  readonly isSparse: boolean;
  readonly parts: readonly MatrixPart[];
}

/** Most bytes of a longer matrix that the host holds at a time, where it can be read in parts. */
const PIECE_BYTES = 16 * 2 ** 20;

export class Weights {
  readonly #gpu: Gpu;
  readonly #maxPartBytes: number;
  readonly #matrices = new Map<Tensor, Matrix>();
  readonly #vectors = new Map<Tensor, { readonly values: Float32Array; readonly place: Place }>();
  readonly #vectorMemory = new Memory("vectors");
  #nVectorWords = 0;
  #byteLength = 0;
  #isDisposed = false;

  /** @param maxPartBytes - most bytes of a buffer; the device's limit, but for tests */
  constructor(gpu: Gpu, maxPartBytes: number) {
    this.#gpu = gpu;
    this.#maxPartBytes = maxPartBytes;
  }

  /** Of all weights, as they were announced. */
  get byteLength(): number {
    return this.#byteLength;
  }

  /** Most bytes of a buffer with matrices. */
  get maxPartBytes(): number {
    return this.#maxPartBytes;
  }

  matrixOf(tensor: Tensor): Matrix {
    return this.#matrices.get(tensor)!;
  }

  vectorPlace(tensor: Tensor): Place {
    return this.#vectors.get(tensor)!.place;
  }

  /** @throws DeviceError if there is no memory for the weight, UnsupportedError for f64 */
  async add(tensor: Tensor, upload: WeightUpload, signal?: AbortSignal): Promise<void> {
    const { name, dtype, shape } = upload;
    if (dtype === "f64") {
      throw new UnsupportedError(
        `weight "${name}" is f64, which no kernel of the webgpu backend reads. Convert it to f32.`,
      );
    }
    checkUploadLength(upload);
    const isSparse = upload.hasSparseInputs === true;
    if (upload.readPart !== undefined && upload.byteLength > PIECE_BYTES) {
      await this.#streamMatrix(tensor, dtype, isSparse, upload.readPart, signal);
    } else {
      const bytes = new Uint8Array(byteLengthOf(dtype, shape));
      await readRows(upload, bytes, signal);
      if (shape.length === 2) await this.#addMatrix(tensor, dtype, isSparse, bytes);
      else this.#addVector(tensor, bytes);
    }
    this.#byteLength += upload.byteLength;
    // Disposed while the weight was read: nothing may stay.
    if (this.#isDisposed) this.dispose();
  }

  /** Uploads the vectors; nothing is added afterwards. */
  async finish(): Promise<void> {
    if (this.#nVectorWords === 0) return;
    const buffer = await this.#gpu.allocating("the vectors of the model", () => {
      const made = this.#gpu.createBuffer("vectors", 4 * this.#nVectorWords, KERNEL_USAGE, true);
      const words = new Float32Array(made.getMappedRange());
      for (const { values, place } of this.#vectors.values()) words.set(values, place.at);
      made.unmap();
      return made;
    });
    this.#vectorMemory.replace(this.#gpu, buffer);
  }

  /**
   * Puts the matrices of each list into a buffer of their own, one list after the other: beside the weights there is at most
   * one list a second time. Those that there is no memory for stay where they are, and take more dispatches.
   */
  async gather(lists: readonly (readonly Tensor[])[]): Promise<void> {
    try {
      for (const list of lists) await this.#gather(list);
    } catch (error) {
      if (!(error instanceof DeviceError)) throw error;
      this.#gpu.checkAlive();
    }
  }

  dispose(): void {
    this.#isDisposed = true;
    this.#vectorMemory.dispose(this.#gpu);
    for (const { parts } of this.#matrices.values()) {
      for (const { place } of parts) place.memory.dispose(this.#gpu);
    }
  }

  async #gather(tensors: readonly Tensor[]): Promise<void> {
    const matrices = tensors.map((tensor) => this.matrixOf(tensor));
    const label = tensors.map(({ name }) => name).join(", ");
    const totalBytes = matrices.reduce((sum, { parts }) => sum + gatheredBytes(parts[0]!), 0);
    const buffer = await this.#gpu.allocating(`weights ${label} side by side`, () =>
      this.#gpu.createBuffer(label, totalBytes, KERNEL_USAGE),
    );
    const memory = new Memory(label);
    const encoder = this.#gpu.device.createCommandEncoder();
    let at = 0;
    const moved = matrices.map((matrix): Matrix => {
      const part = matrix.parts[0]!;
      const { place, byteLength } = part;
      encoder.copyBufferToBuffer(place.memory.buffer!, 0, buffer, at, byteLength);
      const parts = [{ ...part, place: { ...place, memory, at: at / 4 } }];
      at += gatheredBytes(part);
      return { ...matrix, parts };
    });
    this.#gpu.device.queue.submit([encoder.finish()]);
    for (const { parts } of matrices) parts[0]!.place.memory.dispose(this.#gpu);
    memory.replace(this.#gpu, buffer);
    tensors.forEach((tensor, i) => this.#matrices.set(tensor, moved[i]!));
  }

  #addVector(tensor: Tensor, bytes: Uint8Array<ArrayBuffer>): void {
    const values = new Float32Array(bytes.buffer);
    this.#vectors.set(tensor, {
      values,
      place: { memory: this.#vectorMemory, at: this.#nVectorWords, stride: 0 },
    });
    this.#nVectorWords += values.length;
  }

  async #addMatrix(tensor: Tensor, dtype: GpuDType, isSparse: boolean, bytes: Uint8Array): Promise<void> {
    const { name } = tensor;
    const fileRowBytes = byteLengthOf(dtype, [tensor.shape[1]!]);
    for (const { part, packing } of this.#partsOf(tensor, dtype, isSparse)) {
      const { firstRow, nRows, byteLength, place } = part;
      const buffer = await this.#gpu.allocating(`weight "${name}"`, () => {
        const made = this.#gpu.createBuffer(name, byteLength, KERNEL_USAGE, true);
        const rows = bytes.subarray(firstRow * fileRowBytes, (firstRow + nRows) * fileRowBytes);
        packing.pack(rows, new Uint8Array(made.getMappedRange()));
        made.unmap();
        return made;
      });
      place.memory.replace(this.#gpu, buffer);
    }
  }

  /** The same piece by piece: neither the file's bytes nor those on their way to the GPU are ever on the host as a whole. */
  async #streamMatrix(
    tensor: Tensor,
    dtype: GpuDType,
    isSparse: boolean,
    readPart: ReadPart,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { name } = tensor;
    const fileRowBytes = byteLengthOf(dtype, [tensor.shape[1]!]);
    for (const { part, packing } of this.#partsOf(tensor, dtype, isSparse)) {
      const { firstRow, nRows, byteLength } = part;
      const { memory } = part.place;
      const { nTogether, words } = packing;
      const pieceRows = nTogether * Math.max(1, Math.floor(PIECE_BYTES / (4 * words)));
      const make = (): GPUBuffer => this.#gpu.createBuffer(name, byteLength, KERNEL_USAGE);
      memory.replace(this.#gpu, await this.#gpu.allocating(`weight "${name}"`, make));
      for (let row = 0; row < nRows; row += pieceRows) {
        const nPieceRows = Math.min(pieceRows, nRows - row);
        const bytes = new Uint8Array(nPieceRows * fileRowBytes);
        await readPart((firstRow + row) * fileRowBytes, bytes, signal);
        const packed = new Uint8Array(4 * words * Math.ceil(nPieceRows / nTogether));
        packing.pack(bytes, packed);
        // Disposed meanwhile: `add` frees the rest.
        if (this.#isDisposed) return;
        this.#gpu.device.queue.writeBuffer(memory.buffer!, 4 * words * (row / nTogether), packed);
        await this.#gpu.done();
      }
    }
  }

  /** Cuts a matrix by rows; each part gets a buffer before the next is asked for. */
  *#partsOf(
    tensor: Tensor,
    dtype: GpuDType,
    isSparse: boolean,
  ): Generator<{ readonly part: MatrixPart; readonly packing: Packing }> {
    const { name } = tensor;
    const [nOut, nIn] = tensor.shape as readonly [number, number];
    const panels = isSparse && !isQuantized(dtype) ? panelPacking(dtype, nIn) : null;
    const isInPanels = panels !== null && 4 * panels.words <= this.#maxPartBytes;
    const packing = isInPanels ? panels : rowPacking(dtype, nIn);
    const { nTogether, words } = packing;
    const maxRows = nTogether * Math.floor(this.#maxPartBytes / (4 * words));
    if (maxRows === 0) {
      throw new DeviceError(
        `weight "${name}": a row of ${nIn} in ${dtype} takes ${4 * words} bytes, but kernels of this GPU see at most ` +
          `${this.#maxPartBytes} of a buffer.`,
      );
    }
    const parts: MatrixPart[] = [];
    this.#matrices.set(tensor, { dtype, isSparse: isInPanels, parts });
    for (let firstRow = 0; firstRow < nOut; firstRow += maxRows) {
      const nRows = Math.min(maxRows, nOut - firstRow);
      const place = { memory: new Memory(name), at: 0, stride: words };
      const part = { firstRow, nRows, place, byteLength: 4 * words * Math.ceil(nRows / nTogether) };
      parts.push(part);
      yield { part, packing };
    }
  }
}
