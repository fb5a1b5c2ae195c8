// A small model with the operations of a large one: layers that repeat stand in it once, dimensions are cut, and the weights
// are random. Its kernels are those of the large one, since their texts depend on neither.

import { decodeToF32, encodeFromF32 } from "../../core/decode.ts";
import { byteLengthOf, DTYPES, isQuantized, type QuantDType, type WeightDType } from "../../core/dtype.ts";
import { applyCall } from "../../ops/apply-call.ts";
import type { Program, ProgramBuilder } from "../../ops/backend.ts";
import { N_LIKELIEST } from "../../core/shortlist.ts";
import { operandsOf, type OpCall } from "../../ops/signature.ts";
import { rowElements, type Tensor } from "../../ops/tensor.ts";

/** What dimensions are cut to, unless heads and blocks ask for more. */
const LEAST_UNIT = 64;
/** Logits that are left at least, where there are as many: more than a shortlist has. */
const LEAST_LOGITS = 2 * N_LIKELIEST;
/** Blocks of which the rows of a quantised matrix are made. */
const N_BLOCKS = 8;

export class MiniModel {
  readonly #calls: readonly OpCall[];
  /** All handles in use by the calls, in order of their index, with their dimensions here. */
  readonly #shapes: ReadonlyMap<Tensor, readonly number[]>;
  readonly #isSparse: (matrix: Tensor) => boolean;
  readonly #blocks = new Map<WeightDType, readonly Uint8Array[]>();

