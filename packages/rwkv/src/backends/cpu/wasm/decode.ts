// A row of a weight in any stored type to f32, with the very bits of core/decode.ts.

import {
  DTYPE_BF16,
  DTYPE_F16,
  DTYPE_NF4,
  DTYPE_Q2_K,
  DTYPE_Q3_K,
  DTYPE_Q4,
  DTYPE_Q4_0,
  DTYPE_Q4_1,
  DTYPE_Q4_K,
  DTYPE_Q5_0,
  DTYPE_Q5_1,
  DTYPE_Q5_K,
  DTYPE_Q6_K,
  DTYPE_Q8,
  DTYPE_Q8_0,
  DTYPE_SF4,
} from "../abi.ts";
import {
  decodeLevels,
  decodeQ2K,
  decodeQ3K,
  decodeQ4,
  decodeQ4_0,
  decodeQ4_1,
  decodeQ4K,
  decodeQ5_0,
  decodeQ5_1,
  decodeQ5K,
  decodeQ6K,
  decodeQ8,
  decodeQ8_0,
} from "./blocks.ts";
import {
  f16ToF32,
  highAny,
  highBf16,
  highOrdinary,
  lowAny,
  lowBf16,
  lowOrdinary,
  ordinary,
} from "./half.ts";

function decodeF16(out: usize, p: usize, n: i32): void {
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const at = (<usize>i) << 1;
    const halves = v128.load(p + at);
    const to = out + (at << 1);
    if (i16x8.all_true(ordinary(halves))) {
      v128.store(to, lowOrdinary(halves), 0);
      v128.store(to, highOrdinary(halves), 16);
    } else {
      v128.store(to, lowAny(halves), 0);
      v128.store(to, highAny(halves), 16);
    }
  }
  for (; i < n; i++) {
    const at = (<usize>i) << 1;
    store<f32>(out + (at << 1), f16ToF32(load<u16>(p + at)));
  }
}

function decodeBf16(out: usize, p: usize, n: i32): void {
  let i = 0;
  for (; i + 8 <= n; i += 8) {
    const at = (<usize>i) << 1;
    const halves = v128.load(p + at);
    v128.store(out + (at << 1), lowBf16(halves), 0);
    v128.store(out + (at << 1), highBf16(halves), 16);
  }
  for (; i < n; i++) {
    const at = (<usize>i) << 1;
    store<u32>(out + (at << 1), (<u32>load<u16>(p + at)) << 16);
  }
}

/** Writes the n elements stored at `p` to `out`; types of blocks have whole blocks. Not for f32. */
export function decodeRow(dtype: i32, out: usize, p: usize, n: i32): void {
  switch (dtype) {
    case DTYPE_F16:
      decodeF16(out, p, n);
      return;
    case DTYPE_BF16:
      decodeBf16(out, p, n);
      return;
    case DTYPE_Q4_0:
      decodeQ4_0(out, p, n >> 5);
      return;
    case DTYPE_Q4_1:
      decodeQ4_1(out, p, n >> 5);
      return;
    case DTYPE_Q5_0:
      decodeQ5_0(out, p, n >> 5);
      return;
    case DTYPE_Q5_1:
      decodeQ5_1(out, p, n >> 5);
      return;
    case DTYPE_Q8_0:
      decodeQ8_0(out, p, n >> 5);
      return;
    case DTYPE_Q2_K:
      decodeQ2K(out, p, n >> 8);
      return;
    case DTYPE_Q3_K:
      decodeQ3K(out, p, n >> 8);
      return;
    case DTYPE_Q4_K:
      decodeQ4K(out, p, n >> 8);
      return;
    case DTYPE_Q5_K:
      decodeQ5K(out, p, n >> 8);
      return;
    case DTYPE_Q6_K:
      decodeQ6K(out, p, n >> 8);
      return;
    case DTYPE_Q8:
      decodeQ8(out, p, n >> 6);
      return;
    case DTYPE_Q4:
      decodeQ4(out, p, n >> 6);
      return;
    case DTYPE_NF4:
    case DTYPE_SF4:
      decodeLevels(dtype, out, p, n >> 6);
      return;
    default:
      unreachable();
  }
}
