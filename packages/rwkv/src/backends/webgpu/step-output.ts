// What a step returns: rows of logits and shortlists, copied to a buffer that is mapped for reading, and with them the counts of
// inputs.

import type { Run } from "../../ops/backend.ts";
import { shortlistElements } from "../../core/shortlist.ts";
import type { StepRows } from "./dispatches.ts";
import type { Gpu } from "./gpu.ts";
import type { InputCounts } from "./input-counts.ts";
import { Memory } from "./memory.ts";
import { USAGE } from "./usage.ts";

export class StepOutput {
  readonly #gpu: Gpu;
  readonly #logits: Memory;
  readonly #width: number;
  readonly #shortlists: Memory | null;
  readonly #counts: InputCounts;
  /** What the output is read through: rows of logits, then shortlists, then counts of inputs. */
  readonly #staging = new Memory("staging");
  #stagingBytes = 0;
  /** Kept between steps, grown to the most elements asked for: as they were read, and in the order of the runs. */
  #read = new Float32Array(0);
  #ordered = new Float32Array(0);

  /**
   * @param logits - whose rows of `width` come first
   * @param shortlists - where the others come from; null if there are none
   * @param counts - brought up to date with each reading
   */
  constructor(gpu: Gpu, logits: Memory, width: number, shortlists: Memory | null, counts: InputCounts) {
    this.#gpu = gpu;
    this.#logits = logits;
    this.#width = width;
    this.#shortlists = shortlists;
    this.#counts = counts;
  }

  /** Makes room for what comes back. @throws DeviceError if there is no memory */
  async reserve(rows: StepRows): Promise<void> {
    const bytes = 4 * (this.#elementsOf(rows) + this.#counts.nWords);
    if (bytes <= this.#stagingBytes) return;
    const usage = USAGE.copyDst | USAGE.mapRead;
    const make = (): GPUBuffer => this.#gpu.createBuffer("staging", bytes, usage);
    this.#staging.replace(this.#gpu, await this.#gpu.allocating("reading the output", make));
    this.#stagingBytes = bytes;
  }

  /** Copies what comes back, after the dispatches of a step. */
  addCopies(encoder: GPUCommandEncoder, rows: StepRows): void {
    const logitBytes = 4 * this.#rowElementsOf(rows);
    const shortlistBytes = 4 * rows.shortlist * rows.shortlistWords;
    const nBytes = logitBytes + shortlistBytes;
    const staging = this.#staging.buffer!;
    if (logitBytes > 0) encoder.copyBufferToBuffer(this.#logits.buffer!, 0, staging, 0, logitBytes);
    if (shortlistBytes > 0) {
      encoder.copyBufferToBuffer(this.#shortlists!.buffer!, 0, staging, logitBytes, shortlistBytes);
    }
    if (nBytes > 0) this.#counts.copyTo(encoder, staging, nBytes);
  }

  /** @returns what the runs asked for, in their order; valid until the next step. Empty if they asked for nothing */
  async read(runs: readonly Run[], rows: StepRows): Promise<Float32Array> {
    const nElements = this.#elementsOf(rows);
    if (nElements === 0) return new Float32Array(0);
    const { nWords } = this.#counts;
    if (this.#read.length < nElements + nWords) this.#read = new Float32Array(nElements + nWords);
    await this.#gpu.read(this.#staging.buffer!, this.#read.subarray(0, nElements + nWords));
    this.#counts.update(new Uint32Array(this.#read.buffer, 4 * nElements, nWords));
    const read = this.#read.subarray(0, nElements);
    return rows.shortlist === 0 ? read : this.#inOrder(read, runs, rows);
  }

  dispose(): void {
    this.#staging.dispose(this.#gpu);
    this.#read = new Float32Array(0);
    this.#ordered = new Float32Array(0);
  }

  #inOrder(read: Float32Array, runs: readonly Run[], rows: StepRows): Float32Array {
    if (this.#ordered.length < read.length) this.#ordered = new Float32Array(read.length);
    let logitsAt = 0;
    let shortlistAt = this.#rowElementsOf(rows);
    let n = 0;
    for (const { nRows, logits, shortlist } of runs) {
      if (shortlist !== undefined) {
        const nElements = shortlistElements(shortlist);
        this.#ordered.set(read.subarray(shortlistAt, shortlistAt + nElements), n);
        shortlistAt += rows.shortlistWords;
        n += nElements;
      } else if (logits !== "none") {
        const nElements = this.#width * (logits === "all" ? nRows : 1);
        this.#ordered.set(read.subarray(logitsAt, logitsAt + nElements), n);
        logitsAt += nElements;
        n += nElements;
      }
    }
    return this.#ordered.subarray(0, n);
  }

  #elementsOf(rows: StepRows): number {
    return this.#rowElementsOf(rows) + rows.shortlist * rows.shortlistWords;
  }

  /** Of whole rows of logits. */
  #rowElementsOf({ logit, shortlist }: StepRows): number {
    return (logit - shortlist) * this.#width;
  }
}
