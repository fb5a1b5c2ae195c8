// Rows of quantised blocks to f32, with the very bits of core/blocks.ts of rwkv, where the layouts are drawn. Products of
// scale and quant are exact in f32, so that every value is rounded at most once, when its minimum is added.

constexpr size_t BLOCK = 32;
constexpr size_t OWN_BLOCK = 64;
constexpr size_t SUPER_BLOCK = 256;

INLINE float f16At(const uint8_t* p) {
  uint16_t bits;
  __builtin_memcpy(&bits, p, sizeof bits);
  return fromF16(bits);
}

static void decodeQ4_1(float* out, const uint8_t* p) {
  const float d = f16At(p), m = f16At(p + 2);
  for (size_t j = 0; j < 16; j++) {
    out[j] = d * static_cast<float>(p[4 + j] & 15) + m;
    out[j + 16] = d * static_cast<float>(p[4 + j] >> 4) + m;
  }
}

/** The fifth bits of elements 0 to 31, each in a word. */
INLINE void fifthBits(int32_t fifths[BLOCK], const uint8_t* p) {
  const uint32_t high = wordAt(reinterpret_cast<const char*>(p), 0);
  for (size_t j = 0; j < BLOCK; j++) fifths[j] = static_cast<int32_t>((high >> j & 1) << 4);
}

static void decodeQ5_0(float* out, const uint8_t* p) {
  const float d = f16At(p);
  int32_t fifths[BLOCK];
  fifthBits(fifths, p + 2);
  for (size_t j = 0; j < 16; j++) {
    out[j] = d * static_cast<float>(((p[6 + j] & 15) | fifths[j]) - 16);
    out[j + 16] = d * static_cast<float>(((p[6 + j] >> 4) | fifths[j + 16]) - 16);
  }
}

static void decodeQ5_1(float* out, const uint8_t* p) {
  const float d = f16At(p), m = f16At(p + 2);
  int32_t fifths[BLOCK];
  fifthBits(fifths, p + 4);
  for (size_t j = 0; j < 16; j++) {
    out[j] = d * static_cast<float>((p[8 + j] & 15) | fifths[j]) + m;
    out[j + 16] = d * static_cast<float>((p[8 + j] >> 4) | fifths[j + 16]) + m;
  }
}

static void decodeQ2K(float* out, const uint8_t* p) {
  const float d = f16At(p + 80), dmin = f16At(p + 82);
  for (size_t sub = 0; sub < 16; sub++) {
    const float scale = d * static_cast<float>(p[sub] & 15);
    const float minimum = dmin * static_cast<float>(p[sub] >> 4);
    const uint8_t* quants = p + 16 + 32 * (sub >> 3) + 16 * (sub & 1);
    const int shift = sub & 6;
    for (size_t l = 0; l < 16; l++) out[16 * sub + l] = scale * static_cast<float>(quants[l] >> shift & 3) - minimum;
  }
}

static void decodeQ3K(float* out, const uint8_t* p) {
  const float d = f16At(p + 108);
  for (size_t sub = 0; sub < 16; sub++) {
    const int low = p[96 + (sub & 7)] >> (4 * (sub >> 3)) & 15;
    const int top = p[104 + (sub & 3)] >> (2 * (sub >> 2)) & 3;
    const float scale = d * static_cast<float>((low | top << 4) - 32);
    const uint8_t* high = p + 16 * (sub & 1);
    const uint8_t* quants = p + 32 + 32 * (sub >> 3) + 16 * (sub & 1);
    const int shift = sub & 6;
    const int highBit = static_cast<int>(sub >> 1);
    for (size_t l = 0; l < 16; l++) {
      const int q = (quants[l] >> shift & 3) + 4 * (high[l] >> highBit & 1) - 4;
      out[16 * sub + l] = scale * static_cast<float>(q);
    }
  }
}

/** 6-bit scale of sub-block `sub` out of the 12 bytes at `s` that q4_k and q5_k share. */
INLINE float scaleK4(const uint8_t* s, size_t sub) {
  return static_cast<float>(sub < 4 ? s[sub] & 63 : (s[sub + 4] & 15) | (s[sub - 4] >> 6) << 4);
}
/** 6-bit minimum of sub-block `sub`, likewise. */
INLINE float minimumK4(const uint8_t* s, size_t sub) {
  return static_cast<float>(sub < 4 ? s[sub + 4] & 63 : s[sub + 4] >> 4 | (s[sub] >> 6) << 4);
}

static void decodeQ4K(float* out, const uint8_t* p) {
  const float d = f16At(p), dmin = f16At(p + 2);
  for (size_t sub = 0; sub < 8; sub++) {
    const float scale = d * scaleK4(p + 4, sub);
    const float minimum = dmin * minimumK4(p + 4, sub);
    const uint8_t* quants = p + 16 + 32 * (sub >> 1);
    const int shift = 4 * (sub & 1);
    for (size_t l = 0; l < 32; l++) out[32 * sub + l] = scale * static_cast<float>(quants[l] >> shift & 15) - minimum;
  }
}

