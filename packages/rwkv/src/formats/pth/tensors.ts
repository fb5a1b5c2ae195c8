// From a view of a storage to a tensor that can be read: whether it fits, and how its elements are put into row-major
// order. A contiguous view is read straight into the target. Any other is read in the order of its addresses, through a
// window of a few MiB, and scattered: so a transposed matrix needs no second copy, and what lies in gaps is never used.

import type { ByteSource } from "../../core/byte-source.ts";
import { DTYPES } from "../../core/dtype.ts";
import { FormatError, UnsupportedError } from "../../core/errors.ts";
import type { CheckpointTensor } from "../checkpoint.ts";
import { checkTarget } from "../range-tensor.ts";
import { GATHER_WINDOW_BYTES } from "./limits.ts";
import type { PickleStorage, PickleTensor } from "./pickle-values.ts";

/** Finds the stored bytes of a storage. */
export interface StorageFinder {
  /**
   * Whether the file has all bytes of the storage.
   * @param tensorName - for the message
   * @throws FormatError if not
   */
  check(storage: PickleStorage, tensorName: string): void;
  /** Address of the first stored byte. */
  locate(storage: PickleStorage, signal?: AbortSignal): Promise<number>;
}

/** One dimension on its way from storage to target: `n` steps of `from` there and `to` here, in elements. */
interface Axis {
  readonly n: number;
  readonly from: number;
  readonly to: number;
}

/**
 * The tensor `view` under its name.
 * @throws FormatError if it reaches past its storage, or the storage past the file
 * @throws UnsupportedError if it repeats its storage (`expand`) or interleaves with itself (`unfold`, `as_strided`)
 */
export function makeTensor(
  name: string,
  view: PickleTensor,
  source: ByteSource,
  finder: StorageFinder,
): CheckpointTensor {
  const { storage, shape } = view;
  const { dtype } = storage;
  const elementBytes = DTYPES[dtype].blockBytes;
  const nElements = countWithin(view, `${source.name}: tensor ${JSON.stringify(name)}`);
  finder.check(storage, name);
  const axes = nElements === 0 ? [] : axesOf(view);
  const isContiguous = axes.length === 0 || (axes.length === 1 && axes[0]!.from === 1);
  if (!isContiguous) checkAscending(axes, view, `${source.name}: tensor ${JSON.stringify(name)}`);
  const byteLength = nElements * elementBytes;

  return {
    name,
    dtype,
    shape,
    byteLength,
    async read(target, signal) {
      checkTarget(source, { name, byteLength }, target);
      signal?.throwIfAborted();
      if (nElements === 0) return;
      const start = (await finder.locate(storage, signal)) + (storage.start + view.offset) * elementBytes;
      if (isContiguous) await source.read(start, target, signal);
      else await gather(target, axes, elementBytes, source, start, signal);
    },
  };
}

/** Number of elements of the view, all of them inside its storage. */
function countWithin({ storage, offset, shape, strides }: PickleTensor, where: string): number {
  const isEmpty = shape.includes(0);
  let nElements = 1;
  let last = offset;
  for (const [i, dimension] of shape.entries()) {
    // An empty tensor may have any other dimensions; and stopping early keeps both numbers exact.
    if (isEmpty || nElements > storage.nElements || last >= storage.nElements) break;
    nElements *= dimension;
    last += (dimension - 1) * strides[i]!;
  }
  if (isEmpty) return 0;
  if (last >= storage.nElements) {
    throw new FormatError(
      `${where} of shape [${shape.join(", ")}] and strides [${strides.join(", ")}] from element ${offset} reaches past ` +
        `storage "${storage.key}" of ${storage.nElements} elements. The file is damaged: download or save it again.`,
    );
  }
  if (nElements > storage.nElements) throw sharedElements(strides, shape, where);
  return nElements;
}

