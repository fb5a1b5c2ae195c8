// From the tensors of a file to the weights of a model: recognises the naming scheme, the version and the sizes, checks
// every shape, and turns each tensor into its canonical orientation when it is read. After this no one needs to know
// where a model came from.

import type { FilePlace, ReadPart } from "../../core/byte-source.ts";
import { byteLengthOf, countElements, isWeightDType, type WeightDType } from "../../core/dtype.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import type { Checkpoint, PackedBytes } from "../../formats/checkpoint.ts";
import { detectConfig, type ModelConfig } from "../config.ts";
import { convertedScheme, isConverted } from "./converted.ts";
import { describeExperiment, findExperiment } from "./experimental.ts";
import { fla6Scheme, fla7Scheme, transformers7Scheme } from "./fla.ts";
import { ggufScheme } from "./gguf.ts";
import { officialScheme } from "./official.ts";
import { checkConfig, packedScheme } from "./packed.ts";
import { rwkvCppScheme } from "./rwkv-cpp.ts";
import { statedOrientation, type StateOrientation } from "./orientation.ts";
import type { SchemeResult } from "./scheme.ts";
import { weightRules } from "./tables.ts";
import { matrixShape, transposed, withoutUnits, type TensorView, type WeightForm } from "./view.ts";
import type { WeightRule } from "./visitor.ts";

/** One weight of a model, read when asked. */
export interface CanonicalWeight {
  /** Official name; the five pieces of v6's fused shift maps end in `.w`, `.k`, `.v`, `.r`, `.g`. */
  readonly name: string;
  /** The name in the file, for messages. */
  readonly fileName: string;
  readonly rule: WeightRule;
  readonly dtype: WeightDType;
  /** `[n]` for vectors, `[out, in]` for matrices. */
  readonly shape: readonly number[];
  readonly form: WeightForm;
  readonly byteLength: number;
  /** Where a file of this machine has just the bytes that `read` delivers. */
  readonly place: FilePlace | undefined;
  /** Fills `target`, of `byteLength` bytes, row-major in `dtype`. */
  read(target: Uint8Array, signal?: AbortSignal): Promise<void>;
  /** Fills `target` with bytes of what `read` delivers, from `offset` on; absent where only all of it can be read. */
  readonly readPart?: ReadPart | undefined;
  /** The same elements as the file has them, in the packed format. */
  readonly packed?: PackedBytes | undefined;
}

export interface CanonicalWeights {
  /** What messages call the checkpoint. */
  readonly source: string;
  readonly config: ModelConfig;
  /** By official name, layer by layer. */
  readonly tensors: ReadonlyMap<string, CanonicalWeight>;
  /** P > 0 if the residual weights of layer i were divided by 2^floor(i / P); the forward pass multiplies back. */
  readonly rescaleEveryNLayers: number;
  /** A tuned initial state merged into the checkpoint: `[H, N, N]` of each layer. */
  readonly timeState: TimeState | null;
}

export interface TimeState {
  readonly layers: readonly TensorView[];
  readonly orientation: StateOrientation;
}

/**
 * @throws FormatError for a missing tensor or a shape that does not fit, with its name and what was expected
 * @throws UnsupportedError for experimental variants and tensors that nothing here uses
 */
export function canonicalWeights(checkpoint: Checkpoint): CanonicalWeights {
  const source = checkpoint.name;
  refuseTunedState(checkpoint);
  const scheme = applyScheme(checkpoint);
  const tensors = new Map(scheme.tensors);
  refuseExperiments(source, tensors);
  const config = detectConfig(source, tensors);
  if (checkpoint.format === "packed") checkConfig(checkpoint, config);
  if (!config.hasLn0 && !scheme.mayLackLn0) {
    throw new FormatError(
      `${source}: tensor "blocks.0.ln0.weight" is missing. It may have been saved by the rwkv package after conversion ` +
        `for one strategy: use the original file.`,
    );
  }
  const orientation = statedOrientation(checkpoint) ?? (scheme.isStateTransposed ? "key-value" : "value-key");
  const timeState = takeTimeState(source, tensors, config, orientation);
  const weights = new Map<string, CanonicalWeight>();
  for (const rule of weightRules(config)) {
    const view = tensors.get(rule.name);
    if (view === undefined) throw missing(source, rule, scheme.tensors);
    weights.set(rule.name, canonicalWeight(source, rule, view));
    tensors.delete(rule.name);
  }
  refuseUnused(source, tensors, config);
  return { source, config, tensors: weights, rescaleEveryNLayers: scheme.rescaleEveryNLayers, timeState };
}

function applyScheme(checkpoint: Checkpoint): SchemeResult {
  const { tensors, format, name } = checkpoint;
  if (format === "gguf") return ggufScheme(checkpoint);
  if (format === "rwkv.cpp") return rwkvCppScheme(checkpoint);
  if (format === "packed") return packedScheme(checkpoint);
  if (isConverted(checkpoint)) return convertedScheme(checkpoint);
  if (tensors.has("model.layers.0.attn.r_proj.weight")) return fla7Scheme(checkpoint);
  if (tensors.has("model.layers.0.attn.r_proj.linear.weight")) return fla6Scheme(checkpoint);
  if (tensors.has("model.layers.0.linear_attn.r_k")) return transformers7Scheme(checkpoint);
  for (const tensorName of tensors.keys()) {
    if (!tensorName.startsWith("base_model.model.")) continue;
    throw new UnsupportedError(
      `${name}: tensor "${tensorName}" belongs to a PEFT adapter, which is not a model. Load the base model it was made for.`,
    );
  }
  return officialScheme(checkpoint);
}

