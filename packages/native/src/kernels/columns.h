// Products with a matrix in columns (core/layout.ts of rwkv) for a few rows of x that are mostly zero: the inputs that
// are not zero in all of them are listed once, and nothing is read of the others. Sums have the order, and so the bits, of matmul.h:
//
//   plain types, and blocks with f32 activations   over the inputs in increasing order, each step one fused multiply-add
//   blocks, int8 activations                       over blocks of 32 inputs in increasing order:
//                                                  acc = fma(d * s, exact sum, acc); acc = fma(m, s * sum of x, acc)
//
// A term of zero changes no sum but the sign of a zero, which finished sums are rid of. Each thread lists for itself what
// its outputs need, so that nobody waits; sums lie in its nearest cache while rows of the matrix pass by.

/** Outputs that are worked on together. */
constexpr size_t SEGMENT = 64;
constexpr size_t SEGMENT_PANELS = SEGMENT / PANEL;
/** Bytes of this thread's part of the matrix that are asked for ahead of their use. */
constexpr size_t COLUMN_AHEAD = 16384;
/** Rows that those are at most. */
constexpr size_t MOST_AHEAD = 64;
/** Blocks with listed inputs whose fields are asked for ahead. */
constexpr size_t BLOCKS_AHEAD = 4;
/** What a list has behind the inputs of all blocks: room to fill up the last four, and for `endList`. */
constexpr size_t LIST_END = 4 + MOST_AHEAD + BLOCK;

INLINE size_t paddedOutputs(size_t nOut) { return (nOut + SEGMENT - 1) / SEGMENT * SEGMENT; }

/** Blocks whose quants are bytes, or nibbles of the first and the second half of a block. */
template <typename T>
constexpr bool HAS_COLUMNS = false;
template <size_t N>
constexpr bool HAS_COLUMNS<ByteBlocks<N>> = true;
template <size_t N, size_t NHALVES, int Z>
constexpr bool HAS_COLUMNS<NibbleBlocks<N, NHALVES, Z>> = true;
template <const uint8_t (&TABLE)[16]>
constexpr bool HAS_COLUMNS<LevelBlocks<TABLE>> = true;

/** Blocks of type T (panel_blocks.h). */
template <typename T>
struct BlockColumns {
  using Blocks = T;
  static constexpr size_t INPUTS = T::ELEMENTS;
  static constexpr size_t FIELD_BYTES = 2 * T::HALVES;
  static constexpr bool HAS_NIBBLES = T::BYTES < FIELD_BYTES + INPUTS;
  /** Of an input, for a segment of outputs. */
  static constexpr size_t SEGMENT_BYTES = HAS_NIBBLES ? SEGMENT / 2 : SEGMENT;

  const char* w;
  size_t nPadded;

  /** The fields of the block of input k, for all outputs. */
  const char* block(size_t k) const { return w + k / INPUTS * nPadded * T::BYTES; }
  const F16* scales(size_t k) const { return reinterpret_cast<const F16*>(block(k)); }
  const F16* minimums(size_t k) const { return scales(k) + nPadded; }
  /** The quants of input k from a segment on. */
  const uint8_t* row(size_t k, size_t segment) const {
    const char* quants = block(k) + FIELD_BYTES * nPadded;
    return reinterpret_cast<const uint8_t*>(quants) + (k % INPUTS * (nPadded / SEGMENT) + segment) * SEGMENT_BYTES;
  }
};

template <typename T>
struct PlainColumns {
  static constexpr size_t INPUTS = 1;
  static constexpr size_t FIELD_BYTES = 0;
  static constexpr size_t SEGMENT_BYTES = SEGMENT * sizeof(T);

  const char* w;
  size_t nPadded;

  const char* block(size_t k) const { return w + k * nPadded * sizeof(T); }
  const T* row(size_t k, size_t segment) const { return reinterpret_cast<const T*>(block(k)) + segment * SEGMENT; }
};

