// From rows to panels of 16 outputs, each panel in the place of its rows. The order is drawn in core/layout.ts of rwkv.

template <typename T>
static void packPlain(T* panel, const T* rows, size_t nIn) {
  // A few inputs at a time, so that the lines of all rows are still there for the next ones.
  for (size_t k = 0; k < nIn; k++) {
    for (size_t r = 0; r < PANEL; r++) panel[k * PANEL + r] = rows[r * nIn + k];
  }
}

/** The f16 fields, then the words, of each block of the 16 rows. */
template <typename T>
static void packBlocks(char* panel, const char* rows, size_t rowBytes) {
  constexpr size_t FIELD_BYTES = 2 * T::HALVES;
  constexpr size_t N_WORDS = (T::BYTES - FIELD_BYTES) / 4;
  for (size_t at = 0; at < rowBytes; at += T::BYTES, panel += PANEL * T::BYTES) {
    for (size_t r = 0; r < PANEL; r++) {
      const char* block = rows + r * rowBytes + at;
      for (size_t half = 0; half < T::HALVES; half++) {
        __builtin_memcpy(panel + 2 * (half * PANEL + r), block + T::HALVES_AT + 2 * half, 2);
      }
      for (size_t word = 0; word < N_WORDS; word++) {
        const uint32_t bytes = wordAt(block, T::rowWord(word)) ^ T::FLIP;
        __builtin_memcpy(panel + PANEL * FIELD_BYTES + 4 * (word * PANEL + r), &bytes, 4);
      }
    }
  }
}

static void packPanels(char* bytes, uint32_t dtype, size_t nOut, size_t nIn, size_t rowBytes) {
  const size_t panelBytes = PANEL * rowBytes;
  char* rows = static_cast<char*>(__builtin_malloc(panelBytes));
  for (size_t o = 0; o < nOut; o += PANEL, bytes += panelBytes) {
    const size_t nRows = nOut - o < PANEL ? nOut - o : PANEL;
    __builtin_memcpy(rows, bytes, nRows * rowBytes);
    __builtin_memset(rows + nRows * rowBytes, 0, (PANEL - nRows) * rowBytes);
    switch (dtype) {
      case abi::DTYPE_F32:
        packPlain(reinterpret_cast<float*>(bytes), reinterpret_cast<const float*>(rows), nIn);
        break;
      case abi::DTYPE_F16:
      case abi::DTYPE_BF16:
        packPlain(reinterpret_cast<uint16_t*>(bytes), reinterpret_cast<const uint16_t*>(rows), nIn);
        break;
      default:
        withBlocks(dtype, [&]<typename T>(T) { packBlocks<T>(bytes, rows, rowBytes); });
    }
  }
  __builtin_free(rows);
}

/** From LAYOUT_ROWS to another one. */
static void pack(char* bytes, uint32_t layout, uint32_t dtype, size_t nOut, size_t nIn, size_t rowBytes) {
  if (layout == abi::LAYOUT_COLUMNS) {
    packColumns(bytes, dtype, nOut, nIn, rowBytes);
  } else {
    packPanels(bytes, dtype, nOut, nIn, rowBytes);
  }
}
