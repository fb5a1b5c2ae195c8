// Weights on the GPU. A matrix is uploaded as it is read, its rows packed as kernels/formats.ts draws them; one that is larger than
// what a kernel can see of a buffer is cut into several by rows. Vectors are small and share one buffer.

import type { ReadPart } from "../../core/byte-source.ts";
import { byteLengthOf } from "../../core/dtype.ts";
import { DeviceError, UnsupportedError } from "../../core/errors.ts";
import type { WeightUpload } from "../../ops/backend.ts";
import type { Tensor } from "../../ops/tensor.ts";
import { checkUploadLength, readRows } from "../../ops/upload.ts";
import { gatheredBytes } from "./gather.ts";
import type { Gpu } from "./gpu.ts";
import { rowFormat, type GpuDType, type RowFormat } from "./kernels/formats.ts";
import { KERNEL_USAGE, Memory, type Place } from "./memory.ts";
import { packRows } from "./packing.ts";

/** Consecutive rows of a matrix in one buffer. */
export interface MatrixPart {
  readonly firstRow: number;
  readonly nRows: number;
  readonly place: Place;
}

export interface Matrix {
  readonly dtype: GpuDType;
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
    if (upload.readPart !== undefined && upload.byteLength > PIECE_BYTES) {
      await this.#streamMatrix(tensor, dtype, upload.readPart, signal);
    } else {
      const bytes = new Uint8Array(byteLengthOf(dtype, shape));
      await readRows(upload, bytes, signal);
      if (shape.length === 2) await this.#addMatrix(tensor, dtype, bytes);
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
    const byteLength = matrices.reduce((sum, { parts }) => sum + gatheredBytes(parts[0]!), 0);
    const buffer = await this.#gpu.allocating(`weights ${label} side by side`, () =>
      this.#gpu.createBuffer(label, byteLength, KERNEL_USAGE),
    );
    const memory = new Memory(label);
    const encoder = this.#gpu.device.createCommandEncoder();
    let at = 0;
    const moved = matrices.map((matrix): Matrix => {
      const part = matrix.parts[0]!;
      const { place, nRows } = part;
      encoder.copyBufferToBuffer(place.memory.buffer!, 0, buffer, at, 4 * place.stride * nRows);
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

  async #addMatrix(tensor: Tensor, dtype: GpuDType, bytes: Uint8Array): Promise<void> {
    const { name } = tensor;
    const nIn = tensor.shape[1]!;
    const fileRowBytes = byteLengthOf(dtype, [nIn]);
    for (const { memory, format, firstRow, nRows } of this.#partsOf(tensor, dtype)) {
      const buffer = await this.#gpu.allocating(`weight "${name}"`, () => {
        const made = this.#gpu.createBuffer(name, 4 * format.rowWords * nRows, KERNEL_USAGE, true);
        const rows = bytes.subarray(firstRow * fileRowBytes, (firstRow + nRows) * fileRowBytes);
        packRows(dtype, nIn, format, rows, new Uint8Array(made.getMappedRange()));
        made.unmap();
        return made;
      });
      memory.replace(this.#gpu, buffer);
    }
  }

  /** The same piece by piece: neither the file's bytes nor those on their way to the GPU are ever on the host as a whole. */
  async #streamMatrix(
    tensor: Tensor,
    dtype: GpuDType,
    readPart: ReadPart,
    signal: AbortSignal | undefined,
  ): Promise<void> {
    const { name } = tensor;
    const nIn = tensor.shape[1]!;
    const fileRowBytes = byteLengthOf(dtype, [nIn]);
    for (const { memory, format, firstRow, nRows } of this.#partsOf(tensor, dtype)) {
      const rowBytes = 4 * format.rowWords;
      const pieceRows = Math.max(1, Math.floor(PIECE_BYTES / rowBytes));
      const make = (): GPUBuffer => this.#gpu.createBuffer(name, rowBytes * nRows, KERNEL_USAGE);
      memory.replace(this.#gpu, await this.#gpu.allocating(`weight "${name}"`, make));
      for (let row = 0; row < nRows; row += pieceRows) {
        const nPieceRows = Math.min(pieceRows, nRows - row);
        const bytes = new Uint8Array(nPieceRows * fileRowBytes);
        await readPart((firstRow + row) * fileRowBytes, bytes, signal);
        const words = new Uint8Array(nPieceRows * rowBytes);
        packRows(dtype, nIn, format, bytes, words);
        // Disposed meanwhile: `add` frees the rest.
        if (this.#isDisposed) return;
        this.#gpu.device.queue.writeBuffer(memory.buffer!, row * rowBytes, words);
        await this.#gpu.done();
      }
    }
  }

  /** Cuts a matrix by rows; each part gets a buffer before the next is asked for. */
  *#partsOf(
    tensor: Tensor,
    dtype: GpuDType,
  ): Generator<{ memory: Memory; format: RowFormat; firstRow: number; nRows: number }> {
    const { name } = tensor;
    const [nOut, nIn] = tensor.shape as readonly [number, number];
    const format = rowFormat(dtype, nIn);
    const rowBytes = 4 * format.rowWords;
    const maxRows = Math.floor(this.#maxPartBytes / rowBytes);
    if (maxRows === 0) {
      throw new DeviceError(
        `weight "${name}": a row of ${nIn} in ${dtype} takes ${rowBytes} bytes, but kernels of this GPU see at most ` +
          `${this.#maxPartBytes} of a buffer.`,
      );
    }
    const parts: MatrixPart[] = [];
    this.#matrices.set(tensor, { dtype, parts });
    for (let firstRow = 0; firstRow < nOut; firstRow += maxRows) {
      const nRows = Math.min(maxRows, nOut - firstRow);
      const memory = new Memory(name);
      parts.push({ firstRow, nRows, place: { memory, at: 0, stride: format.rowWords } });
      yield { memory, format, firstRow, nRows };
    }
  }
}
