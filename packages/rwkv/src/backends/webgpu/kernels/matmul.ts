// Which kernel multiplies by a matrix, by the number of rows of the step.

import type { KernelVariant } from "./kernel.ts";
import { MATVEC_OUTPUTS, matvecText } from "./matvec.ts";
import type { KernelFeatures, ProductKind } from "./product.ts";
import { TILE_OUTPUTS, tileRows, tileText } from "./tile.ts";

/** Rows that a workgroup of the kernel for few rows takes, and the most rows of steps that it is used for. */
const MATVECS = [
  { nRows: 1, maxRows: 1 },
  { nRows: 4, maxRows: 8 },
] as const;
/** Likewise rows that a thread of the kernel for many rows takes. */
const TILES = [
  { rowsPerThread: 4, maxRows: 32 },
  { rowsPerThread: 8, maxRows: Infinity },
] as const;

/**
 * The kernels of a product from few rows to many; all give the same bits. Operands are `w` in vec4u, `x`, and those of
 * product-end.ts; scalars `n_in` and `n_out`, and those of product-end.ts.
 */
export function productVariants(kind: ProductKind, features: KernelFeatures): KernelVariant[] {
  const extensions = features.subgroupThreads === 0 ? [] : ["subgroups"];
  return [
    ...MATVECS.map(({ nRows, maxRows }) => ({
      maxRows,
      rowsPerGroup: nRows,
      extensions,
      text: matvecText(kind, features, nRows),
    })),
    ...TILES.map(({ rowsPerThread, maxRows }) => ({
      maxRows,
      rowsPerGroup: tileRows(rowsPerThread),
      text: tileText(kind, features, rowsPerThread),
    })),
  ];
}

/** Workgroups that so many outputs take, for each variant. */
export function productGroups(nOut: number): number[] {
  return [
    ...MATVECS.map(() => Math.ceil(nOut / MATVEC_OUTPUTS)),
    ...TILES.map(() => Math.ceil(nOut / TILE_OUTPUTS)),
  ];
}