/** The segments of a thread. */
struct Segments {
  size_t first;
  size_t n;
};

INLINE Segments segmentsOf(const Range& outputs) {
  return {outputs.first / SEGMENT, (outputs.length() + SEGMENT - 1) / SEGMENT};
}

/** Inputs that are not zero in all rows. */
struct ActiveInputs {
  uint32_t* inputs;
  size_t n;
  /** Zeros of all rows. */
  size_t nZeros;
};

/** Rows of up to N listed inputs that are asked for while others are used, a segment at a time. */
template <size_t N, typename C>
struct RowsAhead {
  const char* rows[N];

  /** The rows that follow `distance` behind `inputs`. */
  RowsAhead(const C& columns, const Segments& segments, const uint32_t* inputs, size_t n = N) {
    const uint32_t* ahead = inputs + distance(segments);
    for (size_t i = 0; i < n; i++) rows[i] = reinterpret_cast<const char*>(columns.row(ahead[i], segments.first));
  }

  /** Twice for each line that two segments of nibbles share: leaving one out takes longer. */
  void ask(size_t segment, size_t n = N) const {
    for (size_t i = 0; i < n; i++) askFor(rows[i] + segment * C::SEGMENT_BYTES, C::SEGMENT_BYTES);
  }

  static size_t distance(const Segments& segments) {
    const size_t n = 1 + COLUMN_AHEAD / (segments.n * C::SEGMENT_BYTES);
    return n < MOST_AHEAD ? n : MOST_AHEAD;
  }
};

/** The fields of the block of input k. */
template <typename C>
INLINE void askForFields(const C& columns, const Segments& segments, size_t k) {
  for (size_t field = 0; field < C::FIELD_BYTES; field += 2) {
    askFor(columns.block(k) + field * columns.nPadded + 2 * SEGMENT * segments.first, 2 * SEGMENT * segments.n);
  }
}

/** Ends a list for RowsAhead, and asks for the rows that it begins with. */
template <typename C>
INLINE void endList(const C& columns, const Segments& segments, uint32_t* inputs, size_t n) {
  for (size_t i = 0; i < MOST_AHEAD + BLOCK; i++) inputs[n + i] = n > 0 ? inputs[n - 1] : 0;
  for (size_t i = 0; i < RowsAhead<1, C>::distance(segments); i++) {
    askFor(columns.row(inputs[i], segments.first), segments.n * C::SEGMENT_BYTES);
  }
}

/** One to COLUMN_ROWS rows of x that are worked on together, and their sums. */
template <size_t ROWS>
struct ColumnRows {
  const float* x;
  size_t xStride;
  float* sums;
  size_t sumsStride;

  /** The sums of a segment of this thread, of one row. */
  float* sumsAt(size_t row, size_t segment) const { return sums + row * sumsStride + segment * SEGMENT; }
};

/** @param inputs room for all of them and LIST_END */
template <size_t ROWS>
static ActiveInputs listActive(uint32_t* inputs, const ColumnRows<ROWS>& rows, size_t nIn) {
  size_t n = 0;
  size_t nActive = 0;
  if constexpr (ROWS == 1) {
    forVectors(nIn, [&](size_t k, size_t nHere) {
      n += listNonZero(inputs + n, loadUpTo(rows.x + k, nHere), static_cast<uint32_t>(k));
    });
    return {inputs, n, nIn - n};
  }
  for (size_t k = 0; k < nIn; k++) {
    size_t nHere = 0;
    for (size_t r = 0; r < ROWS; r++) nHere += rows.x[r * rows.xStride + k] != 0;
    inputs[n] = static_cast<uint32_t>(k);
    n += nHere != 0;
    nActive += nHere;
  }
  return {inputs, n, ROWS * nIn - nActive};
}

