// The only classes and functions that the pickle of a checkpoint may name, and what using them means. Everything else is
// refused where it is named: unpickling never executes anything. Arguments are those of torch/_utils.py and of
// persistent_id in torch/serialization.py.

import type { DType } from "../../core/dtype.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import { MAX_RANK } from "./limits.ts";
import {
  describeValue,
  isCount,
  isKind,
  type PickleDict,
  type PickleGlobal,
  type PickleStorage,
  type PickleTensor,
  type PickleValue,
  type StorageDType,
} from "./pickle-values.ts";

/** What to do about a file with more in it than tensors. */
export const SAVE_WEIGHTS_ALONE = `Load it with PyTorch and save the weights alone: torch.save(model.state_dict(), "model.pth").`;

const STORAGE_CLASSES: ReadonlyMap<string, StorageDType> = new Map<string, StorageDType>([
  ["BFloat16Storage", "bf16"],
  ["HalfStorage", "f16"],
  ["FloatStorage", "f32"],
  ["DoubleStorage", "f64"],
  ["LongStorage", "i64"],
  ["IntStorage", "i32"],
  ["ShortStorage", "i16"],
  ["CharStorage", "i8"],
  ["ByteStorage", "u8"],
  ["BoolStorage", "bool"],
]);

/** The name of the storage class for elements of `dtype`; null if PyTorch has none. */
export function storageClassOf(dtype: DType): string | null {
  for (const [name, stored] of STORAGE_CLASSES) if (stored === dtype) return name;
  return null;
}

/**
 * The symbol that a pickle names.
 * @param where - file and byte, for messages
 * @throws UnsupportedError for element types without a storage class of their own
 * @throws FormatError for any other name
 */
export function findGlobal(module: string, name: string, where: string): PickleGlobal {
  if (module === "torch") {
    const dtype = STORAGE_CLASSES.get(name);
    if (dtype !== undefined) return { kind: "storage class", dtype };
  }
  const symbol = `${module}.${name}`;
  switch (symbol) {
    case "collections.OrderedDict":
      return { kind: "ordered dict class" };
    case "torch._utils._rebuild_tensor_v2":
      return { kind: "tensor function" };
    case "torch._utils._rebuild_parameter":
      return { kind: "parameter function" };
  }
  if (/^torch(\.storage)?\.\w*Storage$/.test(symbol) || symbol === "torch._utils._rebuild_tensor_v3") {
    throw new UnsupportedError(
      `${where}: the file stores tensors as ${symbol}; expected storages of ` +
        `${[...new Set(STORAGE_CLASSES.values())].join(", ")}. Convert the tensors to one of these types with PyTorch ` +
        `(tensor.to(torch.bfloat16)) and save them again.`,
    );
  }
  throw new FormatError(
    `${where}: the file asks for ${JSON.stringify(symbol)}, which weights do not need and which is never run. ` +
      SAVE_WEIGHTS_ALONE,
  );
}

/**
 * The storage that a persistent id stands for: ('storage', class, key, location, count), and in legacy files a sixth
 * value, None or (view key, offset, count), for a part of it.
 */
export function storageOfPersistentId(id: PickleValue, where: string): PickleStorage {
  const items = isKind(id, "tuple") ? id.items : [];
  const [tag, storageClass, key, , nStored, view = null] = items;
  if (
    (items.length !== 5 && items.length !== 6) ||
    tag !== "storage" ||
    !isKind(storageClass, "storage class") ||
    (typeof key !== "string" && !isCount(key)) ||
    !isCount(nStored)
  ) {
    throw new FormatError(
      `${where}: expected a persistent id ('storage', class, key, location, count), found ${describeValue(id)}. ` +
        `The file is damaged or was not written by torch.save: download or save it again.`,
    );
  }
  const storage = { kind: "storage", key: String(key), dtype: storageClass.dtype, nStored } as const;
  if (view === null) return { ...storage, start: 0, nElements: nStored };
  const [, start, nElements] = isKind(view, "tuple") ? view.items : [];
  if (!isCount(start) || !isCount(nElements) || start + nElements > nStored) {
    throw new FormatError(
      `${where}: storage "${storage.key}" has ${nStored} elements, but a part of it is given as ${describeValue(start)} ` +
        `and ${describeValue(nElements)}. The file is damaged: download or save it again.`,
    );
  }
  return { ...storage, start, nElements };
}

/** An OrderedDict from nothing, or from a list of pairs. */
export function buildOrderedDict(args: readonly PickleValue[], where: string): PickleDict {
  const entries = new Map<PickleValue, PickleValue>();
  const [pairs] = args;
  if (pairs === undefined) return { kind: "dict", entries };
  if (args.length === 1 && isKind(pairs, "list")) {
    for (const pair of pairs.items) {
      const items = isKind(pair, "list") || isKind(pair, "tuple") ? pair.items : [];
      if (items.length !== 2) {
        throw new FormatError(
          `${where}: expected pairs for an OrderedDict, found ${describeValue(pair)}. The file is damaged.`,
        );
      }
      setEntry(entries, items[0]!, items[1]!, where);
    }
    return { kind: "dict", entries };
  }
  throw new FormatError(
    `${where}: expected a list of pairs for an OrderedDict, found ${describeValue(pairs)}. ${SAVE_WEIGHTS_ALONE}`,
  );
}

/** `entries[key] = value`, for keys that Python could hash too. */
export function setEntry(
  entries: Map<PickleValue, PickleValue>,
  key: PickleValue,
  value: PickleValue,
  where: string,
): void {
  if (isKind(key, "list") || isKind(key, "dict")) {
    throw new FormatError(
      `${where}: expected a name as the key of a dictionary, found ${describeValue(key)}. The file is damaged.`,
    );
  }
  entries.set(key, value);
}

/** `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, hooks[, metadata])`; the last three do not matter. */
export function buildTensor(args: readonly PickleValue[], where: string): PickleTensor {
  const [storage, offset, shape, strides] = args;
  const dimensions = countsOf(shape);
  const steps = countsOf(strides);
  if (
    (args.length !== 6 && args.length !== 7) ||
    !isKind(storage, "storage") ||
    !isCount(offset) ||
    dimensions === null ||
    steps?.length !== dimensions.length
  ) {
    throw new FormatError(
      `${where}: expected a tensor as (storage, offset, size, stride, ...) with counts of at most ${MAX_RANK} dimensions, ` +
        `found ${args.slice(0, 4).map(describeValue).join(", ")}. The file is damaged: download or save it again.`,
    );
  }
  return { kind: "tensor", storage, offset, shape: dimensions, strides: steps };
}

/** `_rebuild_parameter(tensor, requires_grad, hooks)`: the tensor. */
export function buildParameter(args: readonly PickleValue[], where: string): PickleTensor {
  const [tensor] = args;
  if (args.length === 3 && isKind(tensor, "tensor")) return tensor;
  throw new FormatError(
    `${where}: expected a parameter as (tensor, requires_grad, hooks), found ${args.map(describeValue).slice(0, 4).join(", ")}. ` +
      `The file is damaged: download or save it again.`,
  );
}

function countsOf(value: PickleValue | undefined): number[] | null {
  if (!isKind(value, "tuple") || value.items.length > MAX_RANK) return null;
  return value.items.every(isCount) ? [...value.items] : null;
}