  /**
   * @param calls - of a program; its handles are not used otherwise
   * @param isSparse - whether most inputs of products with a matrix are zero
   */
  constructor(calls: readonly OpCall[], isSparse: (matrix: Tensor) => boolean) {
    this.#isSparse = isSparse;
    this.#calls = withoutRepeats(calls);
    const used = new Set(this.#calls.flatMap((call) => operandsOf(call).map(({ tensor }) => tensor)));
    const tensors = [...used].sort((a, b) => a.index - b.index);
    const unit = unitOf(this.#calls, tensors);
    this.#shapes = new Map(tensors.map((tensor) => [tensor, cutShape(tensor.shape, unit)]));
  }

  /** The same model on any backend. */
  async build(builder: ProgramBuilder): Promise<Program> {
    const random = randomNumbers(1);
    const handles = new Map<Tensor, Tensor>();
    try {
      for (const [tensor, shape] of this.#shapes) {
        handles.set(tensor, await this.#declare(builder, tensor, shape, random));
      }
      return await builder.build((ops) => {
        for (const call of this.#calls) applyCall(ops, withHandles(call, handles));
      });
    } catch (error) {
      builder.dispose();
      throw error;
    }
  }

  /** Logits of a row. */
  get nLogits(): number {
    for (const [{ kind }, shape] of this.#shapes) if (kind === "output") return countOf(shape);
    return 0;
  }

  /** Rows of the program's inputs. */
  inputs(nRows: number): Float32Array[] {
    const random = randomNumbers(2);
    return [...this.#shapes]
      .filter(([{ kind }]) => kind === "input")
      .map(([, shape]) => Float32Array.from({ length: nRows * countOf(shape) }, random));
  }

  async #declare(
    builder: ProgramBuilder,
    tensor: Tensor,
    shape: readonly number[],
    random: () => number,
  ): Promise<Tensor> {
    const { kind, name, rows, dtype } = tensor;
    switch (kind) {
      case "state":
        return builder.state(name, shape, 0);
      case "input":
        return builder.input(name, shape);
      case "scratch":
        return builder.scratch(name, shape, rows === "logit" ? "logit" : "token");
      case "output":
        return builder.output(name, shape);
      case "weight": {
        const bytes = this.#weightBytes(dtype, shape, random);
        const read = (target: Uint8Array): Promise<void> => {
          target.set(bytes);
          return Promise.resolve();
        };
        const hasSparseInputs = shape.length === 2 && this.#isSparse(tensor);
        return builder.weight({ name, shape, dtype, byteLength: bytes.byteLength, hasSparseInputs, read });
      }
      default:
        return kind satisfies never;
    }
  }

  #weightBytes(dtype: WeightDType, shape: readonly number[], random: () => number): Uint8Array {
    const bytes = new Uint8Array(byteLengthOf(dtype, shape));
    if (!isQuantized(dtype)) {
      // Products stay as large as what goes into them; vectors are in (0.1, 0.9), where decays and mixes may be.
      const scale = Math.sqrt(3 / shape.at(-1)!);
      const valueOf = shape.length === 2 ? () => scale * random() : () => 0.5 + 0.4 * random();
      const values = Float32Array.from({ length: countOf(shape) }, valueOf);
      if (dtype === "f64") bytes.set(new Uint8Array(Float64Array.from(values).buffer));
      else encodeFromF32(dtype, values, bytes);
      return bytes;
    }
    let blocks = this.#blocks.get(dtype);
    if (blocks === undefined) this.#blocks.set(dtype, (blocks = randomBlocks(dtype)));
    const { blockBytes } = DTYPES[dtype];
    for (let at = 0; at < bytes.byteLength; at += blockBytes) {
      bytes.set(blocks[Math.floor(((1 + random()) / 2) * blocks.length)]!, at);
    }
    return bytes;
  }
}

/** The calls without those of a layer that does what the one before it does, on other weights and states. */
function withoutRepeats(calls: readonly OpCall[]): OpCall[] {
  const kept = [...calls];
  const kinds = kept.map(kindOf);
  for (let length = 2; 2 * length <= kept.length; length++) {
    for (let at = 0; at + 2 * length <= kept.length;) {
      let n = 0;
      while (n < length && kinds[at + n] === kinds[at + length + n]) n += 1;
      if (n < length) {
        at += 1;
        continue;
      }
      kept.splice(at, length);
      kinds.splice(at, length);
    }
  }
  return kept;
}

/** The same for calls that differ only in which weights and states of the same shapes they use. */
function kindOf(call: OpCall): string {
  const operands = operandsOf(call).map(({ argument, tensor: { kind, index, dtype, shape } }) =>
    kind === "weight" || kind === "state"
      ? `${argument} ${dtype} ${shape.join("x")}`
      : `${argument} ${index}`,
  );
  const numbers = Object.values<unknown>({ ...call }).filter((value) => typeof value !== "object");
  return [...numbers, ...operands].join(", ");
}

interface Unit {
  /** Larger dimensions are cut to it. */
  readonly nElements: number;
  /** Of a head; null without heads. */
  readonly headSize: number | null;
  /** Logits of the large model. Whatever is as large is cut to `LEAST_LOGITS`. */
  readonly nLogits: number;
}

function unitOf(calls: readonly OpCall[], tensors: readonly Tensor[]): Unit {
  let nElements = 1;
  let headSize: number | null = null;
  for (const call of calls) {
    if ("heads" in call) headSize = headSizeOf(call);
  }
  for (const { kind, shape, dtype } of tensors) {
    if (kind === "state" && shape.length === 3) headSize = shape[1]!;
    if (kind === "weight") nElements = leastMultiple(nElements, DTYPES[dtype].blockElements);
  }
  // Two heads at least, so that one is told from the other.
  if (headSize !== null) nElements = leastMultiple(nElements, 2 * headSize);
  const nLogits = Math.max(...tensors.filter(({ kind }) => kind === "output").map(rowElements));
  return { nElements: nElements * Math.ceil(LEAST_UNIT / nElements), headSize, nLogits };
}

function cutShape(shape: readonly number[], { nElements, headSize, nLogits }: Unit): number[] {
  const mostLogits = nElements * Math.ceil(LEAST_LOGITS / nElements);
  const cut = (dimension: number): number =>
    Math.min(dimension, dimension === nLogits ? mostLogits : nElements);
  // A state of heads.
  if (shape.length === 3) return [cut(shape[0]! * headSize!) / headSize!, shape[1]!, shape[2]!];
  return shape.map(cut);
}

function headSizeOf(call: Extract<OpCall, { heads: number }>): number {
  return rowElements("y" in call ? call.y : call.x) / call.heads;
}

function withHandles(call: OpCall, handles: ReadonlyMap<Tensor, Tensor>): OpCall {
  const handleOf = (value: unknown): unknown => {
    if (Array.isArray(value)) return value.map(handleOf);
    return typeof value === "object" && value !== null ? handles.get(value as Tensor) : value;
  };
  const entries = Object.entries(call).map(([name, value]) => [name, handleOf(value) ?? null]);
  const mapped = Object.fromEntries(entries) as OpCall;
  if (!("heads" in call) || !("heads" in mapped)) return mapped;
  const width = rowElements("y" in mapped ? mapped.y : mapped.x);
  return { ...mapped, heads: width / headSizeOf(call) };
}

/** Blocks of random bits, but with values that a model could have. */
function randomBlocks(dtype: QuantDType): Uint8Array[] {
  const { blockBytes, blockElements } = DTYPES[dtype];
  const random = randomNumbers(3);
  const values = new Float32Array(blockElements);
  const blocks: Uint8Array[] = [];
  while (blocks.length < N_BLOCKS) {
    const block = Uint8Array.from({ length: blockBytes }, () => 128 * (1 + random()));
    decodeToF32(dtype, block, values);
    const largest = values.reduce((most, value) => Math.max(most, Math.abs(value)), 0);
    if (largest > 1 / 32 && largest < 1 / 2) blocks.push(block);
  }
  return blocks;
}

/** Numbers from -1 to below 1: xorshift32 (Marsaglia 2003). */
function randomNumbers(seed: number): () => number {
  let state = Math.imul(seed, 0x9e3779b9) | 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state / 2 ** 31;
  };
}

function countOf(shape: readonly number[]): number {
  return shape.reduce((product, dimension) => product * dimension, 1);
}

function leastMultiple(a: number, b: number): number {
  let [x, y] = [a, b];
  while (y > 0) [x, y] = [y, x % y];
  return (a / x) * b;
}