template <size_t ROWS>
INLINE void loadSums(P acc[ROWS][SEGMENT_PANELS], const ColumnRows<ROWS>& rows, size_t segment) {
  UNROLL for (size_t r = 0; r < ROWS; r++) {
    UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) acc[r][p] = panelLoad(rows.sumsAt(r, segment) + p * PANEL);
  }
}

template <size_t ROWS>
INLINE void storeSums(const ColumnRows<ROWS>& rows, size_t segment, const P acc[ROWS][SEGMENT_PANELS]) {
  UNROLL for (size_t r = 0; r < ROWS; r++) {
    UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) panelStore(rows.sumsAt(r, segment) + p * PANEL, acc[r][p]);
  }
}

/** Adds input k, given its weights of a segment. */
template <size_t ROWS>
INLINE void addInput(P acc[ROWS][SEGMENT_PANELS], const P weights[SEGMENT_PANELS], const ColumnRows<ROWS>& rows, size_t k) {
  UNROLL for (size_t r = 0; r < ROWS; r++) {
    const P x = panelSplat(rows.x[r * rows.xStride + k]);
    UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) acc[r][p] = panelFma(weights[p], x, acc[r][p]);
  }
}

/** How many inputs of plain types are taken up at a time, so that sums are loaded and stored once for all of them. */
constexpr size_t PLAIN_INPUTS = 8;

/** Adds N listed inputs. */
template <size_t N, size_t ROWS, typename T>
INLINE void addInputs(const PlainColumns<T>& columns, const Segments& segments, const ColumnRows<ROWS>& rows,
                      const uint32_t* inputs) {
  const RowsAhead<N, PlainColumns<T>> ahead(columns, segments, inputs);
  for (size_t s = 0; s < segments.n; s++) {
    ahead.ask(s);
    P acc[ROWS][SEGMENT_PANELS];
    loadSums<ROWS>(acc, rows, s);
    UNROLL for (size_t i = 0; i < N; i++) {
      const T* row = columns.row(inputs[i], segments.first + s);
      P weights[SEGMENT_PANELS];
      UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) weights[p] = panelLoad(row + p * PANEL);
      addInput<ROWS>(acc, weights, rows, inputs[i]);
    }
    storeSums<ROWS>(rows, s, acc);
  }
}

template <size_t ROWS, typename T>
static void addActive(const PlainColumns<T>& columns, const Segments& segments, const ColumnRows<ROWS>& rows,
                      const ActiveInputs& active) {
  size_t i = 0;
  for (; i + PLAIN_INPUTS <= active.n; i += PLAIN_INPUTS) addInputs<PLAIN_INPUTS>(columns, segments, rows, active.inputs + i);
  for (; i < active.n; i++) addInputs<1>(columns, segments, rows, active.inputs + i);
}

/** Bytes of 4-bit quants become what they stand for, plus T::ZERO. */
template <typename T, typename B>
INLINE B unpacked(B quants) {
  if constexpr (requires { T::LEVELS; }) return lookup(T::LEVELS, quants);
  return quants;
}

/** The weights of one panel of a segment: scale * quant + minimum, rounded once at most. */
template <typename C>
INLINE P blockWeights(const uint8_t* row, size_t panel, P scale, P minimum) {
  using T = typename C::Blocks;
  Byte16 bytes;
  if constexpr (C::HAS_NIBBLES) {
    bytes = bitsOf(byte16Load(row + panel % 2 * PANEL), panel < 2 ? 0 : 4, 4);
  } else {
    bytes = byte16Load(row + panel * PANEL);
  }
  const P quants = panelOf(unpacked<T>(bytes), T::ZERO);
  if constexpr (T::HAS_MINIMUM) return panelFma(scale, quants, minimum);
  return panelMul(scale, quants);
}

