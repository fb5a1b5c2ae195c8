// Vectors of NEON: V holds 4 f32; P and Bytes, a value for each of the 16 outputs of a panel, take four registers, I16
// four with the dot products of later processors and eight without. All that differs with those is at the end; sums of
// whole numbers are exact, so that both give the same bits.

using V = float32x4_t;
constexpr size_t W = 4;

INLINE V splat(float x) { return vdupq_n_f32(x); }
INLINE V load(const float* p) { return vld1q_f32(p); }
/** The first n < W, zeros behind them. */
INLINE V loadFirst(const float* p, size_t n) {
  const V zeros = splat(0);
  if (n == 0) return zeros;
  if (n == 1) return vld1q_lane_f32(p, zeros, 0);
  const float32x2_t two = vld1_f32(p);
  return n == 2 ? vcombine_f32(two, vget_low_f32(zeros)) : vcombine_f32(two, vld1_lane_f32(p + 2, vget_low_f32(zeros), 0));
}
INLINE void store(float* p, V v) { vst1q_f32(p, v); }
INLINE void storeFirst(float* p, V v, size_t n) {
  if (n == 0) return;
  vst1q_lane_f32(p, v, 0);
  if (n > 1) vst1q_lane_f32(p + 1, v, 1);
  if (n > 2) vst1q_lane_f32(p + 2, v, 2);
}
INLINE V add(V a, V b) { return vaddq_f32(a, b); }
INLINE V sub(V a, V b) { return vsubq_f32(a, b); }
INLINE V mul(V a, V b) { return vmulq_f32(a, b); }
INLINE V div(V a, V b) { return vdivq_f32(a, b); }
/** a * b + c, rounded once. */
INLINE V fma(V a, V b, V c) { return vfmaq_f32(c, a, b); }
/** c - a * b, rounded once. */
INLINE V fnma(V a, V b, V c) { return vfmsq_f32(c, a, b); }
/** If one is NaN: the second. The instructions for minimum and maximum would give NaN for either. */
INLINE V min(V a, V b) { return vbslq_f32(vcltq_f32(a, b), a, b); }
INLINE V max(V a, V b) { return vbslq_f32(vcgtq_f32(a, b), a, b); }
INLINE V abs(V a) { return vabsq_f32(a); }
INLINE V nearest(V a) { return vrndnq_f32(a); }
/** a * 2^n for whole n in [-252, 254]; 2^n is split, since it may lie outside the normal range. */
INLINE V scaled(V a, V n) {
  const int32x4_t power = vcvtq_s32_f32(n);
  const int32x4_t half = vshrq_n_s32(power, 1);
  const int32x4_t rest = vsubq_s32(power, half);
  const int32x4_t bias = vdupq_n_s32(127);
  const V first = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(half, bias), 23));
  const V second = vreinterpretq_f32_s32(vshlq_n_s32(vaddq_s32(rest, bias), 23));
  return mul(mul(a, first), second);
}
/** The size of `size` with the sign of `sign`. */
INLINE V withSign(V size, V sign) { return vbslq_f32(vdupq_n_u32(0x80000000), sign, size); }

/** Lanes l and l + 2, then l + 1. */
INLINE float sum(V v) {
  const float32x2_t two = vadd_f32(vget_low_f32(v), vget_high_f32(v));
  return vget_lane_f32(two, 0) + vget_lane_f32(two, 1);
}

/** The greatest lane, of which none is NaN. */
INLINE float greatestOf(V v) { return vmaxvq_f32(v); }
/** Stores lanes that are whole numbers from -127 to 127. */
INLINE void storeInt8(int8_t* p, V v) {
  const int16x4_t halves = vmovn_s32(vcvtq_s32_f32(v));
  const int8x8_t bytes = vmovn_s16(vcombine_s16(halves, halves));
  __builtin_memcpy(p, &bytes, W);
}

// Panels.

/** Not the four vectors of arm_neon.h, which must lie in consecutive registers. */
struct P {
  V v[4];
};
/** Panels and rows of a tile: what 32 registers hold. */
constexpr size_t TILE_ROWS = 6, TILE_PANELS = 1, BLOCK_PANELS = 1, INT8_ROWS = 4;

/** f(i) for the four vectors. */
template <typename T, typename F>
INLINE T fourOf(F f) {
  return {{f(0), f(1), f(2), f(3)}};
}

