// The token shift of both kinds, per run: each row is mixed with the one before it, the first with the state. A part
// is a range of columns. Contracts: ops/ops.ts.

import { RECORD_N_OPERANDS } from "../abi.ts";
import {
  addressOf,
  firstColumn,
  firstRowOf,
  nRowsOfRun,
  nRunsOf,
  operand,
  rowBytesOf,
  runAt,
  slotOf,
  widthOf,
} from "./record.ts";
import { loadTail, storeTail } from "./simd.ts";

/** out = x + (previous - x) * mix */
@inline
function mixed(x: v128, previous: v128, mix: v128): v128 {
  return f32x4.add(x, f32x4.mul(f32x4.sub(previous, x), mix));
}

function mixSpan(out: usize, x: usize, previous: usize, mix: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const at = <usize>i << 2;
    v128.store(out + at, mixed(v128.load(x + at), v128.load(previous + at), v128.load(mix + at)));
  }
  if (i < n) {
    const at = <usize>i << 2;
    const rest = n - i;
    storeTail(out + at, mixed(loadTail(x + at, rest), loadTail(previous + at, rest), loadTail(mix + at, rest)), rest);
  }
}

function subtractSpan(out: usize, previous: usize, x: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const at = <usize>i << 2;
    v128.store(out + at, f32x4.sub(v128.load(previous + at), v128.load(x + at)));
  }
  if (i < n) {
    const at = <usize>i << 2;
    storeTail(out + at, f32x4.sub(loadTail(previous + at, n - i), loadTail(x + at, n - i)), n - i);
  }
}

export function tokenShift(context: usize, record: usize, part: i32, nParts: i32): void {
  const xTensor = operand(context, record, 0);
  const shiftTensor = operand(context, record, 1);
  const nOperands = load<i32>(record, RECORD_N_OPERANDS);
  const first = firstColumn(record, widthOf(xTensor), part, nParts);
  const n = firstColumn(record, widthOf(xTensor), part + 1, nParts) - first;
  const column = <usize>first << 2;
  const nRuns = nRunsOf(context);
  for (let i = 0; i < nRuns; i++) {
    const run = runAt(context, i);
    const firstRow = firstRowOf(run);
    const end = firstRow + nRowsOfRun(run);
    const shift = slotOf(run) + addressOf(shiftTensor) + column;
    let previous = shift;
    for (let row = firstRow; row < end; row++) {
      const x = addressOf(xTensor) + <usize>row * rowBytesOf(xTensor) + column;
      for (let o = 2; o < nOperands; o += 2) {
        const outTensor = operand(context, record, o);
        const out = addressOf(outTensor) + <usize>row * rowBytesOf(outTensor) + column;
        mixSpan(out, x, previous, addressOf(operand(context, record, o + 1)) + column, n);
      }
      previous = x;
    }
    memory.copy(shift, previous, <usize>n << 2);
  }
}

export function shiftDelta(context: usize, record: usize, part: i32, nParts: i32): void {
  const outTensor = operand(context, record, 0);
  const xTensor = operand(context, record, 1);
  const shiftTensor = operand(context, record, 2);
  const first = firstColumn(record, widthOf(xTensor), part, nParts);
  const n = firstColumn(record, widthOf(xTensor), part + 1, nParts) - first;
  const column = <usize>first << 2;
  const nRuns = nRunsOf(context);
  for (let i = 0; i < nRuns; i++) {
    const run = runAt(context, i);
    const firstRow = firstRowOf(run);
    const end = firstRow + nRowsOfRun(run);
    const shift = slotOf(run) + addressOf(shiftTensor) + column;
    let previous = shift;
    for (let row = firstRow; row < end; row++) {
      const x = addressOf(xTensor) + <usize>row * rowBytesOf(xTensor) + column;
      subtractSpan(addressOf(outTensor) + <usize>row * rowBytesOf(outTensor) + column, previous, x, n);
      previous = x;
    }
    memory.copy(shift, previous, <usize>n << 2);
  }
}
