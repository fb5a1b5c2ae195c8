// What backends have in common when they take a weight: its announced length is checked, and an order of bytes that a
// backend does not compute in is brought back into rows.

import { byteLengthOf } from "../core/dtype.ts";
import { ShapeError } from "../core/errors.ts";
import { layoutByteLength, unpackMatrix } from "../core/layout.ts";
import type { WeightUpload } from "./backend.ts";

/** @throws ShapeError if the announced bytes are not those of the shape */
export function checkUploadLength({ name, shape, dtype, layout = "rows", byteLength }: WeightUpload): void {
  const wanted = layout === "rows" ? byteLengthOf(dtype, shape) : layoutByteLength(layout, dtype, shape);
  if (byteLength === wanted) return;
  throw new ShapeError(
    `weight "${name}": [${shape.join(", ")}] in ${dtype} takes ${wanted} bytes, but the upload announces ${byteLength}.`,
  );
}

/**
 * Reads the bytes of a weight in rows, whatever order they come in.
 * @param roomFor - room for the bytes in that order, which is needed only meanwhile
 */
export async function readRows(
  upload: WeightUpload,
  rows: Uint8Array,
  signal?: AbortSignal,
  roomFor = (byteLength: number): Uint8Array => new Uint8Array(byteLength),
): Promise<void> {
  const { shape, dtype, layout = "rows", byteLength } = upload;
  if (layout === "rows") {
    await upload.read(rows, signal);
    return;
  }
  const packed = roomFor(byteLength);
  await upload.read(packed, signal);
  unpackMatrix(layout, dtype, shape, packed, rows);
}