static void decodeQ5K(float* out, const uint8_t* p) {
  const float d = f16At(p), dmin = f16At(p + 2);
  for (size_t sub = 0; sub < 8; sub++) {
    const float scale = d * scaleK4(p + 4, sub);
    const float minimum = dmin * minimumK4(p + 4, sub);
    const uint8_t* high = p + 16;
    const uint8_t* quants = p + 48 + 32 * (sub >> 1);
    const int shift = 4 * (sub & 1);
    const int highBit = static_cast<int>(sub);
    for (size_t l = 0; l < 32; l++) {
      const int q = (quants[l] >> shift & 15) | (high[l] >> highBit & 1) << 4;
      out[32 * sub + l] = scale * static_cast<float>(q) - minimum;
    }
  }
}

static void decodeQ6K(float* out, const uint8_t* p) {
  const float d = f16At(p + 208);
  for (size_t sub = 0; sub < 16; sub++) {
    const float scale = d * static_cast<float>(static_cast<int8_t>(p[192 + sub]));
    const size_t half = sub >> 3;
    const size_t n = sub >> 1 & 3;
    const uint8_t* low = p + 64 * half + 32 * (n & 1) + 16 * (sub & 1);
    const uint8_t* high = p + 128 + 32 * half + 16 * (sub & 1);
    const int shift = static_cast<int>(4 * (n >> 1));
    const int highShift = static_cast<int>(2 * n);
    for (size_t l = 0; l < 16; l++) {
      const int q = ((low[l] >> shift & 15) | (high[l] >> highShift & 3) << 4) - 32;
      out[16 * sub + l] = scale * static_cast<float>(q);
    }
  }
}

static void decodeQ8(float* out, const uint8_t* p) {
  const float d = f16At(p);
  for (size_t j = 0; j < 64; j++) out[j] = d * static_cast<float>(static_cast<int8_t>(p[2 + j]));
}

static void decodeQ4(float* out, const uint8_t* p) {
  const float d = f16At(p), m = f16At(p + 2);
  for (size_t j = 0; j < 32; j++) {
    out[j] = d * static_cast<float>(p[4 + j] & 15) + m;
    out[j + 32] = d * static_cast<float>(p[4 + j] >> 4) + m;
  }
}

constexpr int8_t NF4_LEVELS[16] = {-127, -88, -67, -50, -36, -23, -12, 0, 10, 20, 31, 43, 56, 71, 92, 127};

static void decodeNf4(float* out, const uint8_t* p) {
  const float d = f16At(p);
  for (size_t j = 0; j < 32; j++) {
    out[j] = d * static_cast<float>(NF4_LEVELS[p[2 + j] & 15]);
    out[j + 32] = d * static_cast<float>(NF4_LEVELS[p[2 + j] >> 4]);
  }
}

template <typename F>
INLINE void decodeBlocks(float* out, const uint8_t* row, size_t n, size_t elements, size_t bytes, F decode) {
  for (size_t i = 0; i < n; i += elements, row += bytes) decode(out + i, row);
}

/** A row of a type whose rows are kept as they are stored. */
static void decodeRow(uint32_t dtype, float* out, const uint8_t* row, size_t n) {
  switch (dtype) {
    case abi::DTYPE_Q4_1:
      return decodeBlocks(out, row, n, BLOCK, 20, decodeQ4_1);
    case abi::DTYPE_Q5_0:
      return decodeBlocks(out, row, n, BLOCK, 22, decodeQ5_0);
    case abi::DTYPE_Q5_1:
      return decodeBlocks(out, row, n, BLOCK, 24, decodeQ5_1);
    case abi::DTYPE_Q2_K:
      return decodeBlocks(out, row, n, SUPER_BLOCK, 84, decodeQ2K);
    case abi::DTYPE_Q3_K:
      return decodeBlocks(out, row, n, SUPER_BLOCK, 110, decodeQ3K);
    case abi::DTYPE_Q4_K:
      return decodeBlocks(out, row, n, SUPER_BLOCK, 144, decodeQ4K);
    case abi::DTYPE_Q5_K:
      return decodeBlocks(out, row, n, SUPER_BLOCK, 176, decodeQ5K);
    case abi::DTYPE_Q6_K:
      return decodeBlocks(out, row, n, SUPER_BLOCK, 210, decodeQ6K);
    case abi::DTYPE_Q8:
      return decodeBlocks(out, row, n, OWN_BLOCK, 66, decodeQ8);
    case abi::DTYPE_Q4:
      return decodeBlocks(out, row, n, OWN_BLOCK, 36, decodeQ4);
    case abi::DTYPE_NF4:
      return decodeBlocks(out, row, n, OWN_BLOCK, 34, decodeNf4);
    default:
      __builtin_trap();
  }
}
