// Blocks as they lie in a packed panel, and how quants and scales of 16 outputs are unpacked from them. Layouts are drawn
// in core/blocks.ts and core/layout.ts of rwkv: the f16 fields of the 16 outputs, then words of four bytes of each.
//
// A block type says
//   ELEMENTS, BYTES    what one output's block has
//   HALVES, HALVES_AT  how many f16 fields it has, and where they stand in a row's block
//   rowWord            where a word stands in a row's block
//   FLIP               what a word is combined with (xor) on its way into the panel
//   ZERO, MOST         a quant is the unpacked byte less ZERO; that byte is MOST at the most
//   WIDTH              inputs that share a scale, and a minimum if HAS_MINIMUM: weight = scale * quant + minimum
//   GROUPS, STEPS      a block is GROUPS times STEPS times 32 inputs; those of one group share bytes
//   scales             unpacks all scales and minimums of a block
//   quants             unpacks 32 inputs: four in each of eight words
//   bothQuants         of those that have it, two steps: unpacks both with one load of each word
//
// Products of scale and quant are exact in f32, so that a weight is rounded at most once, when its minimum is added.

/** Inputs of a step, and of a block of rounded activations. */
constexpr size_t BLOCK = 32;
constexpr size_t BLOCK_WORDS = BLOCK / 4;

INLINE P halfOf(const uint8_t* block, size_t i) { return panelLoad(reinterpret_cast<const F16*>(block + 2 * PANEL * i)); }

template <size_t HALVES>
INLINE Bytes wordOf(const uint8_t* block, size_t i) {
  return bytesLoad(block + PANEL * (2 * HALVES + 4 * i));
}

template <typename T>
struct Scales {
  static constexpr size_t N = T::ELEMENTS / T::WIDTH;
  P scale[N];
  P minimum[T::HAS_MINIMUM ? N : 1];
};

/** q8_0, q8: | d | N quants | */
template <size_t N>
struct ByteBlocks {
  static constexpr size_t ELEMENTS = N, BYTES = 2 + N, HALVES = 1, HALVES_AT = 0;
  static constexpr size_t WIDTH = N, GROUPS = N / BLOCK, STEPS = 1;
  static constexpr uint32_t FLIP = 0x80808080;
  static constexpr int ZERO = 128, MOST = 255;
  static constexpr bool HAS_MINIMUM = false;

  static constexpr size_t rowWord(size_t i) { return 2 * HALVES + 4 * i; }
  INLINE void scales(const uint8_t* block, Scales<ByteBlocks>& out) { out.scale[0] = halfOf(block, 0); }
  INLINE void quants(const uint8_t* block, size_t group, size_t, Bytes* out) {
    UNROLL for (size_t w = 0; w < BLOCK_WORDS; w++) out[w] = wordOf<HALVES>(block, BLOCK_WORDS * group + w);
  }
};

/** Inputs 0 to 15 of 32 in the low, 16 to 31 in the high nibbles of four words from `first` on. */
template <size_t HALVES>
INLINE void nibblesOf32(const uint8_t* block, size_t first, Bytes* out) {
  UNROLL for (size_t w = 0; w < 4; w++) {
    const Bytes bytes = wordOf<HALVES>(block, first + w);
    out[w] = bitsOf(bytes, 0, 4);
    out[w + 4] = bitsOf(bytes, 4, 4);
  }
}

/** 32 inputs in the low or in the high nibbles of eight words. */
template <size_t HALVES>
INLINE void nibblesOf64(const uint8_t* block, size_t first, int shift, Bytes* out) {
  UNROLL for (size_t w = 0; w < BLOCK_WORDS; w++) out[w] = bitsOf(wordOf<HALVES>(block, first + w), shift, 4);
}

/** q4_0, q4_1, q4: | d | m, if any | N / 2 bytes, input i in the low and i + N / 2 in the high nibbles | */
template <size_t N, size_t NHALVES, int Z>
struct NibbleBlocks {
  static constexpr size_t ELEMENTS = N, BYTES = 2 * NHALVES + N / 2, HALVES = NHALVES, HALVES_AT = 0;
  static constexpr size_t WIDTH = N, GROUPS = 1, STEPS = N / BLOCK;
  static constexpr uint32_t FLIP = 0;
  static constexpr int ZERO = Z, MOST = 15;
  static constexpr bool HAS_MINIMUM = NHALVES == 2;

