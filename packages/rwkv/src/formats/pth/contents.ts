// Which object of a .pth file is the dictionary of weights, and what else such files hold: states, whole training runs,
// weights that the Python package has converted for its own use.

import { FormatError, UnsupportedError } from "../../core/errors.ts";
import type { MetadataValue } from "../checkpoint.ts";
import { SAVE_WEIGHTS_ALONE } from "./globals.ts";
import { MAX_TENSORS } from "./limits.ts";
import {
  describeValue,
  isKind,
  type PickleDict,
  type PickleTensor,
  type PickleValue,
} from "./pickle-values.ts";

/** Keys under which trainers keep the weights beside other things. */
const WRAPPERS = ["state_dict", "model"];
/** Keys that the Python package's `RWKV(..., convert_and_save_and_exit=...)` adds: how it changed the weights. */
const CONVERTED_KEYS = ["_strategy", "_version", "_rescale_layer"];
const NAMES_SHOWN = 5;

/** What is used of a dictionary of weights. */
export interface PthContents {
  /** By name, in file order. */
  readonly tensors: ReadonlyMap<string, PickleTensor>;
  /** What the Python package noted of its conversion; empty for all other files. */
  readonly metadata: ReadonlyMap<string, MetadataValue>;
}

/**
 * The tensors of the dictionary. Entries that are no tensors are left out: trainers put scalars beside the weights.
 * @throws UnsupportedError for a saved state
 * @throws FormatError if there is no dictionary of tensors
 */
export function findTensors(top: PickleValue, sourceName: string): PthContents {
  if (isKind(top, "list") && top.items.length > 0 && top.items.every((item) => isKind(item, "tensor"))) {
    throw new UnsupportedError(
      `${sourceName}: this is a list of ${top.items.length} tensors, such as a state saved by the Python package, expected ` +
        `a model's weights by name. Give the model's own .pth file.`,
    );
  }
  if (!isKind(top, "dict")) {
    throw new FormatError(
      `${sourceName}: expected a dictionary of tensors, found ${describeValue(top)}. ${SAVE_WEIGHTS_ALONE}`,
    );
  }
  const dict = weightsOf(top);
  const tensors = new Map([...dict.entries].filter(isNamedTensor));
  if (tensors.size > MAX_TENSORS) {
    throw new FormatError(
      `${sourceName}: the file names ${tensors.size} tensors; at most ${MAX_TENSORS} are expected of a model. ` +
        SAVE_WEIGHTS_ALONE,
    );
  }
  if (tensors.size > 0) return { tensors, metadata: conversionOf(dict) };
  const names = [...top.entries.keys()].slice(0, NAMES_SHOWN).map(describeValue).join(", ");
  throw new FormatError(
    `${sourceName}: expected a dictionary of tensors, found one of ${top.entries.size} entries without any` +
      `${names === "" ? "" : ` (${names})`}. ${SAVE_WEIGHTS_ALONE}`,
  );
}

function conversionOf(dict: PickleDict): Map<string, MetadataValue> {
  const metadata = new Map<string, MetadataValue>();
  for (const key of CONVERTED_KEYS) {
    const value = dict.entries.get(key);
    if (typeof value === "string" || typeof value === "number") metadata.set(key, value);
  }
  return metadata;
}

/** The dictionary itself, or the one inside it that holds the tensors. */
function weightsOf(top: PickleDict): PickleDict {
  for (const key of WRAPPERS) {
    const inner = top.entries.get(key);
    if (isKind(inner, "dict") && [...inner.entries].some(isNamedTensor)) return inner;
  }
  return top;
}

function isNamedTensor(entry: [PickleValue, PickleValue]): entry is [string, PickleTensor] {
  return typeof entry[0] === "string" && isKind(entry[1], "tensor");
}
