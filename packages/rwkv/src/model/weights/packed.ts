// The scheme of packed files: official names of canonical weights, low-rank factors [out, in], and what the weights mean
// in the metadata. Written and read here, so that the two cannot disagree.
//
//   "rwkv.config"                 JSON of the model's sizes, for programs that do not derive them from shapes
//   "rwkv.forms"                  JSON, name -> form of each vector that is not raw (view.ts)
//   "rwkv.rescaleEveryNLayers"    as `CanonicalWeights` has it

import { FormatError } from "../../core/errors.ts";
import type { Checkpoint } from "../../formats/checkpoint.ts";
import type { ModelConfig } from "../config.ts";
import type { CanonicalWeights } from "./canonical.ts";
import { addView, type SchemeResult } from "./scheme.ts";
import { viewOf, type TensorView, type WeightForm } from "./view.ts";

const CONFIG_KEY = "rwkv.config";
const FORMS_KEY = "rwkv.forms";
const RESCALE_KEY = "rwkv.rescaleEveryNLayers";

/** More than any model has layers. */
const MAX_RESCALE_INTERVAL = 65_536;

/** The metadata of a packed file of these weights. */
export function packedMetadata({
  config,
  tensors,
  rescaleEveryNLayers,
}: CanonicalWeights): Map<string, string> {
  const forms = [...tensors.values()]
    .filter(({ form }) => form !== "raw")
    .map(({ name, form }) => [name, form]);
  return new Map([
    [CONFIG_KEY, JSON.stringify(config)],
    [FORMS_KEY, JSON.stringify(Object.fromEntries(forms))],
    [RESCALE_KEY, String(rescaleEveryNLayers)],
  ]);
}

/** @throws FormatError for metadata that does not have this form */
export function packedScheme(checkpoint: Checkpoint): SchemeResult {
  const forms = parseForms(checkpoint);
  const tensors = new Map<string, TensorView>();
  for (const [name, tensor] of checkpoint.tensors) {
    addView(checkpoint, tensors, name, viewOf(tensor, "out-in", forms.get(name) ?? "raw"));
  }
  return {
    tensors,
    mayLackLn0: true,
    isStateTransposed: false,
    rescaleEveryNLayers: parseRescale(checkpoint),
  };
}

function parseForms(checkpoint: Checkpoint): Map<string, WeightForm> {
  const forms = new Map<string, WeightForm>();
  const json = parseJson(checkpoint, FORMS_KEY);
  for (const [name, form] of Object.entries(json)) {
    if (form !== "applied" && form !== "logarithm") {
      throw wrong(checkpoint, FORMS_KEY, `gives "${name}" a form other than "applied" and "logarithm"`);
    }
    forms.set(name, form);
  }
  return forms;
}

function parseRescale(checkpoint: Checkpoint): number {
  const text = checkpoint.metadata.get(RESCALE_KEY);
  const interval = typeof text === "string" && /^\d{1,5}$/.test(text) ? Number(text) : -1;
  if (interval >= 0 && interval <= MAX_RESCALE_INTERVAL) return interval;
  throw wrong(checkpoint, RESCALE_KEY, "is no number of layers or 0");
}

/** @throws FormatError unless the metadata names the sizes that the shapes have */
export function checkConfig(checkpoint: Checkpoint, config: ModelConfig): void {
  const stated = parseJson(checkpoint, CONFIG_KEY);
  for (const [key, value] of Object.entries(config)) {
    const found = JSON.stringify(stated[key] ?? "nothing");
    if (found === JSON.stringify(value ?? "nothing")) continue;
    throw wrong(
      checkpoint,
      CONFIG_KEY,
      `has ${key} ${found}, but the tensors make it ${JSON.stringify(value)}`,
    );
  }
}

function parseJson(checkpoint: Checkpoint, key: string): Readonly<Record<string, unknown>> {
  const text = checkpoint.metadata.get(key);
  let json: unknown;
  try {
    json = JSON.parse(typeof text === "string" ? text : "");
  } catch (cause) {
    throw wrong(checkpoint, key, "is missing or no JSON", { cause });
  }
  if (typeof json === "object" && json !== null && !Array.isArray(json))
    return json as Record<string, unknown>;
  throw wrong(checkpoint, key, "is no JSON object");
}

function wrong({ name }: Checkpoint, key: string, fault: string, options?: ErrorOptions): FormatError {
  return new FormatError(
    `${name}: metadata "${key}" ${fault}. The file is damaged: make or download it again.`,
    options,
  );
}