template <size_t ROWS, typename T>
static void addActive(const BlockColumns<T>& columns, const Segments& segments, const ColumnRows<ROWS>& rows,
                      const ActiveInputs& active) {
  using C = BlockColumns<T>;
  for (size_t done = 0; done < active.n;) {
    const uint32_t* inputs = active.inputs + done;
    size_t n = 1;
    while (done + n < active.n && inputs[n] / C::INPUTS == inputs[0] / C::INPUTS) n++;
    const uint32_t* ahead = inputs + RowsAhead<1, C>::distance(segments);
    for (size_t i = 0; i < n; i++) askFor(columns.row(ahead[i], segments.first), segments.n * C::SEGMENT_BYTES);
    askForFields(columns, segments, ahead[0]);
    for (size_t s = 0; s < segments.n; s++) {
      const size_t output = (segments.first + s) * SEGMENT;
      P scales[SEGMENT_PANELS];
      P minimums[SEGMENT_PANELS];
      UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) {
        scales[p] = panelLoad(columns.scales(inputs[0]) + output + p * PANEL);
        if constexpr (T::HAS_MINIMUM) minimums[p] = panelLoad(columns.minimums(inputs[0]) + output + p * PANEL);
      }
      P acc[ROWS][SEGMENT_PANELS];
      loadSums<ROWS>(acc, rows, s);
      for (size_t i = 0; i < n; i++) {
        const uint8_t* row = columns.row(inputs[i], segments.first + s);
        P weights[SEGMENT_PANELS];
        UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) weights[p] = blockWeights<C>(row, p, scales[p], minimums[p]);
        addInput<ROWS>(acc, weights, rows, inputs[i]);
      }
      storeSums<ROWS>(rows, s, acc);
    }
    done += n;
  }
}

/** A block of 32 inputs that are not all zero once rounded to 8 bits. */
template <size_t ROWS>
struct ActiveBlock {
  uint32_t firstInput;
  /** Where its inputs begin in the list, and how many there are: a multiple of four. */
  uint32_t first;
  uint32_t n;
  /** Of each row, as in QuantBlock. */
  float scale[ROWS];
  float scaledSum[ROWS];
  int32_t minusSum[ROWS];
};

/** Rounded inputs that are not zero in all rows, in fours: missing ones are filled up with zeros times a row read anyway. */
template <size_t ROWS>
struct RoundedInputs {
  ActiveInputs active;
  /** For each four inputs, four of each row. */
  int8_t* values;
  ActiveBlock<ROWS>* blocks;
  size_t nBlocks;
};

/** For as many inputs as there can be in all rows that are worked on together. */
INLINE size_t listBytes(size_t nIn) {
  const size_t n = nIn + LIST_END;
  return n * (sizeof(uint32_t) + COLUMN_ROWS) + (nIn / BLOCK + 1) * sizeof(ActiveBlock<COLUMN_ROWS>);
}

