// The oracle: plain scalar loops with f64 sums, slow on purpose, that every other backend is compared with. Records
// the forward pass once, so that a step can stop between two operations, and computes them one after the other.

import { byteLengthOf } from "../../core/dtype.ts";
import { UsageError } from "../../core/errors.ts";
import type { Backend, BuilderOptions, ProgramBuilder, WeightUpload } from "../../ops/backend.ts";
import { createOps } from "../../ops/create-ops.ts";
import type { Ops } from "../../ops/ops.ts";
import type { OpCall } from "../../ops/signature.ts";
import type { RowKind, Tensor, TensorKind } from "../../ops/tensor.ts";
import { checkUploadLength, readRows } from "../../ops/upload.ts";
import { ReferenceProgram } from "./program.ts";
import { allocate, decodeWeight, type Storage, type Values } from "./values.ts";

export interface ReferenceOptions {
  /** What every value is rounded to when it is stored; f32 unless given. */
  readonly storage?: Storage;
}

export interface ReferenceBackend extends Backend {
  createBuilder(options: BuilderOptions): ReferenceBuilder;
}

export interface ReferenceBuilder extends ProgramBuilder {
  build(forward: (ops: Ops) => void): Promise<ReferenceProgram>;
}

export function createReferenceBackend(options: ReferenceOptions = {}): ReferenceBackend {
  const storage = options.storage ?? "f32";
  return {
    name: "reference",
    description: `reference: scalar TypeScript, sums in f64, values in ${storage}`,
    nThreads: 1,
    hasInt8Activations: false,
    kernels: null,
    createBuilder: ({ maxRows }) => createBuilder(storage, maxRows),
  };
}

function createBuilder(storage: Storage, maxRows: number): ReferenceBuilder {
  if (!Number.isSafeInteger(maxRows) || maxRows < 1) {
    throw new UsageError(`maxRows is ${maxRows}; give a whole number of rows, at least 1.`);
  }
  const tensors: Tensor[] = [];
  const weights = new Map<Tensor, Values>();
  const initials = new Map<Tensor, number>();
  let isFinished = false;

  const declare = (
    kind: TensorKind,
    rows: RowKind,
    name: string,
    shape: readonly number[],
    dtype: Tensor["dtype"] = "f32",
  ): Tensor => {
    if (isFinished) throw new UsageError(`${kind} "${name}" is declared after the end of the building.`);
    const tensor: Tensor = { index: tensors.length, kind, rows, name, shape: [...shape], dtype };
    tensors.push(tensor);
    return tensor;
  };

  return {
    async weight(upload, signal) {
      const tensor = declare("weight", "none", upload.name, upload.shape, upload.dtype);
      weights.set(tensor, await readWeight(storage, upload, signal));
      return tensor;
    },
    state(name, shape, initial) {
      const tensor = declare("state", "none", name, shape);
      initials.set(tensor, initial);
      return tensor;
    },
    input: (name, shape) => declare("input", "token", name, shape),
    scratch: (name, shape, rows) => declare("scratch", rows, name, shape),
    output(name, shape) {
      if (tensors.some((tensor) => tensor.kind === "output")) {
        throw new UsageError(`output "${name}": a program has one output, and it is declared already.`);
      }
      return declare("output", "logit", name, shape);
    },
    // eslint-disable-next-line @typescript-eslint/require-await -- async turns what forward throws into a rejection
    async build(forward) {
      if (isFinished) throw new UsageError("the program is built already; make another builder.");
      if (!tensors.some((tensor) => tensor.kind === "output")) {
        throw new UsageError("the program has no output; declare one before building.");
      }
      isFinished = true;
      const calls: OpCall[] = [];
      forward(createOps((call) => calls.push(call)));
      return new ReferenceProgram({
        storage,
        maxRows,
        tensors,
        copies: [],
        weights: new Map(weights),
        initials,
        calls,
        onDispose: () => undefined,
      });
    },
    dispose() {
      isFinished = true;
      weights.clear();
    },
  };
}

async function readWeight(
  storage: Storage,
  upload: WeightUpload,
  signal: AbortSignal | undefined,
): Promise<Values> {
  const { name, shape, dtype } = upload;
  checkUploadLength(upload);
  const values = allocate(storage, shape, `weight "${name}"`);
  const bytes = new Uint8Array(byteLengthOf(dtype, shape));
  await readRows(upload, bytes, signal);
  decodeWeight(dtype, bytes, values);
  return values;
}
