// Canonical weights as the matrices and tensors of a packed file: encoded by a policy, in the order in which kernels read
// them. Each is read and converted when it is written.

import { byteLengthOf, isQuantized, type DType } from "../core/dtype.ts";
import { hasLayouts, layoutByteLength, packMatrix, type WeightLayout } from "../core/layout.ts";
import type { CheckpointTensor, PackedBytes } from "../formats/checkpoint.ts";
import { timeStateTensors } from "./export.ts";
import { isMatrix, type ChooseDType, type StoredDType } from "./policy.ts";
import { deviceDType, readMatrix, readValues } from "./values.ts";
import type { CanonicalWeight, CanonicalWeights } from "./weights/canonical.ts";

/** A matrix to write, by its official name. */
export interface MatrixToPack extends PackedBytes {
  readonly name: string;
  readonly dtype: StoredDType;
  /** `[out, in]` */
  readonly shape: readonly number[];
}

/** What a packed file of a model holds. */
export interface PackedWeights {
  readonly matrices: readonly MatrixToPack[];
  /** Vectors, position tables and a tuned state, as stored. */
  readonly tensors: readonly CheckpointTensor[];
}

/** @returns tensors that throw UsageError on `read` if a value does not fit the chosen type */
export function packWeights(weights: CanonicalWeights, choose: ChooseDType): PackedWeights {
  const all = [...weights.tensors.values()];
  const matrices = all.filter(isMatrix).sort((a, b) => Number(isOftenCopied(b)) - Number(isOftenCopied(a)));
  return {
    matrices: matrices.map((weight) => packedMatrix(weights.source, weight, choose(weight))),
    tensors: [...all.filter((weight) => !isMatrix(weight)).map(plainTensor), ...timeStateTensors(weights)],
  };
}

/**
 * The order in which most kernels read a matrix: rows that are looked up stay rows. Columns of blocks are for AVX-512 and
 * NEON alone, which bring the panels of `ffn.value` into columns at load.
 */
export function layoutOf({ rule }: CanonicalWeight, dtype: StoredDType): WeightLayout {
  if (rule.kind === "embedding" || !hasLayouts(dtype)) return "rows";
  return rule.hasSparseInputs && !isQuantized(dtype) ? "columns" : "panels";
}

/**
 * Whether kernels that map matrices may leave this one in the file, as rows to look up or to bring into another order.
 * Those lie together, since a system that maps one page maps its neighbours too.
 */
function isOftenCopied({ rule }: CanonicalWeight): boolean {
  return rule.kind === "embedding" || rule.hasSparseInputs;
}

function packedMatrix(source: string, weight: CanonicalWeight, dtype: StoredDType): MatrixToPack {
  const { name, shape, packed } = weight;
  const layout = layoutOf(weight, dtype);
  return {
    name,
    dtype,
    shape,
    layout,
    byteLength: layout === "rows" ? byteLengthOf(dtype, shape) : layoutByteLength(layout, dtype, shape),
    async read(target, signal) {
      if (dtype === weight.dtype && packed?.layout === layout) {
        await packed.read(target, signal);
        return;
      }
      const rows = layout === "rows" ? target : new Uint8Array(byteLengthOf(dtype, shape));
      await readMatrix(source, weight, dtype, rows, signal);
      if (layout !== "rows") packMatrix(layout, dtype, shape, rows, target);
    },
  };
}

function plainTensor(weight: CanonicalWeight): CheckpointTensor {
  const { name, rule } = weight;
  const shape = rule.officialShape;
  const stored = deviceDType(weight.dtype);
  const isPlain = stored === weight.dtype && (stored === "f32" || stored === "f16" || stored === "bf16");
  const dtype: DType = isPlain ? stored : "f32";
  return {
    name,
    dtype,
    shape,
    byteLength: byteLengthOf(dtype, shape),
    async read(target, signal) {
      if (isPlain) await weight.read(target, signal);
      else target.set(new Uint8Array((await readValues(weight, signal)).buffer));
    },
  };
}
