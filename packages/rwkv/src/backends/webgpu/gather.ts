// Which matrices are to lie in one buffer, so that one dispatch may work on all of them.

import type { Tensor } from "../../ops/tensor.ts";
import type { FusedCommand } from "./fusion.ts";
import type { Matrix, MatrixPart } from "./weights.ts";

/**
 * Lists of two and more matrices: of one type and form, used by the same command, and together not longer than a kernel can see. A
 * matrix is in one list at most, and in none if it is cut.
 * @param maxBytes - of a buffer
 */
export function matricesToGather(
  commands: readonly FusedCommand[],
  matrixOf: (tensor: Tensor) => Matrix,
  maxBytes: number,
): Tensor[][] {
  const seen = new Set<Tensor>();
  const buffers = commands.flatMap((command) => {
    const open: { first: Matrix; tensors: Tensor[]; byteLength: number }[] = [];
    for (const { w } of command.op === "products" ? command.products : []) {
      const first = matrixOf(w);
      const { parts } = first;
      if (seen.has(w) || parts.length > 1) continue;
      seen.add(w);
      const byteLength = gatheredBytes(parts[0]!);
      const buffer = open.find(
        (other) =>
          other.first.dtype === first.dtype &&
          other.first.isSparse === first.isSparse &&
          other.byteLength + byteLength <= maxBytes,
      );
      if (buffer === undefined) {
        open.push({ first, tensors: [w], byteLength });
      } else {
        buffer.tensors.push(w);
        buffer.byteLength += byteLength;
      }
    }
    return open.map(({ tensors }) => tensors);
  });
  return buffers.filter(({ length }) => length > 1);
}

/** What a matrix takes of a buffer with others: kernels may read rows in vectors of four words. */
export function gatheredBytes({ byteLength }: MatrixPart): number {
  return Math.ceil(byteLength / 16) * 16;
}
