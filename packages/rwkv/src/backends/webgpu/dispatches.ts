// A recorded forward pass as a list of dispatches, compiled once. A step walks the list; bind groups are made anew only
// when a buffer was replaced, and the commands of a step do not tell tokens or slots, so that they can be encoded before
// those are known.

import type { OnCompiled } from "../../ops/backend.ts";
import type { Gpu } from "./gpu.ts";
import { USAGE } from "./usage.ts";
import {
  assemble,
  parameterWords,
  STEP_VECTORS,
  type AssembledKernel,
  type GridRows,
  type KernelCall,
} from "./kernels/kernel.ts";
import { dispatchReport, type DispatchReport } from "./report.ts";

/** How many rows of each kind a step has: what its commands depend on. */
export interface StepRows extends Readonly<Record<GridRows, number>> {
  /** Words that each shortlist takes of what is read back. */
  readonly shortlistWords: number;
}

/** Adds commands after the dispatches of a step. */
export type AddCommands = (encoder: GPUCommandEncoder) => void;

interface Dispatch {
  readonly call: KernelCall;
  readonly kernel: AssembledKernel;
  readonly layout: GPUBindGroupLayout;
  /** For each variant. */
  readonly pipelines: readonly GPUComputePipeline[];
  /** Workgroups in the first dimension, for each variant. */
  readonly nGroups: readonly number[];
  /** Of its parameters. */
  readonly offset: number;
}

export class Dispatches {
  readonly #gpu: Gpu;
  readonly #list: readonly Dispatch[];
  /** Parameters of all dispatches, then the table of the step. */
  readonly #parameters: GPUBuffer;
  readonly #table: GPUBuffer;
  /** Null for dispatches whose buffers no step has needed yet. */
  #groups: readonly (GPUBindGroup | null)[] = [];
  #ahead: { readonly rows: StepRows; readonly commands: GPUCommandBuffer } | null = null;

  private constructor(gpu: Gpu, list: readonly Dispatch[], parameters: GPUBuffer, table: GPUBuffer) {
    this.#gpu = gpu;
    this.#list = list;
    this.#parameters = parameters;
    this.#table = table;
  }

  /**
   * Compiles what is not compiled yet, all of it side by side.
   * @throws DeviceError if that fails, or a kernel touches too many buffers; what `onCompiled` throws
   */
  static async create(
    gpu: Gpu,
    calls: readonly KernelCall[],
    onCompiled: OnCompiled = () => undefined,
  ): Promise<Dispatches> {
    const kernels = calls.map((call) => assemble(call));
    const wanted = new Set(kernels.flatMap(({ texts }) => texts).filter((text) => !gpu.pipelines.has(text)));
    const compiled = new Set<string>();
    const compile = async (label: string, text: string, layout: GPUBindGroupLayout) => {
      const pipeline = await gpu.pipelines.compile(label, text, layout);
      if (wanted.has(text) && !compiled.has(text)) onCompiled(compiled.add(text).size, wanted.size);
      return pipeline;
    };
    const pipelines = await Promise.all(
      calls.map(({ label }, i) => {
        const { bindings, texts } = kernels[i]!;
        const layout = gpu.pipelines.layout(bindings);
        return Promise.all(texts.map((text) => compile(label, text, layout)));
      }),
    );
    const unit = gpu.uniformAlignment;
    let offset = 0;
    const list = calls.map((call, i): Dispatch => {
      const kernel = kernels[i]!;
      const layout = gpu.pipelines.layout(kernel.bindings);
      const nGroups = call.variants.map((_, variant) =>
        call.parts.reduce((sum, part) => sum + part.nGroups[variant]!, 0),
      );
      const dispatch = { call, kernel, layout, pipelines: pipelines[i]!, nGroups, offset };
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

  /** The dispatches of a step in decode, in order. */
  get report(): DispatchReport[] {
    return dispatchReport(this.#list.map(({ call }) => call));
  }

  /** To be called when a buffer that kernels see was replaced. */
  bind(): void {
    const { device } = this.#gpu;
    this.#ahead = null;
    this.#groups = this.#list.map(({ call, kernel, layout, offset }) => {
      const buffers = kernel.bindings.flatMap(({ place }) => place.memory.buffer ?? []);
      if (buffers.length < kernel.bindings.length) return null;
      return device.createBindGroup({
        layout,
        entries: [
          {
            binding: 0,
            resource: { buffer: this.#parameters, offset, size: parameterWords(call).byteLength },
          },
          { binding: 1, resource: { buffer: this.#table } },
          ...buffers.map((buffer, i) => ({ binding: 2 + i, resource: { buffer } })),
        ],
      });
    });
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
  async run(rows: StepRows, finish: AddCommands, signal?: AbortSignal): Promise<void> {
    const { queue } = this.#gpu.device;
    const ahead = this.#ahead;
    this.#ahead = null;
    if (ahead !== null && areEqual(ahead.rows, rows)) {
      queue.submit([ahead.commands]);
      return;
    }
    for (let from = 0, isFirst = true; from < this.#list.length; isFirst = false) {
      const { commands, end } = this.#encode(from, rows, finish);
      if (from > 0) {
        // One submission is waiting while the next one is recorded, and none is sent after an abort.
        if (!isFirst) await this.#gpu.done();
        signal?.throwIfAborted();
      }
      queue.submit([commands]);
      from = end;
    }
  }

  /**
   * Encodes a step of as many rows before it is asked for, while the GPU is busy with another. The next `run` submits it if
   * it has these rows and nothing was bound meanwhile. A step of several submissions is not encoded.
   */
  encodeAhead(rows: StepRows, finish: AddCommands): void {
    const { commands, end } = this.#encode(0, rows, finish);
    this.#ahead = end === this.#list.length ? { rows, commands } : null;
  }

  dispose(): void {
    this.#groups = [];
    this.#ahead = null;
    this.#gpu.destroyBuffer(this.#parameters);
    this.#gpu.destroyBuffer(this.#table);
  }

  /** The commands of dispatches from `from` to before `end`, which is that of the list or where a submission is long enough. */
  #encode(
    from: number,
    rows: StepRows,
    finish: AddCommands,
  ): { readonly commands: GPUCommandBuffer; readonly end: number } {
    const encoder = this.#gpu.device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    const otherSteps = rows.token === rows.run ? "longer runs" : "single rows";
    let work = 0;
    let end = from;
    for (; end < this.#list.length && work <= this.#gpu.submittedWork; end++) {
      const { call, pipelines, nGroups } = this.#list[end]!;
      const nRows = rows[call.rows];
      if (nRows === 0 || call.steps === otherSteps) continue;
      let variant = 0;
      while (call.variants[variant]!.maxRows < nRows) variant += 1;
      pass.setPipeline(pipelines[variant]!);
      pass.setBindGroup(0, this.#groups[end]);
      pass.dispatchWorkgroups(nGroups[variant]!, Math.ceil(nRows / call.variants[variant]!.rowsPerGroup));
      work += call.work * nRows;
    }
    pass.end();
    if (end === this.#list.length) finish(encoder);
    return { commands: encoder.finish(), end };
  }
}

/** Whether the commands of two steps are the same. */
export const areEqual = (a: StepRows, b: StepRows): boolean =>
  a.token === b.token &&
  a.logit === b.logit &&
  a.run === b.run &&
  a.shortlist === b.shortlist &&
  a.shortlistWords === b.shortlistWords;
