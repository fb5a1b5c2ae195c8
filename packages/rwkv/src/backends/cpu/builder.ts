// Collects the tensors of one model and records its forward pass. Weights are read straight into the memory that the
// kernels use, one after the other, since a view of it does not outlive the next growth.

import { UnsupportedError, UsageError } from "../../core/errors.ts";
import type {
  Activations,
  BuilderOptions,
  Program,
  ProgramBuilder,
  WeightUpload,
} from "../../ops/backend.ts";
import { createOps } from "../../ops/create-ops.ts";
import type { Ops } from "../../ops/ops.ts";
import type { OpCall } from "../../ops/signature.ts";
import type { RowKind, Tensor, TensorKind } from "../../ops/tensor.ts";
import { checkUploadLength, readRows } from "../../ops/upload.ts";
import type { HostFactory, ProgramHost, WeightPlace } from "./host.ts";
import { recordProgram } from "./record.ts";
import { Weights } from "./weights.ts";

/**
 * @throws UsageError if maxRows is no whole number of rows
 * @throws DeviceError if there is no memory for the weights announced
 */
export function createCpuBuilder(
  hosts: HostFactory,
  { maxRows, activations = "f32", skipZeros, weightByteLength = 0 }: BuilderOptions,
): ProgramBuilder {
  if (!Number.isSafeInteger(maxRows) || maxRows < 1) {
    throw new UsageError(`maxRows is ${maxRows}; give a whole number of rows, at least 1.`);
  }
  const host = hosts.create(weightByteLength, skipZeros === true);
  return new CpuBuilder(host, maxRows, activations, skipZeros !== false);
}

class CpuBuilder implements ProgramBuilder {
  readonly #maxRows: number;
  readonly #activations: Activations;
  readonly #skipZeros: boolean;
  /** Null once the builder is built or disposed: they hold the memories. */
  #device: { readonly host: ProgramHost; readonly weights: Weights } | null;
  readonly #tensors: Tensor[] = [];
  readonly #initials = new Map<Tensor, number>();
  #weightByteLength = 0;
  /** Weights in an order of other kernels are read into it: new room for each would pile up until it is collected. */
  #staging = new Uint8Array(0);
  /** Settles when the weights asked for so far are read. */
  #reading: Promise<unknown> = Promise.resolve();

  constructor(host: ProgramHost, maxRows: number, activations: Activations, skipZeros: boolean) {
    this.#device = { host, weights: new Weights() };
    this.#maxRows = maxRows;
    this.#activations = activations;
    this.#skipZeros = skipZeros;
  }

  async weight(upload: WeightUpload, signal?: AbortSignal): Promise<Tensor> {
    checkUpload(upload);
    const tensor = this.#declare("weight", "none", upload.name, upload.shape, upload.dtype);
    const read = this.#reading.then(() => this.#read(tensor, upload, signal));
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

  async build(forward: (ops: Ops) => void): Promise<Program> {
    await this.#reading;
    const { host, weights } = this.#takeDevice();
    if (!this.#tensors.some(({ kind }) => kind === "output")) {
      throw new UsageError("the program has no output; declare one before building.");
    }
    const calls: OpCall[] = [];
    forward(createOps((call) => calls.push(call)));
    const model = {
      host,
      weights,
      initials: this.#initials,
      activations: this.#activations,
      weightByteLength: this.#weightByteLength,
    };
    return recordProgram(model, { calls, tensors: this.#tensors, copies: [] }, this.#maxRows);
  }

  dispose(): void {
    this.#device = null;
    this.#staging = new Uint8Array(0);
  }

  async #read(tensor: Tensor, upload: WeightUpload, signal: AbortSignal | undefined): Promise<void> {
    const { name } = upload;
    signal?.throwIfAborted();
    const device = this.#device;
    if (device === null) {
      throw new UsageError(`weight "${name}": the builder was disposed or built meanwhile.`);
    }
    const { host, weights } = device;
    const wanted = this.#skipZeros ? upload : { ...upload, hasSparseInputs: false };
    weights.add(tensor, host.mapWeight?.(wanted) ?? (await readWeight(host, wanted, this.#roomFor, signal)));
    this.#weightByteLength += upload.byteLength;
  }

  readonly #roomFor: RoomFor = (byteLength) => {
    if (this.#staging.byteLength < byteLength) this.#staging = new Uint8Array(byteLength);
    return this.#staging.subarray(0, byteLength);
  };

  #takeDevice(): { readonly host: ProgramHost; readonly weights: Weights } {
    const device = this.#device;
    if (device === null) throw new UsageError("the program is built already; make another builder.");
    this.#device = null;
    this.#staging = new Uint8Array(0);
    return device;
  }

  #declare(
    kind: TensorKind,
    rows: RowKind,
    name: string,
    shape: readonly number[],
    dtype: Tensor["dtype"] = "f32",
  ): Tensor {
    if (this.#device === null) {
      throw new UsageError(`${kind} "${name}" is declared after the end of the building.`);
    }
    const tensor: Tensor = { index: this.#tensors.length, kind, rows, name, shape: [...shape], dtype };
    this.#tensors.push(tensor);
    return tensor;
  }
}

/** Room that may be used until it is asked for again. */
type RoomFor = (byteLength: number) => Uint8Array;

async function readWeight(
  host: ProgramHost,
  upload: WeightUpload,
  roomFor: RoomFor,
  signal: AbortSignal | undefined,
): Promise<WeightPlace> {
  const place = host.placeWeight(upload);
  try {
    await readInto(place, upload, roomFor, signal);
  } catch (error) {
    place.release();
    throw error;
  }
  return place;
}

/** Bytes in an order that the kernels do not read come as rows. */
async function readInto(
  place: WeightPlace,
  upload: WeightUpload,
  roomFor: RoomFor,
  signal: AbortSignal | undefined,
): Promise<void> {
  if (upload.layout === place.layout) {
    await upload.read(place.bytes(place.layout), signal);
    await place.seal(place.layout);
  } else {
    await readRows(upload, place.bytes("rows"), signal, roomFor);
    await place.seal("rows");
  }
}

function checkUpload(upload: WeightUpload): void {
  if (upload.dtype === "f64") {
    throw new UnsupportedError(
      `weight "${upload.name}" is f64, which no kernel of the cpu backend reads. Convert it to f32.`,
    );
  }
  checkUploadLength(upload);
}
