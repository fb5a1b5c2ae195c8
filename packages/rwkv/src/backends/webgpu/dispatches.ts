// A recorded forward pass as a list of dispatches, compiled once. A step walks the list; bind groups are made anew only
// when a buffer was replaced.

import type { Gpu } from "./gpu.ts";
import { USAGE } from "./gpu.ts";
import {
  assemble,
  parameterWords,
  STEP_VECTORS,
  type AssembledKernel,
  type KernelCall,
} from "./kernels/kernel.ts";

/** How many rows of each kind a step has. */
export interface StepRows {
  readonly token: number;
  readonly logit: number;
  readonly run: number;
}

interface Dispatch {
  readonly call: KernelCall;
  readonly kernel: AssembledKernel;
  readonly layout: GPUBindGroupLayout;
  /** For each variant. */
  readonly pipelines: readonly GPUComputePipeline[];
  /** Of its parameters. */
  readonly offset: number;
}

/** Multiply-adds of one submission: a tenth of a second on a GPU of 0.3 TFLOPS, far below what drivers put up with. */
const MAX_SUBMITTED_WORK = 2 ** 34;

export class Dispatches {
  readonly #gpu: Gpu;
  readonly #list: readonly Dispatch[];
  /** Parameters of all dispatches, then the table of the step. */
  readonly #parameters: GPUBuffer;
  readonly #table: GPUBuffer;
  #groups: readonly GPUBindGroup[] = [];

  private constructor(gpu: Gpu, list: readonly Dispatch[], parameters: GPUBuffer, table: GPUBuffer) {
    this.#gpu = gpu;
    this.#list = list;
    this.#parameters = parameters;
    this.#table = table;
  }

  /** Compiles what is not compiled yet. @throws DeviceError if that fails, or a kernel touches too many buffers */
  static async create(gpu: Gpu, calls: readonly KernelCall[]): Promise<Dispatches> {
    const kernels = calls.map((call) => assemble(call));
    const pipelines = await Promise.all(
      calls.map(({ label }, i) => {
        const { bindings, texts } = kernels[i]!;
        const layout = gpu.pipelines.layout(bindings);
        return Promise.all(texts.map((text) => gpu.pipelines.compile(label, text, layout)));
      }),
    );
    const unit = gpu.uniformAlignment;
    let offset = 0;
    const list = calls.map((call, i): Dispatch => {
      const kernel = kernels[i]!;
      const layout = gpu.pipelines.layout(kernel.bindings);
      const dispatch = { call, kernel, layout, pipelines: pipelines[i]!, offset };
      offset += Math.ceil(parameterWords(call).byteLength / unit) * unit;
      return dispatch;
    });
    const [parameters, table] = await gpu.allocating("the parameters of kernels", () => [
      gpu.createBuffer("parameters", Math.max(offset, unit), USAGE.uniform | USAGE.copyDst, true),
      gpu.createBuffer("step", 16 * STEP_VECTORS, USAGE.uniform | USAGE.copyDst),
    ]);
    const words = new Uint32Array(parameters.getMappedRange());
    for (const { call, offset: at } of list) words.set(parameterWords(call), at / 4);
    parameters.unmap();
    return new Dispatches(gpu, list, parameters, table);
  }

  /** The dispatches in order, for reports. */
  get labels(): string[] {
    return this.#list.map(({ call }) => call.label);
  }

  /** To be called when a buffer that kernels see was replaced. */
  bind(): void {
    const { device } = this.#gpu;
    this.#groups = this.#list.map(({ call, kernel, layout, offset }) =>
      device.createBindGroup({
        layout,
        entries: [
          {
            binding: 0,
            resource: { buffer: this.#parameters, offset, size: parameterWords(call).byteLength },
          },
          { binding: 1, resource: { buffer: this.#table } },
          ...kernel.bindings.map(({ place }, i) => ({
            binding: 2 + i,
            resource: { buffer: place.memory.buffer! },
          })),
        ],
      }),
    );
  }

  /** Tells the kernels of the next `run` about its runs and rows. */
  writeTable(words: Uint32Array<ArrayBuffer>): void {
    this.#gpu.device.queue.writeBuffer(this.#table, 0, words);
  }

  /**
   * Runs the list over the rows of a step, in several submissions if it is long.
   * @param finish - adds commands after the last dispatch
   * @throws the signal's reason if aborted between two submissions, DeviceError if the device fails
   */
  async run(
    rows: StepRows,
    finish: (encoder: GPUCommandEncoder) => void,
    signal?: AbortSignal,
  ): Promise<void> {
    const { device } = this.#gpu;
    let encoder = device.createCommandEncoder();
    let pass = encoder.beginComputePass();
    let work = 0;
    let isFirst = true;
    for (let i = 0; i < this.#list.length; i++) {
      const { call, pipelines } = this.#list[i]!;
      const nRows = rows[call.rows];
      if (nRows === 0) continue;
      if (work > MAX_SUBMITTED_WORK) {
        pass.end();
        device.queue.submit([encoder.finish()]);
        // One submission is waiting while the next one is recorded, and none is sent after an abort.
        if (!isFirst) await this.#gpu.done();
        signal?.throwIfAborted();
        isFirst = false;
        encoder = device.createCommandEncoder();
        pass = encoder.beginComputePass();
        work = 0;
      }
      let variant = 0;
      while (call.variants[variant]!.maxRows < nRows) variant += 1;
      pass.setPipeline(pipelines[variant]!);
      pass.setBindGroup(0, this.#groups[i]);
      pass.dispatchWorkgroups(call.nGroups, Math.ceil(nRows / call.variants[variant]!.rowsPerGroup));
      work += call.work * nRows;
    }
    pass.end();
    finish(encoder);
    device.queue.submit([encoder.finish()]);
  }

  dispose(): void {
    this.#groups = [];
    this.#gpu.destroyBuffer(this.#parameters);
    this.#gpu.destroyBuffer(this.#table);
  }
}
