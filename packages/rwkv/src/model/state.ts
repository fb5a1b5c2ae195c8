// The state of a sequence: which tensors it has, in which order and where in the block, and how a tuned initial state
// (`time_state`) becomes such a block. The order is that of the official `rwkv` package, layer by layer.

import { byteLengthOf, countElements, isWeightDType } from "../core/dtype.ts";
import { decodeToF32 } from "../core/decode.ts";
import { FormatError, UnsupportedError } from "../core/errors.ts";
import type { Checkpoint } from "../formats/checkpoint.ts";
import type { ModelConfig } from "./config.ts";
import type { StateOrientation, TimeState } from "./weights/canonical.ts";
import { wrapperOf } from "./weights/official.ts";
import { viewOf, type TensorView } from "./weights/view.ts";

/** One part of a state block. */
export interface StateTensor {
  /** `blocks.<layer>.` and then `attShift`, `wkv` (or v4's `aa`, `bb`, `pp`), `ffnShift`. */
  readonly name: string;
  readonly shape: readonly number[];
  /** Of its first element in the block, in elements. */
  readonly offset: number;
  /** What every element is before the first token. */
  readonly initial: number;
}

export interface StateLayout {
  readonly tensors: readonly StateTensor[];
  readonly nElements: number;
}

/** Stands for the exponent of nothing; -Infinity would give NaN in differences. */
const INITIAL_MAX_EXPONENT = -1e30;

/**
 * Layout of one sequence's state. `wkv` is `[H, N, N]`: key's index before the value's in versions 5 and 6, after it
 * in version 7.
 */
export function stateLayout(c: ModelConfig): StateLayout {
  const tensors: StateTensor[] = [];
  let offset = 0;
  const add = (name: string, shape: readonly number[], initial = 0): void => {
    tensors.push({ name, shape, offset, initial });
    offset += countElements(shape);
  };
  for (let i = 0; i < c.nLayer; i++) {
    add(`blocks.${i}.attShift`, [c.nEmbd]);
    if (c.heads === null || c.headSize === null) {
      add(`blocks.${i}.aa`, [c.nAtt]);
      add(`blocks.${i}.bb`, [c.nAtt]);
      add(`blocks.${i}.pp`, [c.nAtt], INITIAL_MAX_EXPONENT);
    } else {
      add(`blocks.${i}.wkv`, [c.heads, c.headSize, c.headSize]);
    }
    add(`blocks.${i}.ffnShift`, [c.nEmbd]);
  }
  return { tensors, nElements: offset };
}

export interface TunedStateOptions {
  /**
   * Order of the last two dimensions in the file. Default: `value-key` for .pth files, as the trainers write;
   * `key-value` for safetensors, as web-rwkv's converter writes. RWKV-LM-RLHF's fla mode writes .pth in `key-value`.
   */
  readonly orientation?: StateOrientation;
}

/**
 * Reads a state-tuned checkpoint: `blocks.<i>.att.time_state`, `[H, N, N]`, for every layer; other tensors are not
 * looked at.
 * @returns a full state block of `stateLayout(config)`, token shifts at zero
 * @throws FormatError if a layer is missing or the shapes are those of another model
 * @throws UnsupportedError for v4, which has no such state
 */
export async function tunedState(
  checkpoint: Checkpoint,
  config: ModelConfig,
  options: TunedStateOptions = {},
  signal?: AbortSignal,
): Promise<Float32Array> {
  const wrapper = wrapperOf([...checkpoint.tensors.keys()]);
  const layers: TensorView[] = [];
  for (let i = 0; i < config.nLayer; i++) {
    const name = `${wrapper}blocks.${i}.att.time_state`;
    const tensor = checkpoint.tensors.get(name);
    if (tensor === undefined) {
      throw new FormatError(
        `${checkpoint.name}: tensor "${name}" is missing; a tuned state for this model has one in each of its ` +
          `${config.nLayer} layers. It belongs to another model, or is no tuned state.`,
      );
    }
    layers.push(viewOf(tensor));
  }
  if (checkpoint.tensors.has(`${wrapper}blocks.${config.nLayer}.att.time_state`)) {
    throw new FormatError(
      `${checkpoint.name}: holds states for more than the ${config.nLayer} layers of this model. It belongs to another one.`,
    );
  }
  const fallback = checkpoint.format === "safetensors" ? "key-value" : "value-key";
  return stateFromTimeState(
    checkpoint.name,
    { layers, orientation: options.orientation ?? fallback },
    config,
    signal,
  );
}

/** The initial state block out of the `time_state` tensors of every layer. */
export async function stateFromTimeState(
  source: string,
  { layers, orientation }: TimeState,
  config: ModelConfig,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const { heads, headSize } = config;
  if (heads === null || headSize === null) {
    throw new UnsupportedError(
      `${source}: RWKV-4 has no matrix state, so "time_state" has no meaning for it.`,
    );
  }
  const layout = stateLayout(config);
  const block = new Float32Array(layout.nElements);
  const native: StateOrientation = config.version === "7" ? "value-key" : "key-value";
  const shape = [heads, headSize, headSize];
  for (const [i, view] of layers.entries()) {
    if (!isWeightDType(view.dtype) || view.shape.join() !== shape.join()) {
      throw new FormatError(
        `${source}: tensor "${view.fileName}" is ${view.dtype} [${view.shape.join(", ")}], but this model's state is ` +
          `[${shape.join(", ")}]. The state belongs to another model.`,
      );
    }
    const bytes = new Uint8Array(byteLengthOf(view.dtype, shape));
    await view.read(bytes, signal);
    const { offset } = layout.tensors.find(({ name }) => name === `blocks.${i}.wkv`)!;
    const wkv = block.subarray(offset, offset + countElements(shape));
    decodeToF32(view.dtype, bytes, wkv);
    if (orientation !== native) transposeHeads(wkv, headSize);
  }
  return block;
}

function transposeHeads(wkv: Float32Array, headSize: number): void {
  for (let head = 0; head < wkv.length; head += headSize * headSize) {
    for (let i = 0; i < headSize; i++) {
      for (let j = 0; j < i; j++) {
        const a = head + i * headSize + j;
        const b = head + j * headSize + i;
        const kept = wkv[a]!;
        wkv[a] = wkv[b]!;
        wkv[b] = kept;
      }
    }
  }
}
