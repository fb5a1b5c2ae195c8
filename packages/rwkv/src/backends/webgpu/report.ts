// What the dispatches of a program compute in decode, and how much each moves.

import type { KernelCall } from "./kernels/kernel.ts";

export interface DispatchReport {
  /** The operations and their destinations. */
  readonly label: string;
  /** Bytes of matrices that a step reads, whatever its rows. */
  readonly matrixBytes: number;
  /** Those of them that steps of few rows read only as far as the inputs that they are multiplied with are not zero. */
  readonly sparseBytes: number;
  /** Bytes of vectors, rows and states that a step of one row reads and writes, each counted once. */
  readonly otherBytes: number;
}

/** The dispatches of a step in decode. */
export function dispatchReport(calls: readonly KernelCall[]): DispatchReport[] {
  return calls
    .filter(({ steps }) => steps !== "longer runs")
    .map(({ label, traffic: { matrices, sparse, others } }) => ({
      label,
      matrixBytes: matrices,
      sparseBytes: sparse,
      otherBytes: others,
    }));
}
