// Which object of a .pth file is the dictionary of weights, and what else such files hold: states, whole training runs,
// weights already converted for the pip package's own use.

import { FormatError, UnsupportedError } from "../../core/errors.ts";
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
/** Keys that ChatRWKV's `RWKV(..., convert_and_save_and_exit=...)` adds. */
const CONVERTED_KEYS = ["_strategy", "_version"];
const NAMES_SHOWN = 5;

/**
 * The tensors of the dictionary, by name, in file order. Entries that are no tensors are left out: trainers put scalars
 * beside the weights.
 * @throws UnsupportedError for a saved state or weights in converted form
 * @throws FormatError if there is no dictionary of tensors
 */
export function findTensors(top: PickleValue, sourceName: string): ReadonlyMap<string, PickleTensor> {
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
  if (CONVERTED_KEYS.some((key) => dict.entries.has(key))) {
    throw new UnsupportedError(
      `${sourceName}: these weights were converted for one strategy of the Python package (the key "_strategy" or ` +
        `"_version" says so): transposed, rescaled or rounded. Use the original .pth file they were made from.`,
    );
  }
  const tensors = new Map([...dict.entries].filter(isNamedTensor));
  if (tensors.size > MAX_TENSORS) {
    throw new FormatError(
      `${sourceName}: the file names ${tensors.size} tensors; at most ${MAX_TENSORS} are expected of a model. ` +
        SAVE_WEIGHTS_ALONE,
    );
  }
  if (tensors.size > 0) return tensors;
  const names = [...top.entries.keys()].slice(0, NAMES_SHOWN).map(describeValue).join(", ");
  throw new FormatError(
    `${sourceName}: expected a dictionary of tensors, found one of ${top.entries.size} entries without any` +
      `${names === "" ? "" : ` (${names})`}. ${SAVE_WEIGHTS_ALONE}`,
  );
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