/** @param room `listBytes`, aligned for words */
template <size_t ROWS>
static RoundedInputs<ROWS> roundActive(char* room, const ColumnRows<ROWS>& rows, size_t nIn) {
  auto* blocks = reinterpret_cast<ActiveBlock<ROWS>*>(room);
  auto* inputs = reinterpret_cast<uint32_t*>(blocks + nIn / BLOCK + 1);
  auto* values = reinterpret_cast<int8_t*>(inputs + nIn + LIST_END);
  const auto valueAt = [=](size_t i, size_t row) -> int8_t& { return values[(i / 4 * ROWS + row) * 4 + i % 4]; };
  uint32_t n = 0;
  size_t nBlocks = 0;
  size_t nActive = 0;
  for (size_t k = 0; k < nIn; k += BLOCK) {
    ActiveBlock<ROWS>& block = blocks[nBlocks];
    QuantBlock rounded[ROWS];
    float isInvalid = 0;
    for (size_t r = 0; r < ROWS; r++) {
      roundBlock(rounded[r], rows.x + r * rows.xStride + k);
      block.scale[r] = rounded[r].scale;
      block.scaledSum[r] = rounded[r].scaledSum;
      block.minusSum[r] = rounded[r].minusSum;
      isInvalid += rounded[r].scaledSum - rounded[r].scaledSum;
    }
    const uint32_t first = n;
    if constexpr (ROWS == 1) {
      n += listNonZero(inputs + n, values + n, rounded[0].values, static_cast<uint32_t>(k));
      nActive += n - first;
    } else {
      for (size_t i = 0; i < BLOCK; i++) {
        size_t nHere = 0;
        for (size_t r = 0; r < ROWS; r++) {
          valueAt(n, r) = rounded[r].values[i];
          nHere += rounded[r].values[i] != 0;
        }
        inputs[n] = static_cast<uint32_t>(k + i);
        n += nHere != 0;
        nActive += nHere;
      }
    }
    if (n == first) {
      // A block with NaN or infinity has no values, but a scale that must not be lost.
      if (isInvalid == 0) continue;
      inputs[n] = static_cast<uint32_t>(k);
      for (size_t r = 0; r < ROWS; r++) valueAt(n, r) = 0;
      n++;
    }
    for (uint32_t i = n; i < n + 3; i++) {
      inputs[i] = inputs[n - 1];
      for (size_t r = 0; r < ROWS; r++) valueAt(i, r) = 0;
    }
    n = (n + 3) / 4 * 4;
    block.firstInput = static_cast<uint32_t>(k);
    block.first = first;
    block.n = n - first;
    nBlocks++;
  }
  return {{inputs, n, ROWS * nIn - nActive}, values, blocks, nBlocks};
}

/** Where sums of whole numbers of a block wait for its further inputs, in the order of `interleave`; at any address. */
template <size_t PANELS>
struct WaitingSums {
  char* first;
  size_t nPanels;

  char* at(size_t row, size_t segment, size_t part) const {
    return first + (row * nPanels + segment * SEGMENT_PANELS + part * PANELS) * sizeof(I16);
  }
  void load(I16 to[PANELS], size_t row, size_t segment, size_t part) const {
    __builtin_memcpy(to, at(row, segment, part), PANELS * sizeof(I16));
  }
  void store(const I16 from[PANELS], size_t row, size_t segment, size_t part) const {
    __builtin_memcpy(at(row, segment, part), from, PANELS * sizeof(I16));
  }
};

/** Fours of listed inputs of a block that are added in one pass, and whether it is its first or its last. */
template <size_t QUADS, bool IS_FIRST, bool IS_LAST>
struct Pass {
  static constexpr size_t N = QUADS;
  static constexpr bool FIRST = IS_FIRST, LAST = IS_LAST;
};

