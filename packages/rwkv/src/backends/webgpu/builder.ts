// Collects the tensors of one model, uploads its weights, and records its forward pass.

import { UsageError } from "../../core/errors.ts";
import type {
  Activations,
  Backend,
  BuilderOptions,
  OnCompiled,
  Program,
  ProgramBuilder,
  WeightUpload,
} from "../../ops/backend.ts";
import { createOps } from "../../ops/create-ops.ts";
import type { Ops } from "../../ops/ops.ts";
import type { OpCall } from "../../ops/signature.ts";
import { N_LIKELIEST } from "../../core/shortlist.ts";
import { rowElements, type RowKind, type Tensor, type TensorKind } from "../../ops/tensor.ts";
import { kernelCalls } from "./calls.ts";
import { lower } from "./commands.ts";
import { Dispatches } from "./dispatches.ts";
import { fuse } from "./fusion.ts";
import { matricesToGather } from "./gather.ts";
import type { Gpu } from "./gpu.ts";
import { InputCounts } from "./input-counts.ts";
import { MAX_STEP_ROWS } from "./kernels/kernel.ts";
import type { Places } from "./operands.ts";
import { WebgpuProgram } from "./program.ts";
import { Rows } from "./rows.ts";
import { Shortlists } from "./shortlists.ts";
import { Slots } from "./slots.ts";
import { trustKernels } from "./trust.ts";
import { Weights } from "./weights.ts";

export interface WebgpuBuilderOptions extends BuilderOptions {
  /** Most bytes of a buffer with rows of a matrix. Default: what kernels of the device can see; tests ask for fewer. */
  readonly maxPartBytes?: number | undefined;
}

/**
 * @param createOracle - what the kernels must agree with before the program is used; null where they are trusted
 * @throws UsageError if maxRows is no whole number of rows
 */
export function createWebgpuBuilder(
  gpu: Gpu,
  { maxRows, maxPartBytes, activations = "f32", skipZeros = true }: WebgpuBuilderOptions,
  createOracle: (() => Promise<Backend>) | null,
): ProgramBuilder {
  if (!Number.isSafeInteger(maxRows) || maxRows < 1) {
    throw new UsageError(`maxRows is ${maxRows}; give a whole number of rows, at least 1.`);
  }
  gpu.checkAlive();
  return new WebgpuBuilder(
    gpu,
    maxRows,
    maxPartBytes ?? gpu.maxBindingBytes,
    activations,
    skipZeros,
    createOracle,
  );
}

class WebgpuBuilder implements ProgramBuilder {
  readonly #gpu: Gpu;
  readonly #maxRows: number;
  readonly #activations: Activations;
  readonly #skipZeros: boolean;
  readonly #createOracle: (() => Promise<Backend>) | null;
  readonly #weights: Weights;
  readonly #tensors: Tensor[] = [];
  readonly #initials = new Map<Tensor, number>();
  #isFinished = false;
  /** Settles when the weights asked for so far are uploaded. */
  #reading: Promise<unknown> = Promise.resolve();

  constructor(
    gpu: Gpu,
    maxRows: number,
    maxPartBytes: number,
    activations: Activations,
    skipZeros: boolean,
    createOracle: (() => Promise<Backend>) | null,
  ) {
    this.#createOracle = createOracle;
    this.#gpu = gpu;
    this.#maxRows = maxRows;
    this.#activations = activations;
    this.#skipZeros = skipZeros;
    this.#weights = new Weights(gpu, maxPartBytes);
  }

  async weight(upload: WeightUpload, signal?: AbortSignal): Promise<Tensor> {
    const tensor = this.#declare("weight", "none", upload.name, upload.shape, upload.dtype);
    const wanted = this.#skipZeros ? upload : { ...upload, hasSparseInputs: false };
    const read = this.#reading.then(() => this.#read(tensor, wanted, signal));
    this.#reading = read.catch(() => undefined); // the caller of this weight hears of the failure, not the next one's
    await read;
    return tensor;
  }

  state(name: string, shape: readonly number[], initial: number): Tensor {
    const tensor = this.#declare("state", "none", name, shape);
    this.#initials.set(tensor, initial);
    return tensor;
  }

