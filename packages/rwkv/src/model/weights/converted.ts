// The scheme of files that the official Python package converted for itself (`convert_and_save_and_exit`): ln0 folded into
// the embedding, matrices transposed, decays and bonuses applied, residual matrices perhaps divided, and with a strategy
// such as "fp16i8" matrices in 8 bits ("mm8"). All of it is undone here. Source: the rwkv package 0.7 and 0.8, model.py.
//
//   mm8, [in, out]:  u8 w; f16 or f32 w_mx [out], w_rx [out], w_my [in, 1], w_ry [in, 1]
//                    weight = (w + 0.5) * ry * rx + my + mx, each step rounded to f32 as the package does on a CPU

import { decodeToF32 } from "../../core/decode.ts";
import {
  byteLengthOf,
  countElements,
  isQuantized,
  isWeightDType,
  type WeightDType,
} from "../../core/dtype.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import type { Checkpoint, CheckpointTensor } from "../../formats/checkpoint.ts";
import { addView, splitShiftMaps, type SchemeResult } from "./scheme.ts";
import { SHIFT_MAPS } from "./tables.ts";
import {
  MADE_BY_READ,
  matrixShape,
  reshaped,
  transposed,
  viewOf,
  withoutUnits,
  type TensorView,
} from "./view.ts";

const VERSION = "0.7";
/** Companions of a matrix in 8 bits, by what follows its name. */
const COMPANIONS = ["_mx", "_rx", "_my", "_ry"] as const;
/** Matrices that are stored transposed. */
const TRANSPOSED = /(\.(key|value|receptance|gate|output)|^head)\.weight$/;
/** Matrices whose outputs go to the residual stream. */
const RESIDUAL = /^blocks\.(\d+)\.(att\.output|ffn\.value)\.weight$/;
/** Halvings beyond which nothing is left of a weight; the package makes one every six layers. */
const MAX_HALVINGS = 64;

/** Whether the package wrote the file, as its own keys or its 8-bit matrices show. */
export function isConverted({ tensors, metadata }: Checkpoint): boolean {
  if (metadata.has("_strategy") || metadata.has("_version")) return true;
  return tensors.get("head.weight")?.dtype === "u8" || tensors.has("blocks.0.att.key.weight_mx");
}

/**
 * @throws UnsupportedError for another version of the package, or if it is not said by what matrices were divided
 * @throws FormatError if a matrix in 8 bits lacks its companions
 */
export function convertedScheme(checkpoint: Checkpoint): SchemeResult {
  const interval = rescaleInterval(checkpoint);
  const tensors = new Map<string, TensorView>();
  const isVersion4 = !checkpoint.tensors.has("blocks.0.att.ln_x.weight");
  const isVersion6 = checkpoint.tensors.has("blocks.0.att.time_maa_x");
  for (const [name, tensor] of checkpoint.tensors) {
    const companion = COMPANIONS.find((suffix) => name.endsWith(suffix));
    if (companion !== undefined && checkpoint.tensors.has(name.slice(0, -companion.length))) continue;
    if (TRANSPOSED.test(name)) {
      const view = tensor.dtype === "u8" ? mm8View(checkpoint, tensor) : transposed(viewOf(tensor));
      addView(checkpoint, tensors, name, multiplied(view, 2 ** halvings(checkpoint, name, interval)));
    } else if (name.endsWith(".att.time_decay")) {
      // applied but in v6, where it only changes its shape
      const view = isVersion6 ? reshaped(viewOf(tensor), [countElements(tensor.shape)]) : viewOf(tensor);
      addView(checkpoint, tensors, name, { ...view, form: isVersion6 ? "raw" : "applied" });
    } else if (name.endsWith(".att.time_first") && !isVersion4) {
      const renamed = name.replace("time_first", "time_faaaa");
      addView(checkpoint, tensors, renamed, { ...viewOf(tensor), form: isVersion6 ? "raw" : "applied" });
    } else {
      addView(checkpoint, tensors, name, viewOf(tensor, "in-out"));
    }
  }
  splitShiftMaps(checkpoint, tensors, SHIFT_MAPS);
  return { tensors, mayLackLn0: true, isStateTransposed: false, rescaleEveryNLayers: 0 };
}

