// Products of many rows with a matrix in columns: the outputs of a few panels at a time are brought into panels, in this
// thread's scratch, where the kernels of matmul.h and matmul_int8.h read them, whose bits they are.

/** Inputs ahead of those that are copied whose rows are asked for: each is a line or two far from the others. */
constexpr size_t GATHER_AHEAD = 64;

template <typename T>
static void gatherPanels(char* panels, const PlainColumns<T>& columns, size_t segment, size_t nIn) {
  auto* to = reinterpret_cast<T*>(panels);
  for (size_t k = 0; k < nIn; k++, to += PANEL) {
    const T* row = columns.row(k, segment);
    askFor(columns.row(k + GATHER_AHEAD, segment), SEGMENT * sizeof(T));
    UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) {
      __builtin_memcpy(to + p * nIn * PANEL, row + p * PANEL, PANEL * sizeof(T));
    }
  }
}

/** Rows k to k + 3 of a segment, in the words of its panels. */
template <typename C>
INLINE void fourRows(Bytes words[SEGMENT_PANELS], const C& columns, size_t segment, size_t k) {
  const uint8_t* rows[4];
  UNROLL for (size_t i = 0; i < 4; i++) {
    rows[i] = columns.row(k + i, segment);
    askFor(columns.row(k + i + GATHER_AHEAD, segment), C::SEGMENT_BYTES);
  }
  constexpr size_t PANELS = INTERLEAVED<C::HAS_NIBBLES>;
  UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p += PANELS) {
    interleave<C::HAS_NIBBLES>(words + p, rows, p / PANELS * (C::SEGMENT_BYTES / (SEGMENT_PANELS / PANELS)));
    inOrder<C::HAS_NIBBLES>(words + p);
  }
}

template <typename C>
static void gatherPanels(char* panels, const C& columns, size_t segment, size_t nIn) {
  const size_t panelBytes = nIn / C::INPUTS * C::Blocks::BYTES * PANEL;
  for (size_t block = 0; block < nIn; block += C::INPUTS) {
    const F16* fields = columns.scales(block) + segment * SEGMENT;
    for (size_t field = 0; field < C::FIELD_BYTES; field += 2, fields += columns.nPadded, panels += 2 * PANEL) {
      for (size_t p = 0; p < SEGMENT_PANELS; p++) {
        __builtin_memcpy(panels + p * panelBytes, fields + p * PANEL, 2 * PANEL);
      }
    }
    // A byte of 4-bit quants holds one of the first and one of the second half of the block.
    constexpr size_t HALF = C::HAS_NIBBLES ? C::INPUTS / 2 : C::INPUTS;
    for (size_t k = block; k < block + HALF; k += 4, panels += 4 * PANEL) {
      Bytes words[SEGMENT_PANELS];
      fourRows(words, columns, segment, k);
      if constexpr (C::HAS_NIBBLES) {
        Bytes high[SEGMENT_PANELS];
        fourRows(high, columns, segment, k + HALF);
        UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) words[p] = bytesOr(words[p], shifted(high[p], 4));
      }
      UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) bytesStore(panels + p * panelBytes, words[p]);
    }
  }
}

/** The thread with its scratch behind the panels of a segment. */
INLINE Thread behindPanels(const Product& product, const Thread& thread) {
  Thread behind = thread;
  behind.own += SEGMENT * product.rowBytes;
  return behind;
}

/** Calls multiply(product, thread) for the panels of each segment. */
template <typename C, typename F>
static void multiplyGathered(const Product& product, const C& columns, const Thread& thread, F multiply) {
  const Thread behind = behindPanels(product, thread);
  for (size_t o = product.outputs.first; o < product.outputs.end; o += SEGMENT) {
    gatherPanels(thread.own, columns, o / SEGMENT, product.nIn);
    const size_t nLeft = product.outputs.end - o;
    Product part = product;
    part.w = thread.own;
    part.outputs = {0, nLeft < SEGMENT ? nLeft : SEGMENT};
    part.out += o;
    if (part.bias != nullptr) part.bias += o;
    multiply(part, behind);
  }
}