  input(name: string, shape: readonly number[]): Tensor {
    return this.#declare("input", "token", name, shape);
  }

  scratch(name: string, shape: readonly number[], rows: RowKind): Tensor {
    return this.#declare("scratch", rows, name, shape);
  }

  output(name: string, shape: readonly number[]): Tensor {
    if (this.#tensors.some(({ kind }) => kind === "output")) {
      throw new UsageError(`output "${name}": a program has one output, and it is declared already.`);
    }
    return this.#declare("output", "logit", name, shape);
  }

  async build(forward: (ops: Ops) => void, onCompiled?: OnCompiled): Promise<Program> {
    await this.#reading;
    if (this.#isFinished) throw new UsageError("the program is built already; make another builder.");
    const output = this.#tensors.find(({ kind }) => kind === "output");
    if (output === undefined) {
      throw new UsageError("the program has no output; declare one before building.");
    }
    const recorded: OpCall[] = [];
    forward(createOps((call) => recorded.push(call)));
    const commands = fuse(
      lower(recorded, (name, width, rows) => this.#declare("scratch", rows, name, [width])),
    );
    this.#isFinished = true;

    const gpu = this.#gpu;
    const weights = this.#weights;
    const rows = new Rows(gpu, this.#tensors);
    const slots = new Slots(gpu, this.#initials);
    const counts = new InputCounts(gpu);
    const places: Places = {
      matrixOf: (tensor) => weights.matrixOf(tensor),
      countsOf: (matrix) => counts.placeOf(matrix),
      placeOf: (tensor) => {
        if (tensor.kind === "weight") return weights.vectorPlace(tensor);
        return tensor.kind === "state" ? slots.placeOf(tensor) : rows.placeOf(tensor);
      },
    };
    const choice = { features: gpu.features, activations: this.#activations };
    await weights.finish();
    await weights.gather(matricesToGather(commands, places.matrixOf, weights.maxPartBytes));
    const width = rowElements(output);
    const shortlists = width < N_LIKELIEST ? null : new Shortlists(gpu, rows.placeOf(output), width);
    const calls = commands.flatMap((command) => kernelCalls(command, places, choice));
    calls.push(...(shortlists?.calls ?? []));
    const dispatches = await Dispatches.create(gpu, calls, onCompiled);
    try {
      await counts.allocate();
      if (this.#createOracle !== null) {
        await trustKernels(gpu, recorded, calls, {
          own: this.#trusted(),
          createOracle: this.#createOracle,
          activations: this.#activations,
          isSparse: (matrix) => weights.matrixOf(matrix).isSparse,
        });
      }
    } catch (error) {
      dispatches.dispose();
      counts.dispose();
      throw error;
    }
    return new WebgpuProgram({
      gpu,
      weights,
      slots,
      rows,
      counts,
      shortlists,
      dispatches,
      inputs: this.#tensors.filter(({ kind }) => kind === "input"),
      output,
      maxRows: Math.min(this.#maxRows, MAX_STEP_ROWS, rows.maxTokenRows),
    });
  }

  dispose(): void {
    this.#isFinished = true;
    this.#weights.dispose();
  }

  /** Programs like this one, whose kernels are not questioned. */
  #trusted(): Pick<Backend, "createBuilder"> {
    return {
      createBuilder: ({ maxRows }) =>
        createWebgpuBuilder(this.#gpu, { maxRows, activations: this.#activations }, null),
    };
  }

  async #read(tensor: Tensor, upload: WeightUpload, signal: AbortSignal | undefined): Promise<void> {
    signal?.throwIfAborted();
    if (this.#isFinished) {
      throw new UsageError(`weight "${upload.name}": the builder was disposed or built meanwhile.`);
    }
    await this.#weights.add(tensor, upload, signal);
  }

  #declare(
    kind: TensorKind,
    rows: RowKind,
    name: string,
    shape: readonly number[],
    dtype: Tensor["dtype"] = "f32",
  ): Tensor {
    if (this.#isFinished)
      throw new UsageError(`${kind} "${name}" is declared after the end of the building.`);
    const tensor: Tensor = { index: this.#tensors.length, kind, rows, name, shape: [...shape], dtype };
    this.#tensors.push(tensor);
    return tensor;
  }
}
