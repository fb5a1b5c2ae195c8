// Writes a PyTorch checkpoint, .pth: a zip archive with the pickle of a dictionary of tensors, and the elements of each in an
// entry of its own. torch.load, with weights_only too, and the official programs read it. Format: torch/serialization.py.

import type { ByteSink } from "../../core/byte-sink.ts";
import { UsageError } from "../../core/errors.ts";
import type { CheckpointTensor } from "../checkpoint.ts";
import { quoted } from "../range-tensor.ts";
import { checkTensors, tensorBuffer } from "../writing.ts";
import { isStorageDType, pickleTensors, type PickledTensor } from "./pickler.ts";
import { ZipWriter } from "./zip-writer.ts";

/** The folder inside the archive that everything is in. */
const ROOT = "archive";
/** Of the archive's own format, which PyTorch asks for. */
const VERSION = "3\n";

/**
 * Writes a `.pth` file. One tensor is in memory at a time, in a buffer of the largest one's length. Tensors keep their
 * order and are aligned to 64 bytes.
 * @throws UsageError for quantised or repeated tensors, before anything is written
 * @throws DeviceError if there is no memory for the largest tensor, before anything is written
 */
export async function writePth(sink: ByteSink, tensors: readonly CheckpointTensor[]): Promise<void> {
  checkTensors(".pth", tensors);
  const pickled = tensors.map(({ name, dtype, shape }, i): PickledTensor => {
    if (isStorageDType(dtype)) return { name, dtype, shape, key: String(i) };
    throw new UsageError(
      `Tensor ${quoted(name)} cannot be written as .pth: the format has no ${dtype}. Convert it to f16, bf16 or f32 first.`,
    );
  });
  const buffer = tensorBuffer(tensors);
  const encoder = new TextEncoder();
  const zip = new ZipWriter(sink);
  await zip.add(`${ROOT}/data.pkl`, pickleTensors(pickled));
  await zip.add(`${ROOT}/byteorder`, encoder.encode("little"));
  for (const [i, tensor] of tensors.entries()) {
    const bytes = buffer.subarray(0, tensor.byteLength);
    await tensor.read(bytes);
    await zip.add(`${ROOT}/data/${i}`, bytes);
  }
  await zip.add(`${ROOT}/version`, encoder.encode(VERSION));
  await zip.finish();
}
