// From rows to columns (core/layout.ts of rwkv), a segment of outputs at a time, so that its lines of the matrix stay in
// the nearest cache while they are filled.

template <typename T>
static void packColumns(const PlainColumns<T>& columns, const char* rows, size_t nOut, size_t nIn) {
  constexpr size_t INPUTS = 16;
  char* packed = const_cast<char*>(columns.w);
  for (size_t k = 0; k < nIn; k += INPUTS) {
    const size_t n = nIn - k < INPUTS ? nIn - k : INPUTS;
    for (size_t o = 0; o < columns.nPadded; o++) {
      for (size_t i = 0; i < n; i++) {
        T weight{};
        if (o < nOut) __builtin_memcpy(&weight, rows + (o * nIn + k + i) * sizeof(T), sizeof weight);
        __builtin_memcpy(packed + ((k + i) * columns.nPadded + o) * sizeof(T), &weight, sizeof weight);
      }
    }
  }
}

template <typename T>
static void packColumns(const BlockColumns<T>& columns, const char* rows, size_t nOut, size_t nIn) {
  using C = BlockColumns<T>;
  constexpr uint8_t FLIP = C::HAS_NIBBLES ? 0 : 128;
  constexpr size_t HALF = C::INPUTS / 2;
  const size_t nBlocks = nIn / C::INPUTS;
  const char zeros[T::BYTES] = {};
  for (size_t b = 0; b < nBlocks; b++) {
    const auto blockOf = [&](size_t o) { return o < nOut ? rows + (o * nBlocks + b) * T::BYTES : zeros; };
    char* fields = const_cast<char*>(columns.block(b * C::INPUTS));
    for (size_t s = 0; s < columns.nPadded / SEGMENT; s++) {
      const char* blocks[SEGMENT];
      for (size_t o = 0; o < SEGMENT; o++) {
        blocks[o] = blockOf(s * SEGMENT + o);
        for (size_t field = 0; field < T::HALVES; field++) {
          __builtin_memcpy(fields + 2 * (field * columns.nPadded + s * SEGMENT + o), blocks[o] + 2 * field, 2);
        }
        blocks[o] += C::FIELD_BYTES;
      }
      for (size_t i = 0; i < C::INPUTS; i++) {
        auto* row = const_cast<uint8_t*>(columns.row(b * C::INPUTS + i, s));
        for (size_t at = 0; at < C::SEGMENT_BYTES; at++) {
          if constexpr (C::HAS_NIBBLES) {
            const int shift = i < HALF ? 0 : 4;
            const int low = static_cast<uint8_t>(blocks[at][i % HALF]) >> shift & 15;
            const int high = static_cast<uint8_t>(blocks[at + SEGMENT / 2][i % HALF]) >> shift & 15;
            row[at] = static_cast<uint8_t>(low | high << 4);
          } else {
            row[at] = static_cast<uint8_t>(blocks[at][i]) ^ FLIP;
          }
        }
      }
    }
  }
}

/** The rows are put aside meanwhile: every output meets every line of the result. */
static void packColumns(char* bytes, uint32_t dtype, size_t nOut, size_t nIn, size_t rowBytes) {
  char* rows = static_cast<char*>(__builtin_malloc(nOut * rowBytes));
  __builtin_memcpy(rows, bytes, nOut * rowBytes);
  const size_t nPadded = paddedOutputs(nOut);
  switch (dtype) {
    case abi::DTYPE_F32:
      packColumns(PlainColumns<float>{bytes, nPadded}, rows, nOut, nIn);
      break;
    case abi::DTYPE_F16:
    case abi::DTYPE_BF16:
      packColumns(PlainColumns<F16>{bytes, nPadded}, rows, nOut, nIn);
      break;
    default:
      withBlocks(dtype, [&]<typename T>(T) {
        if constexpr (HAS_COLUMNS<T>) packColumns(BlockColumns<T>{bytes, nPadded}, rows, nOut, nIn);
      });
  }
  __builtin_free(rows);
}
