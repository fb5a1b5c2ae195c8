// Matrix products. Matrices in panels: panel-f32.ts and panel-int8.ts; in columns: columns.ts. Of those in rows a few
// are decoded at a time, for all rows of the step. Bias and activation are applied to the finished part of the output. A
// part is a range of outputs. Contract: ops/ops.ts.

import {
  CONTEXT_INT8_ACTIVATIONS,
  LAYOUT_COLUMNS,
  LAYOUT_ROWS,
  OP_MATMUL_BIAS,
  PANEL_ROWS,
  RECORD_ACTIVATION,
  RECORD_MATRIX_ROW_BYTES,
  RECORD_OP,
  SCRATCH_ROWS,
} from "../abi.ts";
import { multiplyColumns } from "./columns.ts";
import { decodeRow } from "./decode.ts";
import { dot, dot4, dot4x2 } from "./dot.ts";
import { activateSpan } from "./functions.ts";
import { isBlockType } from "./panel-blocks.ts";
import { multiplyPanelsF32 } from "./panel-f32.ts";
import { multiplyPanelsInt8 } from "./panel-int8.ts";
import { addressOf, countInputs, dtypeOf, firstColumn, layoutOf, nRowsOf, operand, rowBytesOf, widthOf } from "./record.ts";
import { loadTail, storeTail } from "./simd.ts";

/** nRows rows of x times n f32 rows of w, `stride` bytes apart. */
function multiplyF32(
  out: usize,
  outStride: usize,
  w: usize,
  stride: usize,
  n: i32,
  x: usize,
  xStride: usize,
  nRows: i32,
  nIn: i32,
): void {
  for (let row = 0; row < nRows; row += 2, x += 2 * xStride, out += 2 * outStride) {
    const isPair = row + 1 < nRows;
    let rows = w;
    let o = 0;
    for (; o + 4 <= n; o += 4, rows += 4 * stride) {
      const to = out + ((<usize>o) << 2);
      if (isPair) dot4x2(to, outStride, rows, stride, x, xStride, nIn);
      else dot4(to, rows, stride, x, nIn);
    }
    for (; o < n; o++, rows += stride) {
      const to = out + ((<usize>o) << 2);
      store<f32>(to, dot(rows, x, nIn));
      if (isPair) store<f32>(to + outStride, dot(rows, x + xStride, nIn));
    }
  }
}

/** n outputs of a matrix in rows, w. @param decoded - room for PANEL_ROWS rows */
function multiplyRows(
  dtype: i32,
  out: usize,
  outStride: usize,
  w: usize,
  stride: usize,
  n: i32,
  x: usize,
  xStride: usize,
  nRows: i32,
  nIn: i32,
  decoded: usize,
): void {
  const decodedStride = (<usize>nIn) << 2;
  // For one row decoded weights are used once: a few stay in the nearest cache.
  const nTogether = nRows == 1 ? 4 : PANEL_ROWS;
  for (let o = 0; o < n; o += nTogether) {
    const nDecoded = min(nTogether, n - o);
    for (let i = 0; i < nDecoded; i++) {
      decodeRow(dtype, decoded + <usize>i * decodedStride, w + <usize>(o + i) * stride, nIn);
    }
    multiplyF32(out + ((<usize>o) << 2), outStride, decoded, decodedStride, nDecoded, x, xStride, nRows, nIn);
  }
}

function addBias(out: usize, bias: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const at = (<usize>i) << 2;
    v128.store(out + at, f32x4.add(v128.load(bias + at), v128.load(out + at)));
  }
  if (i < n) {
    const at = (<usize>i) << 2;
    storeTail(out + at, f32x4.add(loadTail(bias + at, n - i), loadTail(out + at, n - i)), n - i);
  }
}

/** @param scratch - the thread's own room, of SCRATCH_ROWS rows of the matrix in f32 and SCRATCH_BYTES */
export function matmul(context: usize, record: usize, part: i32, nParts: i32, scratch: usize): void {
  const outTensor = operand(context, record, 0);
  const wTensor = operand(context, record, 1);
  const xTensor = operand(context, record, 2);
  const nIn = widthOf(xTensor);
  const dtype = dtypeOf(wTensor);
  const stride = load<usize>(record, RECORD_MATRIX_ROW_BYTES);
  const outStride = rowBytesOf(outTensor);
  const xStride = rowBytesOf(xTensor);
  const x = addressOf(xTensor);
  const nRows = nRowsOf(context, record);
  if (nRows == 0) return; // no logits wanted: the head is not even decoded
  const first = firstColumn(record, widthOf(outTensor), part, nParts);
  const end = firstColumn(record, widthOf(outTensor), part + 1, nParts);
  const n = end - first;
  // Parts begin with a panel.
  const w = addressOf(wTensor) + <usize>first * stride;
  const out = addressOf(outTensor) + ((<usize>first) << 2);

  const layout = layoutOf(wTensor);
  const last = scratch + <usize>nIn * 4 * SCRATCH_ROWS;
  if (layout == LAYOUT_COLUMNS) {
    const matrix = addressOf(wTensor);
    const nOut = widthOf(outTensor);
    const nZeros = multiplyColumns(
      dtype,
      out,
      outStride,
      matrix,
      nOut,
      first,
      n,
      x,
      xStride,
      nRows,
      nIn,
      scratch,
      last,
    );
    if (nZeros >= 0 && first == 0 && n > 0) countInputs(context, <i64>nRows * <i64>nIn, nZeros);
  } else if (layout == LAYOUT_ROWS) {
    multiplyRows(dtype, out, outStride, w, stride, n, x, xStride, nRows, nIn, scratch);
  } else {
    const panelBytes = <usize>PANEL_ROWS * stride;
    if (load<i32>(context, CONTEXT_INT8_ACTIVATIONS) && isBlockType(dtype)) {
      multiplyPanelsInt8(dtype, out, outStride, w, panelBytes, n, x, xStride, nRows, nIn, scratch, last);
    } else {
      multiplyPanelsF32(dtype, out, outStride, w, panelBytes, n, x, xStride, nRows, nIn, scratch, last);
    }
  }

  const hasBias = load<i32>(record, RECORD_OP) == OP_MATMUL_BIAS;
  const bias = hasBias ? addressOf(operand(context, record, 3)) + ((<usize>first) << 2) : 0;
  const activation = load<i32>(record, RECORD_ACTIVATION);
  for (let row = 0; row < nRows; row++) {
    const to = out + <usize>row * outStride;
    if (hasBias) addBias(to, bias, n);
    activateSpan(activation, to, to, n);
  }
}
