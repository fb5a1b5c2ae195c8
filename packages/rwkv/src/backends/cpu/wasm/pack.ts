// From rows to panels of 16 outputs, each panel in the place of its rows, in the order that core/layout.ts draws; and
// whether a matrix has f16 numbers that are not finite, which kernels of panels do not tell from finite ones.

import { DTYPE_F16, DTYPE_F32, DTYPE_Q8, DTYPE_Q8_0, PANEL_ROWS } from "../abi.ts";
import { FIELD_BYTES, fieldsBytes, isBlockType, nWords, WORD_BYTES } from "./panel-blocks.ts";

/** A word of four rows. */
@inline
function loadColumn(p: usize, stride: usize): v128 {
  let v = v128.load_zero<u32>(p);
  v = v128.load_lane<u32>(p + stride, v, 1);
  v = v128.load_lane<u32>(p + 2 * stride, v, 2);
  return v128.load_lane<u32>(p + 3 * stride, v, 3);
}

/** A word of each of 16 rows. */
@inline
function packWord(panel: usize, rows: usize, stride: usize, flip: v128): void {
  v128.store(panel, v128.xor(loadColumn(rows, stride), flip));
  v128.store(panel, v128.xor(loadColumn(rows + 4 * stride, stride), flip), 16);
  v128.store(panel, v128.xor(loadColumn(rows + 8 * stride, stride), flip), 32);
  v128.store(panel, v128.xor(loadColumn(rows + 12 * stride, stride), flip), 48);
}

function packHalf(panel: usize, rows: usize, stride: usize): void {
  for (let r: usize = 0; r < <usize>PANEL_ROWS; r++) store<u16>(panel + 2 * r, load<u16>(rows + r * stride));
}

/** Numbers of 16 bits: two inputs of 16 rows. */
@inline
function packPair(panel: usize, rows: usize, stride: usize): void {
  const a = loadColumn(rows, stride);
  const b = loadColumn(rows + 4 * stride, stride);
  const c = loadColumn(rows + 8 * stride, stride);
  const d = loadColumn(rows + 12 * stride, stride);
  v128.store(panel, i16x8.shuffle(a, b, 0, 2, 4, 6, 8, 10, 12, 14));
  v128.store(panel, i16x8.shuffle(c, d, 0, 2, 4, 6, 8, 10, 12, 14), 16);
  v128.store(panel, i16x8.shuffle(a, b, 1, 3, 5, 7, 9, 11, 13, 15), 32);
  v128.store(panel, i16x8.shuffle(c, d, 1, 3, 5, 7, 9, 11, 13, 15), 48);
}

function packPanel(dtype: i32, panel: usize, rows: usize, rowBytes: usize): void {
  const end = rows + rowBytes;
  const stride = rowBytes;
  if (dtype == DTYPE_F32) {
    for (; rows < end; rows += 4, panel += 64) packWord(panel, rows, stride, i32x4.splat(0));
  } else if (isBlockType(dtype)) {
    const flip = i8x16.splat(dtype == DTYPE_Q8_0 || dtype == DTYPE_Q8 ? -128 : 0);
    while (rows < end) {
      for (const last = rows + fieldsBytes(dtype) / PANEL_ROWS; rows < last; rows += 2, panel += FIELD_BYTES) {
        packHalf(panel, rows, stride);
      }
      for (const last = rows + <usize>nWords(dtype) * 4; rows < last; rows += 4, panel += WORD_BYTES) {
        packWord(panel, rows, stride, flip);
      }
    }
  } else {
    for (; rows + 4 <= end; rows += 4, panel += 64) packPair(panel, rows, stride);
    if (rows < end) packHalf(panel, rows, stride);
  }
}

/**
 * Brings the rows of a matrix into panels, in place.
 * @param matrix - the rows, and room for whole panels
 * @param scratch - room for 16 rows
 */
export function pack(dtype: i32, matrix: usize, nOut: i32, rowBytes: usize, scratch: usize): void {
  const panelBytes = <usize>PANEL_ROWS * rowBytes;
  for (let o = 0; o < nOut; o += PANEL_ROWS, matrix += panelBytes) {
    const bytes = <usize>min(PANEL_ROWS, nOut - o) * rowBytes;
    memory.copy(scratch, matrix, bytes);
    memory.fill(scratch + bytes, 0, panelBytes - bytes);
    packPanel(dtype, matrix, scratch, rowBytes);
  }
}

/** Lanes are not 0 where the f16 is infinite or NaN. */
@inline
export function notFinite(p: usize): v128 {
  const exponent = i16x8.splat(0x7c00);
  return i16x8.eq(v128.and(v128.load(p), exponent), exponent);
}

/** Whether all f16 numbers of a matrix in panels, its weights or the fields of its blocks, are finite. */
export function isFinitePanels(dtype: i32, matrix: usize, byteLength: usize): bool {
  if (dtype != DTYPE_F16 && !isBlockType(dtype)) return true;
  const isPlain = dtype == DTYPE_F16;
  const fields = isPlain ? FIELD_BYTES : fieldsBytes(dtype);
  const step = isPlain ? FIELD_BYTES : fields + <usize>nWords(dtype) * WORD_BYTES;
  let found = i16x8.splat(0);
  for (const end = matrix + byteLength; matrix < end; matrix += step) {
    for (let at: usize = 0; at < fields; at += 16) found = v128.or(found, notFinite(matrix + at));
  }
  return !v128.any_true(found);
}