function rescaleInterval({ name, metadata }: Checkpoint): number {
  const version = metadata.get("_version") ?? VERSION;
  if (version !== VERSION) {
    throw new UnsupportedError(
      `${name}: was converted for version ${JSON.stringify(String(version))} of the Python package, but "${VERSION}" is ` +
        `read. Use the original .pth file it was made from.`,
    );
  }
  // a safetensors file has texts only
  const interval = Number(metadata.get("_rescale_layer") ?? NaN);
  if (Number.isInteger(interval) && interval >= 0) return interval;
  throw new UnsupportedError(
    `${name}: was converted by the Python package, but the key "_rescale_layer", which says every how many layers matrices ` +
      `were divided by two, is missing or no number. Use the original .pth file it was made from.`,
  );
}

/** How often a matrix was divided by two. */
function halvings({ name }: Checkpoint, tensorName: string, interval: number): number {
  const layer = RESIDUAL.exec(tensorName)?.[1];
  if (interval === 0 || layer === undefined) return 0;
  const times = Math.floor(Number(layer) / interval);
  if (times <= MAX_HALVINGS) return times;
  throw new FormatError(
    `${name}: "_rescale_layer" of ${interval} means that tensor "${tensorName}" was divided by two ${times} times, which ` +
      `leaves nothing of it. The file is damaged: use the original .pth file.`,
  );
}

/** The view in f32 with every value multiplied; the view itself for 1. */
function multiplied(view: TensorView, factor: number): TensorView {
  if (factor === 1) return view;
  const { dtype } = view;
  if (!isWeightDType(dtype)) return view; // refused by its type later
  return {
    ...view,
    ...MADE_BY_READ,
    dtype: "f32",
    async read(target, signal) {
      const stored = new Uint8Array(byteLengthOf(dtype, view.shape));
      await view.read(stored, signal);
      const values = new Float32Array(countElements(view.shape));
      decodeToF32(dtype, stored, values);
      for (let i = 0; i < values.length; i++) values[i] = values[i]! * factor;
      target.set(new Uint8Array(values.buffer));
    },
  };
}

/** A matrix in 8 bits as f32 `[out, in]`. */
function mm8View(checkpoint: Checkpoint, tensor: CheckpointTensor): TensorView {
  const shape = matrixShape(tensor.shape);
  if (shape === null)
    throw wrong(checkpoint, tensor, `has shape [${tensor.shape.join(", ")}], which is no matrix`);
  const [nIn, nOut] = shape;
  const companions = COMPANIONS.map((suffix) => {
    const found = checkpoint.tensors.get(tensor.name + suffix);
    const length = suffix.endsWith("x") ? nOut : nIn;
    if (found === undefined)
      throw wrong(checkpoint, tensor, `is in 8 bits, but "${tensor.name}${suffix}" is missing`);
    const { dtype } = found;
    const isFloat = isWeightDType(dtype) && !isQuantized(dtype);
    const isFlat = withoutUnits(found.shape).length <= 1 && countElements(found.shape) === length;
    if (isFloat && isFlat) return { found, dtype, length };
    throw wrong(
      checkpoint,
      found,
      `should hold ${length} numbers, but is ${dtype} [${found.shape.join(", ")}]`,
    );
  });
  return {
    ...viewOf(tensor, "out-in"),
    ...MADE_BY_READ,
    dtype: "f32",
    shape: [nOut, nIn],
    async read(target, signal) {
      const quants = new Uint8Array(tensor.byteLength);
      await tensor.read(quants, signal);
      const read = companions.map(({ found, dtype, length }) => readFloats(found, dtype, length, signal));
      const [mx, rx, my, ry] = (await Promise.all(read)) as [
        Float32Array,
        Float32Array,
        Float32Array,
        Float32Array,
      ];
      const values = new Float32Array(nOut * nIn);
      const { fround } = Math;
      for (let i = 0; i < nIn; i++) {
        for (let o = 0; o < nOut; o++) {
          const scaled = fround(fround((quants[i * nOut + o]! + 0.5) * ry[i]!) * rx[o]!);
          values[o * nIn + i] = fround(scaled + my[i]!) + mx[o]!;
        }
      }
      target.set(new Uint8Array(values.buffer));
    },
  };
}

async function readFloats(
  tensor: CheckpointTensor,
  dtype: WeightDType,
  length: number,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const bytes = new Uint8Array(tensor.byteLength);
  await tensor.read(bytes, signal);
  const values = new Float32Array(length);
  decodeToF32(dtype, bytes, values);
  return values;
}

function wrong({ name }: Checkpoint, tensor: CheckpointTensor, fault: string): FormatError {
  return new FormatError(
    `${name}: tensor "${tensor.name}" ${fault}. Use the original .pth file it was made from.`,
  );
}