function refuseTunedState({ name, tensors }: Checkpoint): void {
  if (tensors.size === 0) return;
  for (const tensorName of tensors.keys()) if (!tensorName.endsWith(".time_state")) return;
  throw new UnsupportedError(
    `${name}: holds nothing but "time_state" tensors: it is a tuned initial state, not a model. ` +
      `Load the model it was made for and start a session from this state.`,
  );
}

function refuseExperiments(source: string, tensors: ReadonlyMap<string, TensorView>): void {
  const isVersion4 = tensors.has("blocks.0.att.time_decay") && !tensors.has("blocks.0.att.ln_x.weight");
  const names = [...tensors.keys()].filter((name) => !(isVersion4 && /^blocks\.0\.pos_emb_[xy]$/.test(name)));
  const found = findExperiment(names);
  if (found === null) return;
  throw new UnsupportedError(
    `${source}: tensor "${tensors.get(found.name)!.fileName}" belongs to ${found.what}, which is not supported. ` +
      `Supported are the released RWKV 4, 5, 6 and 7 models.`,
  );
}

function takeTimeState(
  source: string,
  tensors: Map<string, TensorView>,
  config: ModelConfig,
  orientation: StateOrientation,
): TimeState | null {
  const layers: TensorView[] = [];
  for (let i = 0; i < config.nLayer; i++) {
    const name = `blocks.${i}.att.time_state`;
    const view = tensors.get(name);
    if (view === undefined) continue;
    tensors.delete(name);
    layers.push(view);
  }
  if (layers.length === 0) return null;
  if (layers.length !== config.nLayer) {
    throw new FormatError(
      `${source}: only ${layers.length} of ${config.nLayer} layers have a "time_state". The file is incomplete: download it again.`,
    );
  }
  return { layers, orientation };
}

/**
 * The weight of a rule out of the tensor that the scheme found for it.
 * @throws FormatError if its shape is another, UnsupportedError if it holds no weights
 */
export function canonicalWeight(source: string, rule: WeightRule, view: TensorView): CanonicalWeight {
  const { dtype } = view;
  if (!isWeightDType(dtype)) {
    throw new UnsupportedError(
      `${source}: tensor "${view.fileName}" (${rule.name}) holds ${dtype} numbers, which are no weights this engine knows. ` +
        `Convert the model to f32, f16 or bf16.`,
    );
  }
  const oriented = orient(source, rule, view);
  return {
    name: rule.name,
    fileName: view.fileName,
    rule,
    dtype,
    shape: rule.shape,
    form: view.form,
    byteLength: byteLengthOf(dtype, rule.shape),
    place: oriented.place,
    read: (target, signal) => oriented.read(target, signal),
    readPart: oriented.readPart,
    packed: oriented.packed,
  };
}

function orient(source: string, rule: WeightRule, view: TensorView): TensorView {
  switch (rule.kind) {
    case "vector":
    case "position": {
      const found = withoutUnits(view.shape);
      const isFlat = isSameShape(found, withoutUnits(rule.shape));
      if (isFlat || isSameShape(found, withoutUnits(rule.officialShape))) return view;
      break;
    }
    case "matrix":
    case "embedding":
      if (isSameShape(matrixShape(view.shape), rule.shape)) return view;
      break;
    case "loraDown":
    case "loraUp": {
      const shape = matrixShape(view.shape);
      const isOfficial = isSameShape(shape, rule.officialShape);
      const isOriented = isSameShape(shape, rule.shape);
      // a square one is taken for official, where the scheme leaves it open
      if (isOfficial && view.loraOrder !== "out-in")
        return transposed({ ...view, shape: rule.officialShape });
      if (isOriented && view.loraOrder !== "in-out") return view;
    }
  }
  throw new FormatError(
    `${source}: tensor "${view.fileName}" (${rule.name}) has shape [${view.shape.join(", ")}], but the first layer and ` +
      `the embedding call for [${rule.officialShape.join(", ")}]. The file is damaged or of an unknown variant.`,
  );
}

function isSameShape(a: readonly number[] | null, b: readonly number[]): boolean {
  return a?.length === b.length && a.every((n, i) => n === b[i]);
}

function missing(source: string, rule: WeightRule, tensors: ReadonlyMap<string, TensorView>): FormatError {
  const inFirstLayer = tensors.get(rule.name.replace(/^blocks\.\d+\./, "blocks.0."));
  const example = inFirstLayer === undefined ? "" : ` (layer 0 has it as "${inFirstLayer.fileName}")`;
  return new FormatError(
    `${source}: tensor "${rule.name}" of shape [${rule.officialShape.join(", ")}] is missing${example}. ` +
      `The file is incomplete or of an unknown variant: download it again, with all its parts.`,
  );
}

/** Every tensor must have a use: one left over may mean another model than was detected. */
function refuseUnused(source: string, tensors: ReadonlyMap<string, TensorView>, config: ModelConfig): void {
  const unused: string[] = [];
  for (const [name, view] of tensors) {
    if (config.version === "7" && /^blocks\.0\.att\.v[012]$/.test(name)) continue; // dummies
    if (countElements(view.shape) === 1) continue; // counters and flags of training programs
    const what = describeExperiment(name);
    unused.push(what === null ? `"${view.fileName}"` : `"${view.fileName}" (${what})`);
  }
  if (unused.length === 0) return;
  const more = unused.length > 8 ? ` and ${unused.length - 8} more` : "";
  throw new UnsupportedError(
    `${source}: looks like RWKV ${config.version}, but has tensors that RWKV ${config.version} has no use for: ` +
      `${unused.slice(0, 8).join(", ")}${more}. It is probably an experimental variant, which is not supported.`,
  );
}
