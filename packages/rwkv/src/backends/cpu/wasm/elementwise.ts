// The operations that combine values at the same place of a row. A part of an operation is a range of columns, in all
// rows. Contracts: ops/ops.ts.

import { OP_ADD, OP_ADD_MUL, OP_COPY, OP_LERP, OP_MUL, RECORD_ACTIVATION, RECORD_OP, RECORD_SCALAR } from "../abi.ts";
import { activateSpan } from "./functions.ts";
import { addressOf, firstColumn, logitRow, nRowsOf, operand, rowBytesOf, widthOf } from "./record.ts";
import { loadTail, storeTail } from "./simd.ts";

/**
 * The new value of the destination from the operands after it. Operations with fewer operands ignore the rest; `x` is
 * the destination's old value for those that change it in place.
 */
@inline
function combine(op: i32, x: v128, a: v128, b: v128, c: v128, scalar: v128): v128 {
  if (op == OP_ADD) return f32x4.add(x, f32x4.mul(a, scalar));
  if (op == OP_MUL) return f32x4.mul(x, a);
  if (op == OP_LERP) return f32x4.add(x, f32x4.mul(f32x4.sub(a, x), b));
  if (op == OP_COPY) return a;
  if (op == OP_ADD_MUL) return f32x4.add(a, f32x4.mul(b, c));
  // scaleKey
  return f32x4.mul(x, f32x4.add(f32x4.splat(1.0), f32x4.mul(f32x4.sub(a, f32x4.splat(1.0)), b)));
}

/** Runs `combine` over columns [first, last) of all rows. */
@inline
function combineRows(op: i32, nOperands: i32, context: usize, record: usize, first: i32, last: i32): void {
  const nRows = nRowsOf(context, record);
  const scalar = f32x4.splat(load<f32>(record, RECORD_SCALAR));
  const outTensor = operand(context, record, 0);
  const aTensor = operand(context, record, 1);
  // A missing operand repeats the one before it, so that every address can be read.
  const bTensor = operand(context, record, nOperands > 2 ? 2 : 1);
  const cTensor = operand(context, record, nOperands > 3 ? 3 : 1);
  for (let row = 0; row < nRows; row++) {
    const out = addressOf(outTensor) + <usize>row * rowBytesOf(outTensor);
    const a = addressOf(aTensor) + <usize>row * rowBytesOf(aTensor);
    const b = addressOf(bTensor) + <usize>row * rowBytesOf(bTensor);
    const c = addressOf(cTensor) + <usize>row * rowBytesOf(cTensor);
    let i = first;
    for (; i + 4 <= last; i += 4) {
      const at = <usize>i << 2;
      v128.store(
        out + at,
        combine(op, v128.load(out + at), v128.load(a + at), v128.load(b + at), v128.load(c + at), scalar),
      );
    }
    if (i < last) {
      const at = <usize>i << 2;
      const n = last - i;
      storeTail(
        out + at,
        combine(op, loadTail(out + at, n), loadTail(a + at, n), loadTail(b + at, n), loadTail(c + at, n), scalar),
        n,
      );
    }
  }
}

/** addMul, add, mul, lerp, copy and scaleKey. */
export function elementwise(context: usize, record: usize, part: i32, nParts: i32): void {
  const width = widthOf(operand(context, record, 0));
  const first = firstColumn(record, width, part, nParts);
  const last = firstColumn(record, width, part + 1, nParts);
  switch (load<i32>(record, RECORD_OP)) {
    case OP_ADD:
      combineRows(OP_ADD, 2, context, record, first, last);
      return;
    case OP_MUL:
      combineRows(OP_MUL, 2, context, record, first, last);
      return;
    case OP_LERP:
      combineRows(OP_LERP, 3, context, record, first, last);
      return;
    case OP_COPY:
      combineRows(OP_COPY, 2, context, record, first, last);
      return;
    case OP_ADD_MUL:
      combineRows(OP_ADD_MUL, 4, context, record, first, last);
      return;
    default:
      combineRows(-1, 3, context, record, first, last);
  }
}

export function activate(context: usize, record: usize, part: i32, nParts: i32): void {
  const out = operand(context, record, 0);
  const x = operand(context, record, 1);
  const first = firstColumn(record, widthOf(out), part, nParts);
  const last = firstColumn(record, widthOf(out), part + 1, nParts);
  const nRows = nRowsOf(context, record);
  for (let row = 0; row < nRows; row++) {
    const to = addressOf(out) + <usize>row * rowBytesOf(out) + (<usize>first << 2);
    const from = addressOf(x) + <usize>row * rowBytesOf(x) + (<usize>first << 2);
    activateSpan(load<i32>(record, RECORD_ACTIVATION), to, from, last - first);
  }
}

export function selectRows(context: usize, record: usize, part: i32, nParts: i32): void {
  const out = operand(context, record, 0);
  const x = operand(context, record, 1);
  const first = firstColumn(record, widthOf(out), part, nParts);
  const last = firstColumn(record, widthOf(out), part + 1, nParts);
  const nRows = nRowsOf(context, record);
  for (let row = 0; row < nRows; row++) {
    const to = addressOf(out) + <usize>row * rowBytesOf(out) + (<usize>first << 2);
    const from = addressOf(x) + <usize>logitRow(context, row) * rowBytesOf(x) + (<usize>first << 2);
    memory.copy(to, from, <usize>(last - first) << 2);
  }
}