  static constexpr size_t rowWord(size_t i) { return 2 * HALVES + 4 * i; }
  INLINE void scales(const uint8_t* block, Scales<NibbleBlocks>& out) {
    out.scale[0] = halfOf(block, 0);
    if constexpr (HAS_MINIMUM) out.minimum[0] = halfOf(block, 1);
  }
  INLINE void quants(const uint8_t* block, size_t, size_t step, Bytes* out) {
    if constexpr (N == 32) {
      nibblesOf32<HALVES>(block, 0, out);
    } else {
      nibblesOf64<HALVES>(block, 0, 4 * static_cast<int>(step), out);
    }
  }
  INLINE void bothQuants(const uint8_t* block, Bytes* first, Bytes* second)
    requires(N == 64)
  {
    UNROLL for (size_t w = 0; w < BLOCK_WORDS; w++) {
      const Bytes bytes = wordOf<HALVES>(block, w);
      first[w] = bitsOf(bytes, 0, 4);
      second[w] = bitsOf(bytes, 4, 4);
    }
  }
};

/** nf4, sf4: as q4 without minimum; a nibble is the number of a level (core/blocks.ts of rwkv). Here they have 128 added. */
constexpr uint8_t NF4_LEVELS[16] = {1, 40, 61, 78, 92, 105, 116, 128, 138, 148, 159, 171, 184, 199, 220, 255};
constexpr uint8_t SF4_LEVELS[16] = {1, 48, 70, 86, 98, 109, 118, 128, 136, 145, 154, 164, 176, 190, 211, 255};

template <const uint8_t (&TABLE)[16]>
struct LevelBlocks {
  static constexpr size_t ELEMENTS = 64, BYTES = 34, HALVES = 1, HALVES_AT = 0, WIDTH = 64, GROUPS = 1, STEPS = 2;
  static constexpr uint32_t FLIP = 0;
  static constexpr int ZERO = 128, MOST = 255;
  static constexpr bool HAS_MINIMUM = false;
  static constexpr const uint8_t (&LEVELS)[16] = TABLE;

  static constexpr size_t rowWord(size_t i) { return 2 * HALVES + 4 * i; }
  INLINE void scales(const uint8_t* block, Scales<LevelBlocks>& out) { out.scale[0] = halfOf(block, 0); }
  INLINE void quants(const uint8_t* block, size_t, size_t step, Bytes* out) {
    nibblesOf64<HALVES>(block, 0, 4 * static_cast<int>(step), out);
    UNROLL for (size_t w = 0; w < BLOCK_WORDS; w++) out[w] = lookup(LEVELS, out[w]);
  }
};

/** q5_0, q5_1: | d | m, if any | word of 32 fifth bits | nibbles as q4_0 | */
template <size_t NHALVES, int Z>
struct FiveBitBlocks {
  static constexpr size_t ELEMENTS = 32, BYTES = 2 * NHALVES + 20, HALVES = NHALVES, HALVES_AT = 0;
  static constexpr size_t WIDTH = 32, GROUPS = 1, STEPS = 1;
  static constexpr uint32_t FLIP = 0;
  static constexpr int ZERO = Z, MOST = 31;
  static constexpr bool HAS_MINIMUM = NHALVES == 2;

  static constexpr size_t rowWord(size_t i) { return 2 * HALVES + 4 * i; }
  INLINE void scales(const uint8_t* block, Scales<FiveBitBlocks>& out) {
    out.scale[0] = halfOf(block, 0);
    if constexpr (HAS_MINIMUM) out.minimum[0] = halfOf(block, 1);
  }
  INLINE void quants(const uint8_t* block, size_t, size_t, Bytes* out) {
    const Bytes fifths = wordOf<HALVES>(block, 0);
    nibblesOf32<HALVES>(block, 1, out);
    UNROLL for (size_t w = 0; w < BLOCK_WORDS; w++) out[w] = bytesOr(out[w], sixteensAt(fifths, static_cast<int>(w)));
  }
};

/** Super-blocks of 256. */
struct SuperBlocks {
  static constexpr size_t ELEMENTS = 256, GROUPS = 1, STEPS = 8;
  static constexpr uint32_t FLIP = 0;
};

/** q4_k: | d | dmin | 3 words of 6-bit scales | 4 times 8 words, the low nibbles before the high ones | */
struct Q4K : SuperBlocks {
  static constexpr size_t BYTES = 144, HALVES = 2, HALVES_AT = 0, WIDTH = 32, GROUPS = 4, STEPS = 2;
  static constexpr int ZERO = 0, MOST = 15;
  static constexpr bool HAS_MINIMUM = true;

