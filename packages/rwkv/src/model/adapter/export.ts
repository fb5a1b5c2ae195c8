// A trained adapter as tensors to write: the names and orientation of RWKV's trainers for .pth, those of web-rwkv's converter
// for safetensors. read.ts reads both.

import type { SafetensorsDType } from "../export.ts";
import { byteLengthOf, countElements } from "../../core/dtype.ts";
import { ShapeError, UsageError } from "../../core/errors.ts";
import type { CheckpointTensor } from "../../formats/checkpoint.ts";
import { recode } from "../values.ts";

/** A trained low-rank change of a matrix `[out, in]`. */
export interface LoraFactors {
  /** Official name of the matrix without `.weight`, such as `blocks.0.att.key`. */
  readonly name: string;
  readonly rank: number;
  /** A, `[rank, in]`, row-major. */
  readonly a: Float32Array;
  /** B, `[out, rank]`, row-major. */
  readonly b: Float32Array;
}

/** A weight that was trained whole, under its official name and shape. */
export interface TrainedTensor {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** What training an adapter gives. */
export interface AdapterContents {
  /** Of all pairs: the change of each is (alpha / rank) B A. */
  readonly alpha: number;
  readonly pairs: readonly LoraFactors[];
  /** Weights that were trained whole beside the pairs. */
  readonly tensors?: readonly TrainedTensor[] | undefined;
}

/**
 * @param layout - `trainer` has X.lora_A `[rank, in]` and X.lora_B `[out, rank]`; `web-rwkv` X.lora.0 `[in, rank]` and
 * X.lora.1 `[out, rank]`
 * @throws UsageError if there is no pair or a number is not finite, ShapeError if lengths do not fit
 */
export function adapterTensors(
  { alpha, pairs, tensors = [] }: AdapterContents,
  layout: "trainer" | "web-rwkv",
  dtype: SafetensorsDType,
): CheckpointTensor[] {
  if (pairs.length === 0)
    throw new UsageError("An adapter needs at least one low-rank pair, but there is none.");
  if (!Number.isFinite(alpha)) throw new UsageError(`alpha is ${alpha}; expected a finite number.`);
  const result: CheckpointTensor[] = [];
  for (const { name, rank, a, b } of pairs) {
    if (!Number.isInteger(rank) || rank < 1) {
      throw new UsageError(
        `The low-rank pair "${name}" has rank ${rank}; expected a whole number of at least 1.`,
      );
    }
    const [nIn, nOut] = [a.length / rank, b.length / rank];
    if (layout === "trainer") {
      result.push(tensorOf(`${name}.lora_A`, [rank, nIn], a, dtype));
    } else {
      result.push(tensorOf(`${name}.lora.0`, [nIn, rank], transposedValues(a, rank, nIn), dtype));
    }
    result.push(tensorOf(`${name}.${layout === "trainer" ? "lora_B" : "lora.1"}`, [nOut, rank], b, dtype));
  }
  for (const { name, shape, values } of tensors) result.push(tensorOf(name, shape, values, dtype));
  return result;
}

function transposedValues(values: Float32Array, nRows: number, nColumns: number): Float32Array {
  const result = new Float32Array(values.length);
  for (let i = 0; i < nRows; i++) {
    for (let j = 0; j < nColumns; j++) result[j * nRows + i] = values[i * nColumns + j]!;
  }
  return result;
}

/** Values are taken when this is called, so that they may be trained on. */
function tensorOf(
  name: string,
  shape: readonly number[],
  values: Float32Array,
  dtype: SafetensorsDType,
): CheckpointTensor {
  if (!shape.every((n) => Number.isInteger(n) && n > 0) || countElements(shape) !== values.length) {
    throw new ShapeError(`Tensor "${name}" of shape [${shape.join(", ")}] has ${values.length} numbers.`);
  }
  const bad = values.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) {
    throw new UsageError(
      `Tensor "${name}" holds ${values[bad]!} at element ${bad}; expected finite numbers. Train it anew at a lower rate.`,
    );
  }
  const bytes = new Uint8Array(byteLengthOf(dtype, shape));
  const stored = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  recode({ name, dtype: "f32", shape }, stored, dtype, bytes);
  return {
    name,
    dtype,
    shape,
    byteLength: bytes.byteLength,
    read(target) {
      target.set(bytes);
      return Promise.resolve();
    },
  };
}
