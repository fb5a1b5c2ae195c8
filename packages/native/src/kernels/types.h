// Types of two bytes, told apart so that loads can be overloaded, and words at any address.

struct F16 {
  uint16_t bits;
};
struct Bf16 {
  uint16_t bits;
};

INLINE uint32_t wordAt(const char* p, size_t offset) {
  uint32_t word;
  __builtin_memcpy(&word, p + offset, sizeof word);
  return word;
}

/** Of a power of two. */
constexpr int log2Of(int n) { return n < 2 ? 0 : 1 + log2Of(n / 2); }