  static constexpr size_t rowWord(size_t i) { return 2 * HALVES + 4 * i; }
  template <typename T>
  INLINE void scales(const uint8_t* block, Scales<T>& out) {
    const P d = halfOf(block, 0);
    const P minusMin = panelMinus(halfOf(block, 1));
    const Bytes first = wordOf<HALVES>(block, 0);
    const Bytes second = wordOf<HALVES>(block, 1);
    const Bytes third = wordOf<HALVES>(block, 2);
    const Bytes quads[] = {bitsOf(first, 0, 6), bytesOr(bitsOf(third, 0, 4), shifted(bitsOf(first, 6, 2), 4))};
    const Bytes minimumQuads[] = {bitsOf(second, 0, 6), bytesOr(bitsOf(third, 4, 4), shifted(bitsOf(second, 6, 2), 4))};
    UNROLL for (int i = 0; i < 8; i++) {
      out.scale[i] = panelMul(d, byteAt(quads[i / 4], i % 4, 0));
      out.minimum[i] = panelMul(minusMin, byteAt(minimumQuads[i / 4], i % 4, 0));
    }
  }
  INLINE void quants(const uint8_t* block, size_t group, size_t step, Bytes* out) {
    nibblesOf64<HALVES>(block, 3 + BLOCK_WORDS * group, 4 * static_cast<int>(step), out);
  }
};

/** q5_k: q4_k with 8 words of fifth bits after the scales, bit n for the n-th 32 inputs */
struct Q5K : SuperBlocks {
  static constexpr size_t BYTES = 176, HALVES = 2, HALVES_AT = 0, WIDTH = 32;
  static constexpr int ZERO = 0, MOST = 31;
  static constexpr bool HAS_MINIMUM = true;

  static constexpr size_t rowWord(size_t i) { return 2 * HALVES + 4 * i; }
  INLINE void scales(const uint8_t* block, Scales<Q5K>& out) { Q4K::scales(block, out); }
  INLINE void quants(const uint8_t* block, size_t, size_t step, Bytes* out) {
    nibblesOf64<HALVES>(block, 11 + BLOCK_WORDS * (step / 2), 4 * static_cast<int>(step % 2), out);
    UNROLL for (size_t w = 0; w < BLOCK_WORDS; w++) {
      out[w] = bytesOr(out[w], shifted(bitsOf(wordOf<HALVES>(block, 3 + w), static_cast<int>(step), 1), 4));
    }
  }
};

/**
 * q6_k: | d | 4 words of signed scales | 2 times: 8 words of low bits, 8 of high bits, 8 of low bits |
 * The order in which they are wanted: a processor looks ahead along one stream. In rows: all low, all high, scales, d.
 */
struct Q6K : SuperBlocks {
  static constexpr size_t BYTES = 210, HALVES = 1, HALVES_AT = 208, WIDTH = 16, GROUPS = 2, STEPS = 4;
  static constexpr int ZERO = 32, MOST = 63;
  static constexpr bool HAS_MINIMUM = false;

  static constexpr size_t rowWord(size_t i) {
    if (i < 4) return 192 + 4 * i;
    const size_t half = (i - 4) / 24, piece = (i - 4) / 8 % 3, within = 4 * ((i - 4) % 8);
    return piece == 1 ? 128 + 32 * half + within : 64 * half + 16 * piece + within;
  }
  INLINE void scales(const uint8_t* block, Scales<Q6K>& out) {
    const P d = halfOf(block, 0);
    UNROLL for (size_t i = 0; i < 16; i++) {
      out.scale[i] = panelMul(d, byteAt(flipped(wordOf<HALVES>(block, i / 4)), static_cast<int>(i % 4), 128));
    }
  }
  INLINE void quants(const uint8_t* block, size_t group, size_t step, Bytes* out) {
    nibblesOf64<HALVES>(block, 4 + 24 * group + 16 * (step % 2), 4 * static_cast<int>(step / 2), out);
    UNROLL for (size_t w = 0; w < BLOCK_WORDS; w++) {
      const Bytes high = bitsOf(wordOf<HALVES>(block, 12 + 24 * group + w), 2 * static_cast<int>(step), 2);
      out[w] = bytesOr(out[w], shifted(high, 4));
    }
  }
};

/** q2_k: | d | dmin | 4 words of scales, low, and minimums, high | 2 times 8 words, 2 bits for each 32 inputs | */
struct Q2K : SuperBlocks {
  static constexpr size_t BYTES = 84, HALVES = 2, HALVES_AT = 80, WIDTH = 16, GROUPS = 2, STEPS = 4;
  static constexpr int ZERO = 0, MOST = 3;
  static constexpr bool HAS_MINIMUM = true;

