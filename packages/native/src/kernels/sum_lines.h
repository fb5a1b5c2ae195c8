// A plain read of memory, by which its bandwidth is measured (bandwidth.h).

/** A cache line; the compiler splits it into the vectors that the set has. */
typedef uint64_t Line __attribute__((vector_size(CACHE_LINE)));

/** Two sums, so that no load waits for the addition before it, and all of them fit into registers. */
static uint64_t sumLines(const char* bytes, size_t byteLength) {
  const auto* lines = reinterpret_cast<const Line*>(bytes);
  const size_t nLines = byteLength / CACHE_LINE;
  Line even = {};
  Line odd = {};
  for (size_t i = 0; i + 2 <= nLines; i += 2) {
    even += lines[i];
    odd += lines[i + 1];
  }
  if (nLines % 2 == 1) even += lines[nLines - 1];
  const Line both = even + odd;
  uint64_t total = 0;
  for (int i = 0; i < 8; i++) total += both[i];
  return total;
}