/** Dimensions by falling stride, without those of length 1, and joined where two are one run in storage and target. */
function axesOf({ shape, strides }: PickleTensor): Axis[] {
  const axes: Axis[] = [];
  let to = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    const n = shape[i]!;
    if (n > 1) axes.unshift({ n, from: strides[i]!, to });
    to *= n;
  }
  axes.sort((a, b) => b.from - a.from);
  const joined: Axis[] = [];
  for (const axis of axes) {
    const outer = joined.at(-1);
    if (outer?.from === axis.n * axis.from && outer.to === axis.n * axis.to) {
      joined[joined.length - 1] = { n: outer.n * axis.n, from: axis.from, to: axis.to };
    } else {
      joined.push(axis);
    }
  }
  return joined;
}

/** Refuses axes along which addresses would fall: walked with the last one fastest, they must never. */
function checkAscending(axes: readonly Axis[], { shape, strides }: PickleTensor, where: string): void {
  let reach = 0;
  for (const { n, from } of axes.toReversed()) {
    if (from < reach) throw sharedElements(strides, shape, where);
    reach += (n - 1) * from;
  }
}

function sharedElements(
  strides: readonly number[],
  shape: readonly number[],
  where: string,
): UnsupportedError {
  return new UnsupportedError(
    `${where} of shape [${shape.join(", ")}] and strides [${strides.join(", ")}] is a view whose elements share or ` +
      `interleave memory. Save a copy of it instead: tensor.contiguous().`,
  );
}

/**
 * Reads the elements at ascending addresses and puts each where row-major order wants it.
 * @param axes - by falling stride, at least one
 * @param start - address of the first element
 */
async function gather(
  target: Uint8Array,
  axes: readonly Axis[],
  elementBytes: number,
  source: ByteSource,
  start: number,
  signal: AbortSignal | undefined,
): Promise<void> {
  const inner = axes.at(-1)!;
  const outer = axes.slice(0, -1);
  const spanBytes = (1 + axes.reduce((sum, { n, from }) => sum + (n - 1) * from, 0)) * elementBytes;
  const window = new Uint8Array(Math.min(GATHER_WINDOW_BYTES, spanBytes));
  let windowStart = 0;
  let windowEnd = 0;

  const fromStep = inner.from * elementBytes;
  const toStep = inner.to * elementBytes;
  const index = new Array<number>(outer.length).fill(0);
  let fromRow = 0;
  let toRow = 0;
  for (;;) {
    for (let done = 0; done < inner.n;) {
      const from = fromRow * elementBytes + done * fromStep;
      if (from >= windowEnd) {
        windowStart = from;
        windowEnd = Math.min(from + window.byteLength, spanBytes);
        await source.read(start + from, window.subarray(0, windowEnd - from), signal);
      }
      // Windows begin and end at element boundaries, since their length and the span's are multiples of an element.
      const n = Math.min(inner.n - done, Math.ceil((windowEnd - from) / fromStep));
      copyElements(
        target,
        toRow * elementBytes + done * toStep,
        toStep,
        window,
        from - windowStart,
        fromStep,
        n,
        elementBytes,
      );
      done += n;
    }
    let axis = outer.length - 1;
    for (; axis >= 0; axis--) {
      const { n, from, to } = outer[axis]!;
      fromRow += from;
      toRow += to;
      index[axis]!++;
      if (index[axis]! < n) break;
      fromRow -= n * from;
      toRow -= n * to;
      index[axis] = 0;
    }
    if (axis < 0) return;
  }
}

/** `n` elements from `source[from]` on, `fromStep` bytes apart, to `target[to]` on, `toStep` bytes apart. */
function copyElements(
  target: Uint8Array,
  to: number,
  toStep: number,
  source: Uint8Array,
  from: number,
  fromStep: number,
  n: number,
  elementBytes: number,
): void {
  if (fromStep === elementBytes && toStep === elementBytes) {
    target.set(source.subarray(from, from + n * elementBytes), to);
    return;
  }
  for (let i = 0; i < n; i++) {
    for (let b = 0; b < elementBytes; b++) target[to + b] = source[from + b]!;
    from += fromStep;
    to += toStep;
  }
}
