// Which kernel multiplies by a matrix, by the number of rows of the step.

import { COLUMNS_OUTPUTS, columnsText } from "./columns.ts";
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
 * product-end.ts; scalars `n_in` and `n_out`, and those of product-end.ts. Where zeros are skipped there are also the operand
 * `counts`, of each group of rows the inputs seen and those not zero, and the scalar `counts_inputs`, whether to count.
 */
export function productVariants(kind: ProductKind, features: KernelFeatures): KernelVariant[] {
  const extensions = features.subgroupThreads === 0 || kind.isSparse ? [] : ["subgroups"];
  const fewRowsText = kind.isSparse ? columnsText : matvecText;
  return [
    ...MATVECS.map(({ nRows, maxRows }) => ({
      maxRows,
      rowsPerGroup: nRows,
      extensions,
      text: fewRowsText(kind, features, nRows),
    })),
    ...TILES.map(({ rowsPerThread, maxRows }) => ({
      maxRows,
      rowsPerGroup: tileRows(rowsPerThread),
      text: tileText(kind, features, rowsPerThread),
    })),
  ];
}

/** Most groups of rows that a kernel for few rows has. */
export const MAX_ROW_GROUPS = Math.max(...MATVECS.map(({ nRows, maxRows }) => maxRows / nRows));

/** Workgroups that so many outputs take, for each variant. */
export function productGroups(nOut: number, isSparse: boolean): number[] {
  const fewRowsOutputs = isSparse ? COLUMNS_OUTPUTS : MATVEC_OUTPUTS;
  return [
    ...MATVECS.map(() => Math.ceil(nOut / fewRowsOutputs)),
    ...TILES.map(() => Math.ceil(nOut / TILE_OUTPUTS)),
  ];
}
