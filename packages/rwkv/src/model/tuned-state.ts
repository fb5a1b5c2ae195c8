// Tuned initial states (`time_state`), as files hold them and as state blocks. Hides that files and versions differ in the
// order of a state's last two dimensions. Source: the training code of BlinkDL/RWKV-LM, web-rwkv's converter. RWKV-4 has no
// matrices and no published form: its files hold `[3, A]`, the vectors aa, bb and pp, in the same names.

import { byteLengthOf, countElements, isWeightDType } from "../core/dtype.ts";
import { decodeToF32 } from "../core/decode.ts";
import { FormatError, UsageError } from "../core/errors.ts";
import type { Checkpoint, CheckpointTensor } from "../formats/checkpoint.ts";
import type { ModelConfig } from "./config.ts";
import { stateLayout, type StateLayout } from "./state.ts";
import { recode } from "./values.ts";
import type { TimeState } from "./weights/canonical.ts";
import { wrapperOf } from "./weights/official.ts";
import { statedOrientation, type StateOrientation } from "./weights/orientation.ts";
import { viewOf, type TensorView } from "./weights/view.ts";

export interface TunedStateOptions {
  /**
   * Order of the last two dimensions in the file. Default: what the file says of itself; else `value-key` for .pth, as
   * trainers write, and `key-value` for safetensors, as web-rwkv's converter writes. RWKV-LM-RLHF's fla mode writes .pth
   * in `key-value`.
   */
  readonly orientation?: StateOrientation | undefined;
}

/**
 * Reads a state-tuned checkpoint: `blocks.<i>.att.time_state`, `[H, N, N]` or in v4 `[3, A]`, for every layer; other
 * tensors are not looked at.
 * @returns a full state block of `stateLayout(config)`, token shifts at zero
 * @throws FormatError if a layer is missing, or the shapes are those of another model
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
  const stated = options.orientation ?? statedOrientation(checkpoint);
  const orientation = stated ?? (checkpoint.format === "safetensors" ? "key-value" : "value-key");
  return stateFromTimeState(checkpoint.name, { layers, orientation }, config, signal);
}

/** The initial state block out of the `time_state` tensors of every layer. */
export async function stateFromTimeState(
  source: string,
  { layers, orientation }: TimeState,
  config: ModelConfig,
  signal?: AbortSignal,
): Promise<Float32Array> {
  const shape = timeStateShape(config);
  const layout = stateLayout(config);
  const block = new Float32Array(layout.nElements);
  for (const [i, view] of layers.entries()) {
    if (!isWeightDType(view.dtype) || view.shape.join() !== shape.join()) {
      throw new FormatError(
        `${source}: tensor "${view.fileName}" is ${view.dtype} [${view.shape.join(", ")}], but this model's state is ` +
          `[${shape.join(", ")}]. The state belongs to another model.`,
      );
    }
    const bytes = new Uint8Array(byteLengthOf(view.dtype, shape));
    await view.read(bytes, signal);
    const values = timeStateOf(block, layout, i, shape);
    decodeToF32(view.dtype, bytes, values);
    orient(values, config, orientation);
  }
  return block;
}

/**
 * The tensors of a file that holds a tuned state: `blocks.<i>.att.time_state`, `[H, N, N]` or in v4 `[3, A]`.
 * @param state - a whole state block of `stateLayout(config)`, not kept
 * @param orientation - of the last two dimensions of matrices in the file
 * @throws UsageError if the block has another length, holds token shifts, or a value that is not finite in `dtype`
 */
export function tunedStateTensors(
  config: ModelConfig,
  state: Float32Array,
  dtype: "f32" | "f16" | "bf16",
  orientation: StateOrientation,
): CheckpointTensor[] {
  const shape = timeStateShape(config);
  const layout = stateLayout(config);
  checkState(state, layout);
  return Array.from({ length: config.nLayer }, (_, i) => {
    const name = `blocks.${i}.att.time_state`;
    const values = timeStateOf(state, layout, i, shape).slice();
    orient(values, config, orientation);
    const bytes = new Uint8Array(byteLengthOf(dtype, shape));
    recode({ name, dtype: "f32", shape }, new Uint8Array(values.buffer), dtype, bytes);
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
  });
}

function checkState(state: Float32Array, layout: StateLayout): void {
  if (state.length !== layout.nElements) {
    throw new UsageError(
      `The state has ${state.length} numbers, but one of this model has ${layout.nElements} (model.stateLayout).`,
    );
  }
  const bad = state.findIndex((value) => !Number.isFinite(value));
  if (bad >= 0) {
    throw new UsageError(
      `The state holds ${state[bad]!} at element ${bad}; expected finite numbers. Tune it anew.`,
    );
  }
  for (const { name, offset, shape } of layout.tensors) {
    if (!name.endsWith("Shift")) continue;
    if (state.subarray(offset, offset + countElements(shape)).every((value) => value === 0)) continue;
    throw new UsageError(
      `The state holds a token shift ("${name}" is not zero), which a file of "time_state" tensors cannot: it is the state ` +
        `after a text. Save the session instead.`,
    );
  }
}

/** Of the tensor of a layer. */
export function timeStateShape({ heads, headSize, nAtt }: ModelConfig): readonly number[] {
  return heads === null || headSize === null ? [3, nAtt] : [heads, headSize, headSize];
}

/** What a layer's tensor holds, as a part of the block: wkv, or aa, bb and pp, which follow one another. */
function timeStateOf(
  block: Float32Array,
  layout: StateLayout,
  layer: number,
  shape: readonly number[],
): Float32Array {
  const names = [`blocks.${layer}.wkv`, `blocks.${layer}.aa`];
  const { offset } = layout.tensors.find(({ name }) => names.includes(name))!;
  return block.subarray(offset, offset + countElements(shape));
}

/** From the order of a state block to that of the file, or back. */
function orient(
  values: Float32Array,
  { version, headSize }: ModelConfig,
  orientation: StateOrientation,
): void {
  const native: StateOrientation = version === "7" ? "value-key" : "key-value";
  if (headSize !== null && orientation !== native) transposeHeads(values, headSize);
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