INLINE V fromF16(uint16x4_t halves) { return vcvt_f32_f16(vreinterpret_f16_u16(halves)); }
INLINE V fromBf16(uint16x4_t halves) { return vreinterpretq_f32_u32(vshlq_n_u32(vmovl_u16(halves), 16)); }

INLINE P panelSplat(float x) {
  return fourOf<P>([=](size_t) { return splat(x); });
}
INLINE P panelZero() { return panelSplat(0); }
INLINE P panelLoad(const float* p) {
  return fourOf<P>([=](size_t i) { return load(p + W * i); });
}
INLINE P panelLoad(const F16* p) {
  return fourOf<P>([=](size_t i) { return fromF16(vld1_u16(&p[W * i].bits)); });
}
INLINE P panelLoad(const Bf16* p) {
  return fourOf<P>([=](size_t i) { return fromBf16(vld1_u16(&p[W * i].bits)); });
}
INLINE void panelStore(float* p, P values) {
  UNROLL for (size_t i = 0; i < 4; i++) store(p + W * i, values.v[i]);
}
INLINE void panelStoreFirst(float* p, P values, size_t n) {
  UNROLL for (size_t i = 0; i < 4; i++) {
    if (n >= W * (i + 1)) {
      store(p + W * i, values.v[i]);
    } else if (n > W * i) {
      storeFirst(p + W * i, values.v[i], n - W * i);
    }
  }
}
INLINE P panelMul(P a, P b) {
  return fourOf<P>([&](size_t i) { return mul(a.v[i], b.v[i]); });
}
INLINE P panelFma(P a, P b, P c) {
  return fourOf<P>([&](size_t i) { return fma(a.v[i], b.v[i], c.v[i]); });
}
INLINE P panelMinus(P a) {
  return fourOf<P>([&](size_t i) { return vnegq_f32(a.v[i]); });
}

/** Four bytes for each output. */
struct Bytes {
  uint8x16_t v[4];
};

INLINE Bytes bytesLoad(const uint8_t* p) {
  return fourOf<Bytes>([=](size_t i) { return vld1q_u8(p + 16 * i); });
}
INLINE Bytes bytesOr(Bytes a, Bytes b) {
  return fourOf<Bytes>([&](size_t i) { return vorrq_u8(a.v[i], b.v[i]); });
}
INLINE uint8x16_t bitsOf(uint8x16_t b, int shift, int n) {
  const uint8x16_t low = b >> static_cast<uint8_t>(shift);
  return shift + n == 8 ? low : vandq_u8(low, vdupq_n_u8(static_cast<uint8_t>((1 << n) - 1)));
}
/** Of each byte the `n` bits from `shift` on. */
INLINE Bytes bitsOf(Bytes b, int shift, int n) {
  return fourOf<Bytes>([&](size_t i) { return bitsOf(b.v[i], shift, n); });
}
/** b << n where no byte overflows. */
INLINE Bytes shifted(Bytes b, int n) {
  return fourOf<Bytes>([&](size_t i) { return b.v[i] << static_cast<uint8_t>(n); });
}
INLINE uint8x16_t flipped(uint8x16_t b) { return veorq_u8(b, vdupq_n_u8(128)); }
/** Signed bytes plus 128. */
INLINE Bytes flipped(Bytes b) {
  return fourOf<Bytes>([&](size_t i) { return flipped(b.v[i]); });
}
INLINE uint8x16_t lookup(const uint8_t table[16], uint8x16_t b) { return vqtbl1q_u8(vld1q_u8(table), b); }
/** Bytes below 16 become those of the table. */
INLINE Bytes lookup(const uint8_t table[16], Bytes b) {
  return fourOf<Bytes>([&](size_t i) { return lookup(table, b.v[i]); });
}
/** Byte i of each output: 16 if bit 4 * word + i of its four bytes is set, else 0. */
INLINE Bytes sixteensAt(Bytes bits, int word) {
  const uint8x16_t lanes = {0, 0, 0, 0, 4, 4, 4, 4, 8, 8, 8, 8, 12, 12, 12, 12};
  const uint8x16_t from = vaddq_u8(lanes, vdupq_n_u8(static_cast<uint8_t>(word / 2)));
  const uint8x16_t places = vreinterpretq_u8_u32(vdupq_n_u32(word % 2 == 0 ? 0x08040201 : 0x80402010));
  return fourOf<Bytes>([&](size_t i) {
    return vandq_u8(vtstq_u8(vqtbl1q_u8(bits.v[i], from), places), vdupq_n_u8(16));
  });
}
/** The i-th of each output's four bytes, less `zero`, as f32. */
INLINE P byteAt(Bytes b, int i, int zero) {
  return fourOf<P>([&](size_t j) {
    const uint32x4_t byte = vreinterpretq_u32_u8(b.v[j]) >> static_cast<uint32_t>(8 * i) & 255;
    return vcvtq_f32_s32(vsubq_s32(vreinterpretq_s32_u32(byte), vdupq_n_s32(zero)));
  });
}