/** Adds N fours of listed inputs of a block. */
template <typename PASS, size_t ROWS, typename T>
static void addQuads(const BlockColumns<T>& columns, const Segments& segments, const ColumnRows<ROWS>& rows,
                     const ActiveBlock<ROWS>& block, char* waiting, const uint32_t* inputs, const int8_t* values) {
  using C = BlockColumns<T>;
  constexpr size_t PANELS = INTERLEAVED<C::HAS_NIBBLES>;
  constexpr size_t PARTS = SEGMENT_PANELS / PANELS;
  constexpr size_t N = 4 * PASS::N;
  const RowsAhead<N, C> ahead(columns, segments, inputs);
  const uint8_t* weightRows[N];
  for (size_t i = 0; i < N; i++) weightRows[i] = columns.row(inputs[i], segments.first);
  const F16* scales = columns.scales(block.firstInput) + segments.first * SEGMENT;
  const F16* minimums = columns.minimums(block.firstInput) + segments.first * SEGMENT;
  const WaitingSums<PANELS> sums{waiting, segments.n * SEGMENT_PANELS};
  for (size_t s = 0; s < segments.n; s++) {
    ahead.ask(s);
    for (size_t part = 0; part < PARTS; part++) {
      I16 products[ROWS][PANELS];
      UNROLL for (size_t r = 0; r < ROWS; r++) {
        if constexpr (PASS::FIRST) {
          UNROLL for (size_t p = 0; p < PANELS; p++) products[r][p] = startProducts<T::ZERO>(block.minusSum[r]);
        } else {
          sums.load(products[r], r, s, part);
        }
      }
      UNROLL for (size_t quad = 0; quad < PASS::N; quad++) {
        Bytes weights[PANELS];
        interleave<C::HAS_NIBBLES>(weights, weightRows + 4 * quad, (s * PARTS + part) * (C::SEGMENT_BYTES / PARTS));
        UNROLL for (size_t p = 0; p < PANELS; p++) {
          const Bytes four = unpacked<T>(weights[p]);
          UNROLL for (size_t r = 0; r < ROWS; r++) {
            products[r][p] = addProducts<T::ZERO>(products[r][p], four, values + 4 * (quad * ROWS + r));
          }
        }
      }
      if constexpr (!PASS::LAST) {
        UNROLL for (size_t r = 0; r < ROWS; r++) sums.store(products[r], r, s, part);
        continue;
      }
      UNROLL for (size_t r = 0; r < ROWS; r++) inOrder<C::HAS_NIBBLES>(products[r]);
      UNROLL for (size_t p = 0; p < PANELS; p++) {
        const size_t panel = part * PANELS + p;
        const size_t output = s * SEGMENT + panel * PANEL;
        const P scale = panelLoad(scales + output);
        UNROLL for (size_t r = 0; r < ROWS; r++) {
          float* total = rows.sumsAt(r, s) + panel * PANEL;
          P acc = panelFma(panelMul(scale, panelSplat(block.scale[r])), toF32(products[r][p]), panelLoad(total));
          if constexpr (T::HAS_MINIMUM) {
            acc = panelFma(panelLoad(minimums + output), panelSplat(block.scaledSum[r]), acc);
          }
          panelStore(total, acc);
        }
      }
    }
  }
}

/** Calls f(Pass<n, ...>{}) for 1 <= n <= QUADS_AT_ONCE: loops of a number that changes each time are guessed wrong. */
template <bool IS_FIRST, bool IS_LAST, size_t N = 1, typename F>
INLINE void withPass(size_t n, F f) {
  if constexpr (N < QUADS_AT_ONCE) {
    if (n != N) return withPass<IS_FIRST, IS_LAST, N + 1>(n, f);
  }
  f(Pass<N, IS_FIRST, IS_LAST>{});
}

/** @param waiting room for the sums of all rows */
template <size_t ROWS, typename T>
static void addRounded(const BlockColumns<T>& columns, const Segments& segments, const ColumnRows<ROWS>& rows,
                       char* waiting, const RoundedInputs<ROWS>& x) {
  for (size_t b = 0; b < x.nBlocks; b++) {
    const ActiveBlock<ROWS>& block = x.blocks[b];
    if (b + BLOCKS_AHEAD < x.nBlocks) askForFields(columns, segments, x.blocks[b + BLOCKS_AHEAD].firstInput);
    const uint32_t* inputs = x.active.inputs + block.first;
    const int8_t* values = x.values + block.first * ROWS;
    const auto add = [&]<typename PASS>(PASS) {
      addQuads<PASS>(columns, segments, rows, block, waiting, inputs, values);
      inputs += 4 * PASS::N;
      values += 4 * PASS::N * ROWS;
    };
    size_t nLeft = block.n / 4;
    if (nLeft <= QUADS_AT_ONCE) {
      withPass<true, true>(nLeft, add);
      continue;
    }
    add(Pass<QUADS_AT_ONCE, true, false>{});
    for (nLeft -= QUADS_AT_ONCE; nLeft > QUADS_AT_ONCE; nLeft -= QUADS_AT_ONCE) add(Pass<QUADS_AT_ONCE, false, false>{});
    withPass<false, true>(nLeft, add);
  }
}
