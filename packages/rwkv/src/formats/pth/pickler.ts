// The pickle of a dictionary of tensors, protocol 2, with the same names and arguments as torch.save uses: what
// unpickler.ts and globals.ts read. Source: torch/serialization.py, torch/_utils.py.

import { countElements, type DType } from "../../core/dtype.ts";
import { storageClassOf } from "./globals.ts";
import type { StorageDType } from "./pickle-values.ts";
import { OP } from "./unpickler.ts";

/** Entries that are put into the dictionary by one opcode, as Python does it. */
const BATCH_ENTRIES = 1000;

/** A tensor that fills a storage of its own. */
export interface PickledTensor {
  readonly name: string;
  readonly dtype: StorageDType;
  /** Row-major. */
  readonly shape: readonly number[];
  /** The name of its storage. */
  readonly key: string;
}

/** Whether PyTorch has storages of `dtype`. */
export function isStorageDType(dtype: DType): dtype is StorageDType {
  return storageClassOf(dtype) !== null;
}

/** The bytes of `data.pkl`. */
export function pickleTensors(tensors: readonly PickledTensor[]): Uint8Array {
  const bytes: number[] = [OP.PROTO, 2, OP.EMPTY_DICT];
  for (let start = 0; start < tensors.length; start += BATCH_ENTRIES) {
    bytes.push(OP.MARK);
    for (const tensor of tensors.slice(start, start + BATCH_ENTRIES)) {
      bytes.push(...text(tensor.name), ...rebuiltTensor(tensor));
    }
    bytes.push(OP.SETITEMS);
  }
  bytes.push(OP.STOP);
  return Uint8Array.from(bytes);
}

/** `_rebuild_tensor_v2(storage, offset, size, stride, requires_grad, backward_hooks)` */
function rebuiltTensor({ dtype, shape, key }: PickledTensor): number[] {
  return [
    ...global("torch._utils", "_rebuild_tensor_v2"),
    OP.MARK,
    ...[
      OP.MARK,
      ...text("storage"),
      ...global("torch", storageClassOf(dtype)!),
      ...text(key),
      ...text("cpu"),
    ],
    ...[...integer(countElements(shape)), OP.TUPLE, OP.BINPERSID],
    ...integer(0),
    ...tuple(shape),
    ...tuple(rowMajorStrides(shape)),
    OP.NEWFALSE,
    ...[...global("collections", "OrderedDict"), OP.EMPTY_TUPLE, OP.REDUCE],
    OP.TUPLE,
    OP.REDUCE,
  ];
}

function rowMajorStrides(shape: readonly number[]): number[] {
  const strides: number[] = [];
  let stride = 1;
  for (const dimension of shape.toReversed()) {
    strides.unshift(stride);
    stride *= Math.max(1, dimension);
  }
  return strides;
}

function global(module: string, name: string): number[] {
  return [OP.GLOBAL, ...new TextEncoder().encode(`${module}\n${name}\n`)];
}

function text(value: string): number[] {
  const bytes = new TextEncoder().encode(value);
  return [OP.BINUNICODE, ...littleEndian(bytes.byteLength, 4), ...bytes];
}

function tuple(values: readonly number[]): number[] {
  return [OP.MARK, ...values.flatMap(integer), OP.TUPLE];
}

function integer(value: number): number[] {
  if (value < 2 ** 8) return [OP.BININT1, value];
  if (value < 2 ** 16) return [OP.BININT2, ...littleEndian(value, 2)];
  if (value < 2 ** 31) return [OP.BININT, ...littleEndian(value, 4)];
  return [OP.LONG1, 8, ...littleEndian(value, 8)];
}

function littleEndian(value: number, byteLength: number): number[] {
  return Array.from({ length: byteLength }, (_, i) => Math.floor(value / 2 ** (8 * i)) % 256);
}