/** Whether the stored bytes are products' factors as they are. The multiplications are signed: others are made so. */
template <int ZERO>
constexpr bool IS_SIGNED_AS_STORED = ZERO < 128;

template <int ZERO>
INLINE int8x16_t signedWeights(uint8x16_t w) {
  return vreinterpretq_s8_u8(IS_SIGNED_AS_STORED<ZERO> ? w : flipped(w));
}
/** What has ZERO taken off a sum of products of bytes as they are stored: `minusSum` is that of the x, negated. */
template <int ZERO>
INLINE int32_t startOf(int32_t minusSum) {
  return ZERO > 0 && IS_SIGNED_AS_STORED<ZERO> ? minusSum * ZERO : 0;
}

/** Four bytes of x, for each output. */
INLINE int8x16_t foursAt(const int8_t* x) {
  int32_t four;
  __builtin_memcpy(&four, x, 4);
  return vreinterpretq_s8_s32(vdupq_n_s32(four));
}

#ifdef __ARM_FEATURE_DOTPROD

struct I16 {
  int32x4_t v[4];
};

INLINE P toF32(I16 sums) {
  return fourOf<P>([&](size_t i) { return vcvtq_f32_s32(sums.v[i]); });
}
/** What sums of products with bytes begin with. */
template <int ZERO>
INLINE I16 startProducts(int32_t minusSum) {
  const int32x4_t first = vdupq_n_s32(startOf<ZERO>(minusSum));
  return fourOf<I16>([=](size_t) { return first; });
}
/** Adds the products of each output's four bytes with the same four of x. */
template <int ZERO>
INLINE I16 addProducts(I16 acc, Bytes w, const int8_t* x) {
  const int8x16_t fours = foursAt(x);
  return fourOf<I16>([&](size_t i) { return vdotq_s32(acc.v[i], signedWeights<ZERO>(w.v[i]), fours); });
}

#else

/** Two sums for each output: of its first two bytes of every four, and of the others. */
struct I16 {
  int32x4_t low[4], high[4];
};

INLINE P toF32(I16 sums) {
  return fourOf<P>([&](size_t i) { return vcvtq_f32_s32(vpaddq_s32(sums.low[i], sums.high[i])); });
}
/** What sums of products with bytes begin with. */
template <int ZERO>
INLINE I16 startProducts(int32_t minusSum) {
  const int32x2_t pair = vcreate_s32(static_cast<uint32_t>(startOf<ZERO>(minusSum)));
  const int32x4_t pairs = vcombine_s32(pair, pair);
  return {{pairs, pairs, pairs, pairs}, {pairs, pairs, pairs, pairs}};
}
/** Adds the products of each output's four bytes with the same four of x. */
template <int ZERO>
INLINE I16 addProducts(I16 acc, Bytes w, const int8_t* x) {
  const int8x16_t fours = foursAt(x);
  UNROLL for (size_t i = 0; i < 4; i++) {
    // A product of two signed bytes fits in 16 bits; two may not be added there.
    const int8x16_t weights = signedWeights<ZERO>(w.v[i]);
    acc.low[i] = vpadalq_s16(acc.low[i], vmull_s8(vget_low_s8(weights), vget_low_s8(fours)));
    acc.high[i] = vpadalq_s16(acc.high[i], vmull_s8(vget_high_s8(weights), vget_high_s8(fours)));
  }
  return acc;
}

#endif
/**
 * For each of ROWS rows adds the products of each output's four bytes in each of WORDS words with those of x. MOST: as in
 * panel_blocks.h.
 */
template <int ZERO, int MOST, size_t WORDS, size_t ROWS>
INLINE void addWords(I16 totals[ROWS], const Bytes* w, const int8_t* const xs[ROWS]) {
  UNROLL for (size_t i = 0; i < WORDS; i++) {
    UNROLL for (size_t r = 0; r < ROWS; r++) totals[r] = addProducts<ZERO>(totals[r], w[i], xs[r] + 4 * i);
  }
}

/** Many rows are met by bytes as well as few. */
constexpr bool HAS_UNPACKED = false;
