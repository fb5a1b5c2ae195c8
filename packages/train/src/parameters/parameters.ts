// What is trained, and where its numbers lie in blocks that every thread computes alike from the same description:
// weights as files have them, weights as the forward pass uses them, gradients and moments. Hides that v4 and v5 store
// decays and shares in another form than they are used in.

import { UsageError } from "rwkv";
import { countElements, stateLayout, weightRules, type ModelConfig, type VectorMeaning } from "rwkv/model";

/** What `full`, `lora` and `state` training change. */
export type TrainedParts =
  | { readonly kind: "full" }
  | {
      readonly kind: "lora";
      readonly rank: number;
      readonly alpha: number;
      /** Whether vectors (x_*, k_*, norms, biases) are trained in full beside the adapters. */
      readonly withVectors: boolean;
    }
  | { readonly kind: "state" };

/** One tensor, trained or not. */
export interface Parameter {
  /** Official name of the model's tensor, `<matrix>.lora_A` and `.lora_B` without `.weight`, or `blocks.<i>.att.time_state`. */
  readonly name: string;
  /** `[out, in]` for matrices, `[rank, in]` and `[out, rank]` for A and B, `[H, N, N]` as the forward pass has states. */
  readonly shape: readonly number[];
  readonly nElements: number;
  /** How the forward pass uses a vector; see `VectorMeaning`. */
  readonly meaning: VectorMeaning;
  readonly repeat: number;
  readonly isTrained: boolean;
  /** Factor of the learning rate. */
  readonly rateFactor: number;
  /** Whether weight decay applies. */
  readonly decays: boolean;
  /** First element in the block of weights. */
  readonly offset: number;
  /** First element in the block of used weights, if that is another vector. */
  readonly usedOffset: number | null;
  /** First element in blocks of gradients and moments; null if not trained. */
  readonly gradientOffset: number | null;
}

/** All parameters of a training, and the lengths of their blocks. */
export interface ParameterTable {
  readonly parameters: readonly Parameter[];
  readonly byName: ReadonlyMap<string, Parameter>;
  readonly weightLength: number;
  readonly usedLength: number;
  readonly gradientLength: number;
}

/** The matrices that get adapters: receptance, key, value, gate and output of the time mix, both of the channel mix. */
const ADAPTED =
  /^blocks\.\d+\.(att\.(receptance|key|value|gate|output)|ffn\.(key|value|receptance))\.weight$/;

/** Elements to which every tensor is aligned: a cache line in f32. */
const ALIGNMENT = 16;

/** @throws UsageError for state training of RWKV-4, which has no matrix state */
export function parameterTable(config: ModelConfig, parts: TrainedParts): ParameterTable {
  const parameters: Parameter[] = [];
  let weightLength = 0;
  let usedLength = 0;
  let gradientLength = 0;
  const add = (
    name: string,
    shape: readonly number[],
    isTrained: boolean,
    meaning: VectorMeaning = "asStored",
    repeat = 1,
  ): void => {
    const nElements = countElements(shape);
    const isUsedAlike = (meaning === "asStored" || meaning === "bonus5") && repeat === 1;
    parameters.push({
      name,
      shape,
      nElements,
      meaning,
      repeat,
      isTrained,
      rateFactor: /\.att\.(w0|time_decay)$/.test(name) ? 2 : 1,
      decays: shape.filter((dimension) => dimension !== 1).length >= 2 && name.endsWith(".weight"),
      offset: weightLength,
      usedOffset: isUsedAlike ? null : usedLength,
      gradientOffset: isTrained ? gradientLength : null,
    });
    const aligned = (length: number): number => Math.ceil(length / ALIGNMENT) * ALIGNMENT;
    weightLength += aligned(nElements);
    if (!isUsedAlike) usedLength += aligned(nElements * repeat);
    if (isTrained) gradientLength += aligned(nElements * repeat);
  };

  for (const { name, kind, shape, meaning, repeat } of weightRules(config)) {
    const isVector = kind === "vector";
    const isTrained = parts.kind === "full" || (parts.kind === "lora" && parts.withVectors && isVector);
    add(name, shape, isTrained, meaning, repeat);
    if (parts.kind !== "lora" || !ADAPTED.test(name)) continue;
    const [nOut, nIn] = shape as readonly [number, number];
    const { down, up } = adapterNames(name);
    add(down, [parts.rank, nIn], true);
    add(up, [nOut, parts.rank], true);
  }
  if (parts.kind === "state") {
    if (config.heads === null) {
      throw new UsageError(
        "RWKV-4 has no matrix state to train. Train in full or with adapters, or take a model of version 5, 6 or 7.",
      );
    }
    for (const { name, shape } of stateLayout(config).tensors) {
      if (name.endsWith(".wkv")) add(timeStateName(name), shape, true);
    }
  }
  const byName = new Map(parameters.map((parameter) => [parameter.name, parameter]));
  return { parameters, byName, weightLength, usedLength, gradientLength };
}

/** Names of the two factors beside a matrix, as the RWKV trainers write them. */
export function adapterNames(matrix: string): { readonly down: string; readonly up: string } {
  const stem = matrix.replace(/\.weight$/, "");
  return { down: `${stem}.lora_A`, up: `${stem}.lora_B` };
}

/** The tensor of a tuned state from the name of the state, `blocks.<i>.wkv`. */
export function timeStateName(state: string): string {
  return state.replace(/\.wkv$/, ".att.time_state");
}
