// Matrix products. One row goes through the kernels of matvec.ts; more rows share a panel of PANEL_ROWS decoded rows of
// the matrix, so that weights are read and decoded once for all of them. Bias and activation are applied to the finished
// part of the output. A part is a range of outputs. Contract: ops/ops.ts.

import {
  DTYPE_BF16,
  DTYPE_F16,
  DTYPE_F32,
  DTYPE_Q4_0,
  DTYPE_Q8_0,
  OP_MATMUL_BIAS,
  PANEL_ROWS,
  RECORD_ACTIVATION,
  RECORD_MATRIX_ROW_BYTES,
  RECORD_OP,
} from "../abi.ts";
import { decodeRow } from "./decode.ts";
import { dot, dot4, dot4x2 } from "./dot.ts";
import { activateSpan } from "./functions.ts";
import { matvec4Bf16, matvec4F16, matvec4Q4_0, matvec4Q8_0 } from "./matvec.ts";
import { addressOf, dtypeOf, firstColumn, nRowsOf, operand, rowBytesOf, widthOf } from "./record.ts";
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
      const to = out + (<usize>o << 2);
      if (isPair) dot4x2(to, outStride, rows, stride, x, xStride, nIn);
      else dot4(to, rows, stride, x, nIn);
    }
    for (; o < n; o++, rows += stride) {
      const to = out + (<usize>o << 2);
      store<f32>(to, dot(rows, x, nIn));
      if (isPair) store<f32>(to + outStride, dot(rows, x + xStride, nIn));
    }
  }
}

/** Four rows of w in `dtype` times one row. @returns false if there is no kernel for the type or the width */
@inline
function matvec4(dtype: i32, out: usize, w: usize, stride: usize, x: usize, nIn: i32): bool {
  switch (dtype) {
    case DTYPE_F16:
      if (nIn & 7) return false;
      matvec4F16(out, w, stride, x, nIn);
      return true;
    case DTYPE_BF16:
      if (nIn & 7) return false;
      matvec4Bf16(out, w, stride, x, nIn);
      return true;
    case DTYPE_Q8_0:
      matvec4Q8_0(out, w, stride, x, nIn);
      return true;
    case DTYPE_Q4_0:
      matvec4Q4_0(out, w, stride, x, nIn);
      return true;
    default:
      return false;
  }
}

function addBias(out: usize, bias: usize, n: i32): void {
  let i = 0;
  for (; i + 4 <= n; i += 4) {
    const at = <usize>i << 2;
    v128.store(out + at, f32x4.add(v128.load(bias + at), v128.load(out + at)));
  }
  if (i < n) {
    const at = <usize>i << 2;
    storeTail(out + at, f32x4.add(loadTail(bias + at, n - i), loadTail(out + at, n - i)), n - i);
  }
}

/** @param panel - room for PANEL_ROWS decoded rows that no other thread uses */
export function matmul(context: usize, record: usize, part: i32, nParts: i32, panel: usize): void {
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
  const w = addressOf(wTensor) + <usize>first * stride;
  const out = addressOf(outTensor) + (<usize>first << 2);

  if (dtype == DTYPE_F32) {
    for (let o = 0; o < n; o += PANEL_ROWS) {
      const to = out + (<usize>o << 2);
      multiplyF32(to, outStride, w + <usize>o * stride, stride, min(PANEL_ROWS, n - o), x, xStride, nRows, nIn);
    }
  } else {
    const panelStride = <usize>nIn << 2;
    let o = 0;
    if (nRows == 1) {
      while (o + 4 <= n && matvec4(dtype, out + (<usize>o << 2), w + <usize>o * stride, stride, x, nIn)) o += 4;
    }
    // For one row a panel is used once: a small one stays in the nearest cache.
    const panelRows = nRows == 1 ? 4 : PANEL_ROWS;
    for (; o < n; o += panelRows) {
      const nPanel = min(panelRows, n - o);
      for (let i = 0; i < nPanel; i++) {
        decodeRow(dtype, panel + <usize>i * panelStride, w + <usize>(o + i) * stride, nIn);
      }
      multiplyF32(out + (<usize>o << 2), outStride, panel, panelStride, nPanel, x, xStride, nRows, nIn);
    }
  }

  const hasBias = load<i32>(record, RECORD_OP) == OP_MATMUL_BIAS;
  const bias = hasBias ? addressOf(operand(context, record, 3)) + (<usize>first << 2) : 0;
  const activation = load<i32>(record, RECORD_ACTIVATION);
  for (let row = 0; row < nRows; row++) {
    const to = out + <usize>row * outStride;
    if (hasBias) addBias(to, bias, n);
    activateSpan(activation, to, to, n);
  }
}
