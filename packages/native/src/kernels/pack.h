// From rows to panels of 16 outputs, each panel in the place of its rows. The order is drawn in core/layout.ts of rwkv.

constexpr size_t Q8_0_BYTES = 34;
constexpr size_t Q4_0_BYTES = 18;

template <typename T>
static void packPlain(T* panel, const T* rows, size_t nIn) {
  // A few inputs at a time, so that the lines of all rows are still there for the next ones.
  for (size_t k = 0; k < nIn; k++) {
    for (size_t r = 0; r < PANEL; r++) panel[k * PANEL + r] = rows[r * nIn + k];
  }
}

static void packBlocks(char* panel, const char* rows, size_t rowBytes, size_t blockBytes, uint32_t flip) {
  const size_t nWords = (blockBytes - 2) / 4;
  for (size_t at = 0; at < rowBytes; at += blockBytes) {
    for (size_t r = 0; r < PANEL; r++) {
      const char* block = rows + r * rowBytes + at;
      __builtin_memcpy(panel + 2 * r, block, 2);
      for (size_t word = 0; word < nWords; word++) {
        const uint32_t bytes = wordAt(block, 2 + 4 * word) ^ flip;
        __builtin_memcpy(panel + 2 * PANEL + 4 * (word * PANEL + r), &bytes, 4);
      }
    }
    panel += PANEL * blockBytes;
  }
}

static void pack(char* bytes, uint32_t, uint32_t dtype, size_t nOut, size_t nIn, size_t rowBytes) {
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
      case abi::DTYPE_Q8_0:
        packBlocks(bytes, rows, rowBytes, Q8_0_BYTES, 0x80808080);
        break;
      case abi::DTYPE_Q4_0:
        packBlocks(bytes, rows, rowBytes, Q4_0_BYTES, 0);
        break;
      default:
        packPlain(reinterpret_cast<uint16_t*>(bytes), reinterpret_cast<const uint16_t*>(rows), nIn);
    }
  }
  __builtin_free(rows);
}