  static constexpr size_t rowWord(size_t i) { return 4 * i; }
  INLINE void scales(const uint8_t* block, Scales<Q2K>& out) {
    const P d = halfOf(block, 0);
    const P minusMin = panelMinus(halfOf(block, 1));
    UNROLL for (size_t i = 0; i < 16; i++) {
      const Bytes both = wordOf<HALVES>(block, i / 4);
      out.scale[i] = panelMul(d, byteAt(bitsOf(both, 0, 4), static_cast<int>(i % 4), 0));
      out.minimum[i] = panelMul(minusMin, byteAt(bitsOf(both, 4, 4), static_cast<int>(i % 4), 0));
    }
  }
  INLINE void quants(const uint8_t* block, size_t group, size_t step, Bytes* out) {
    UNROLL for (size_t w = 0; w < BLOCK_WORDS; w++) {
      out[w] = bitsOf(wordOf<HALVES>(block, 4 + BLOCK_WORDS * group + w), 2 * static_cast<int>(step), 2);
    }
  }
};

/** q3_k: | d | 3 words of 6-bit scales | 8 words of third bits | quants as q2_k |, in rows scales and d last */
struct Q3K : SuperBlocks {
  static constexpr size_t BYTES = 110, HALVES = 1, HALVES_AT = 108, WIDTH = 16;
  static constexpr int ZERO = 4, MOST = 7;
  static constexpr bool HAS_MINIMUM = false;

  static constexpr size_t rowWord(size_t i) { return i < 3 ? 96 + 4 * i : 4 * (i - 3); }
  INLINE void scales(const uint8_t* block, Scales<Q3K>& out) {
    const P d = halfOf(block, 0);
    const Bytes tops = wordOf<HALVES>(block, 2);
    UNROLL for (size_t i = 0; i < 16; i++) {
      const int quad = static_cast<int>(i / 4);
      const Bytes low = bitsOf(wordOf<HALVES>(block, i / 4 % 2), 4 * (quad / 2), 4);
      const Bytes scale = bytesOr(low, shifted(bitsOf(tops, 2 * quad, 2), 4));
      out.scale[i] = panelMul(d, byteAt(scale, static_cast<int>(i % 4), 32));
    }
  }
  INLINE void quants(const uint8_t* block, size_t, size_t step, Bytes* out) {
    UNROLL for (size_t w = 0; w < BLOCK_WORDS; w++) {
      const Bytes quads = wordOf<HALVES>(block, 11 + BLOCK_WORDS * (step / 4) + w);
      const Bytes low = bitsOf(quads, 2 * static_cast<int>(step % 4), 2);
      const Bytes third = bitsOf(wordOf<HALVES>(block, 3 + w), static_cast<int>(step), 1);
      out[w] = bytesOr(low, shifted(third, 2));
    }
  }
};

/** Calls f(T{}) with the block type of a quantised dtype. */
template <typename F>
INLINE void withBlocks(uint32_t dtype, F f) {
  switch (dtype) {
    case abi::DTYPE_Q8_0:
      return f(ByteBlocks<32>{});
    case abi::DTYPE_Q8:
      return f(ByteBlocks<64>{});
    case abi::DTYPE_Q4_0:
      return f(NibbleBlocks<32, 1, 8>{});
    case abi::DTYPE_Q4_1:
      return f(NibbleBlocks<32, 2, 0>{});
    case abi::DTYPE_Q4:
      return f(NibbleBlocks<64, 2, 0>{});
    case abi::DTYPE_NF4:
      return f(LevelBlocks<NF4_LEVELS>{});
    case abi::DTYPE_SF4:
      return f(LevelBlocks<SF4_LEVELS>{});
    case abi::DTYPE_Q5_0:
      return f(FiveBitBlocks<1, 16>{});
    case abi::DTYPE_Q5_1:
      return f(FiveBitBlocks<2, 0>{});
    case abi::DTYPE_Q2_K:
      return f(Q2K{});
    case abi::DTYPE_Q3_K:
      return f(Q3K{});
    case abi::DTYPE_Q4_K:
      return f(Q4K{});
    case abi::DTYPE_Q5_K:
      return f(Q5K{});
    case abi::DTYPE_Q6_K:
      return f(Q6K{});
    default:
      __builtin_trap();
  }
}
