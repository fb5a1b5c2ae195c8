// What products with matrices in columns (core/layout.ts of rwkv) need of NEON: quants of one input for many outputs.

/** Most rows of x that are worked on together: as long as registers hold their sums of four panels, and weights. */
constexpr size_t COLUMN_ROWS = 1;

/** Fours of inputs that are added in one pass: all of a block. */
constexpr size_t QUADS_AT_ONCE = 8;

/** Quants of 16 outputs; `bitsOf` and `lookup` of vector_neon.h take them too. */
using Byte16 = uint8x16_t;

INLINE Byte16 byte16Load(const uint8_t* p) { return vld1q_u8(p); }
/** Less `zero`, as f32. */
INLINE P panelOf(Byte16 b, int zero) {
  const int16x8_t less = vdupq_n_s16(static_cast<int16_t>(zero));
  const int16x8_t low = vsubq_s16(vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(b))), less);
  const int16x8_t high = vsubq_s16(vreinterpretq_s16_u16(vmovl_high_u8(b)), less);
  return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(low))), vcvtq_f32_s32(vmovl_high_s16(low)),
           vcvtq_f32_s32(vmovl_s16(vget_low_s16(high))), vcvtq_f32_s32(vmovl_high_s16(high))}};
}

/** Panels that `interleave` takes up at a time. */
template <bool HAS_NIBBLES>
constexpr size_t INTERLEAVED = 4;

/** The bytes of four rows, four for each of 64 outputs, from `offset` on. */
template <bool HAS_NIBBLES>
INLINE void interleave(Bytes out[4], const uint8_t* const rows[4], size_t offset) {
  UNROLL for (size_t p = 0; p < (HAS_NIBBLES ? 2 : 4); p++) {
    const auto row = [=](size_t i) { return vld1q_u8(rows[i] + offset + PANEL * p); };
    const uint8x16_t a = row(0), b = row(1), c = row(2), d = row(3);
    const uint16x8_t ab[2] = {vreinterpretq_u16_u8(vzip1q_u8(a, b)), vreinterpretq_u16_u8(vzip2q_u8(a, b))};
    const uint16x8_t cd[2] = {vreinterpretq_u16_u8(vzip1q_u8(c, d)), vreinterpretq_u16_u8(vzip2q_u8(c, d))};
    UNROLL for (size_t i = 0; i < 2; i++) {
      out[p].v[2 * i] = vreinterpretq_u8_u16(vzip1q_u16(ab[i], cd[i]));
      out[p].v[2 * i + 1] = vreinterpretq_u8_u16(vzip2q_u16(ab[i], cd[i]));
    }
    if constexpr (HAS_NIBBLES) {
      out[p + 2] = bitsOf(out[p], 4, 4);
      out[p] = bitsOf(out[p], 0, 4);
    }
  }
}
/** Vectors of `interleave` are in the order of the outputs as they are. */
template <bool HAS_NIBBLES, typename T>
INLINE void inOrder(T*) {}
INLINE void bytesStore(char* p, Bytes b) {
  UNROLL for (size_t i = 0; i < 4; i++) vst1q_u8(reinterpret_cast<uint8_t*>(p) + 16 * i, b.v[i]);
}

/** Writes the numbers of the lanes that are not zero (NaN is none) to `inputs`, lane 0 being `k`; returns how many. */
INLINE size_t listNonZero(uint32_t* inputs, V x, uint32_t k) {
  const uint32x4_t isListed = vmvnq_u32(vceqzq_f32(x));
  size_t n = 0;
  UNROLL for (uint32_t i = 0; i < 4; i++) {
    inputs[n] = k + i;
    n += isListed[i] & 1;
  }
  return n;
}
/** Likewise those of 32 bytes, with the bytes. There is room for 16 more of both than are found. */
INLINE uint32_t listNonZero(uint32_t* inputs, int8_t* values, const int8_t* x, uint32_t k) {
  uint32_t n = 0;
  for (uint32_t i = 0; i < 32; i++) {
    inputs[n] = k + i;
    values[n] = x[i];
    n += x[i] != 0;
  }
  return n;
}
