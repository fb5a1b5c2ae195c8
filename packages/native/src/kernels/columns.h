// Products with a matrix in columns (core/layout.ts of rwkv) for rows of x that are mostly zero: the inputs that are not
// zero are listed once, and nothing is read of the others. Sums have the order, and so the bits, of matmul.h:
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

INLINE size_t paddedOutputs(size_t nOut) { return (nOut + SEGMENT - 1) / SEGMENT * SEGMENT; }

/** Blocks whose quants are bytes, or nibbles of the first and the second half of a block. */
template <typename T>
constexpr bool HAS_COLUMNS = false;
template <size_t N>
constexpr bool HAS_COLUMNS<ByteBlocks<N>> = true;
template <size_t N, size_t NHALVES, int Z>
constexpr bool HAS_COLUMNS<NibbleBlocks<N, NHALVES, Z>> = true;
template <>
constexpr bool HAS_COLUMNS<LevelBlocks> = true;

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

/** The inputs of a row that are not zero. */
struct ActiveInputs {
  uint32_t* inputs;
  size_t n;
};

/** Asks for the rows of listed inputs some way ahead of their use. */
template <typename C>
struct Prefetcher {
  const C& columns;
  const Segments segments;
  const ActiveInputs& active;
  size_t next = 0;
  size_t lastBlock = SIZE_MAX;

  static size_t distance(const Segments& segments) { return 1 + COLUMN_AHEAD / (segments.n * C::SEGMENT_BYTES); }

  /** Goes on until it has passed the first `n` listed inputs and those ahead of them. */
  void advance(size_t n) {
    const size_t wanted = n + distance(segments);
    const size_t end = wanted < active.n ? wanted : active.n;
    for (; next < end; next++) {
      const size_t k = active.inputs[next];
      if constexpr (C::FIELD_BYTES > 0) {
        if (k / C::INPUTS != lastBlock) {
          lastBlock = k / C::INPUTS;
          for (size_t field = 0; field < C::FIELD_BYTES; field += 2) {
            ask(columns.block(k) + field * columns.nPadded + 2 * SEGMENT * segments.first, 2 * SEGMENT * segments.n);
          }
        }
      }
      ask(reinterpret_cast<const char*>(columns.row(k, segments.first)), segments.n * C::SEGMENT_BYTES);
    }
  }

  static void ask(const char* bytes, size_t n) {
    for (size_t i = 0; i < n; i += 64) __builtin_prefetch(bytes + i, 0, 2);
  }
};

/** Lists the inputs that are not zero; NaN is none. `inputs` has room for all of them and one more. */
static ActiveInputs listActive(uint32_t* inputs, const float* x, size_t nIn) {
  size_t n = 0;
  for (size_t k = 0; k < nIn; k++) {
    inputs[n] = static_cast<uint32_t>(k);
    n += x[k] != 0;
  }
  return {inputs, n};
}

/** How many inputs the sums of plain types take up at a time, so that they are loaded and stored once for all of them. */
constexpr size_t PLAIN_INPUTS = 8;

template <size_t N, typename T>
INLINE void addPlainInputs(float* sums, const T* const rows[], const float* xs) {
  P acc[SEGMENT_PANELS];
  UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) acc[p] = panelLoad(sums + p * PANEL);
  UNROLL for (size_t r = 0; r < N; r++) {
    const P x = panelSplat(xs[r]);
    UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) acc[p] = panelFma(panelLoad(rows[r] + p * PANEL), x, acc[p]);
  }
  UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) panelStore(sums + p * PANEL, acc[p]);
}

template <size_t N, typename T>
INLINE void addPlainRows(const PlainColumns<T>& columns, const Segments& segments, float* sums, const uint32_t* inputs,
                         const float* x, Prefetcher<PlainColumns<T>>& prefetcher, size_t done) {
  const T* rows[N];
  float xs[N];
  for (size_t r = 0; r < N; r++) {
    rows[r] = columns.row(inputs[r], segments.first);
    xs[r] = x[inputs[r]];
  }
  for (size_t s = 0; s < segments.n; s++) {
    prefetcher.advance(done + N * (s + 1) / segments.n);
    addPlainInputs<N>(sums + s * SEGMENT, rows, xs);
    for (size_t r = 0; r < N; r++) rows[r] += SEGMENT;
  }
}

template <typename T>
static void addActive(const PlainColumns<T>& columns, const Segments& segments, float* sums, const ActiveInputs& active,
                      const float* x) {
  Prefetcher<PlainColumns<T>> prefetcher{columns, segments, active};
  size_t i = 0;
  for (; i + PLAIN_INPUTS <= active.n; i += PLAIN_INPUTS) {
    addPlainRows<PLAIN_INPUTS>(columns, segments, sums, active.inputs + i, x, prefetcher, i);
  }
  for (; i < active.n; i++) addPlainRows<1>(columns, segments, sums, active.inputs + i, x, prefetcher, i);
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

/** The listed inputs of one block, for all segments. */
template <typename C>
static void addBlock(const C& columns, const Segments& segments, float* sums, const uint32_t* inputs, size_t n,
                     const float* x, Prefetcher<C>& prefetcher, size_t done) {
  const F16* scales = columns.scales(inputs[0]) + segments.first * SEGMENT;
  const F16* minimums = columns.minimums(inputs[0]) + segments.first * SEGMENT;
  for (size_t s = 0; s < segments.n; s++, sums += SEGMENT, scales += SEGMENT, minimums += SEGMENT) {
    prefetcher.advance(done + n * (s + 1) / segments.n);
    P acc[SEGMENT_PANELS];
    P scale[SEGMENT_PANELS];
    P minimum[SEGMENT_PANELS];
    UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) {
      acc[p] = panelLoad(sums + p * PANEL);
      scale[p] = panelLoad(scales + p * PANEL);
      minimum[p] = C::Blocks::HAS_MINIMUM ? panelLoad(minimums + p * PANEL) : panelZero();
    }
    for (size_t i = 0; i < n; i++) {
      const uint8_t* row = columns.row(inputs[i], segments.first + s);
      const P value = panelSplat(x[inputs[i]]);
      UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) {
        acc[p] = panelFma(blockWeights<C>(row, p, scale[p], minimum[p]), value, acc[p]);
      }
    }
    UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) panelStore(sums + p * PANEL, acc[p]);
  }
}

template <typename C>
static void addActive(const C& columns, const Segments& segments, float* sums, const ActiveInputs& active,
                      const float* x) {
  Prefetcher<C> prefetcher{columns, segments, active};
  for (size_t i = 0; i < active.n;) {
    const size_t block = active.inputs[i] / C::INPUTS;
    size_t n = 1;
    while (i + n < active.n && active.inputs[i + n] / C::INPUTS == block) n++;
    addBlock(columns, segments, sums, active.inputs + i, n, x, prefetcher, i);
    i += n;
  }
}

/** A block of 32 inputs that are not all zero once rounded to 8 bits. */
struct ActiveBlock {
  uint32_t firstInput;
  /** Where its inputs begin in the list, and how many there are: a multiple of four. */
  uint32_t first;
  uint32_t n;
  /** As in QuantBlock. */
  float scale;
  float scaledSum;
  int32_t minusSum;
};

/** The rounded inputs of a row that are not zero, in fours: missing ones are filled up with zeros times a row read anyway. */
struct RoundedInputs {
  ActiveInputs active;
  int8_t* values;
  ActiveBlock* blocks;
  size_t nBlocks;
  size_t nZeros;
};

/** For as many inputs as there can be. */
INLINE size_t listBytes(size_t nIn) {
  const size_t n = nIn + 4;
  return n * (sizeof(uint32_t) + sizeof(int8_t)) + (nIn / BLOCK + 1) * sizeof(ActiveBlock);
}

/** @param room `listBytes`, aligned for words */
static RoundedInputs roundActive(char* room, const float* x, size_t nIn) {
  const size_t most = nIn + 4;
  auto* blocks = reinterpret_cast<ActiveBlock*>(room);
  auto* inputs = reinterpret_cast<uint32_t*>(blocks + nIn / BLOCK + 1);
  auto* values = reinterpret_cast<int8_t*>(inputs + most);
  uint32_t n = 0;
  size_t nBlocks = 0;
  size_t nActive = 0;
  for (size_t k = 0; k < nIn; k += BLOCK) {
    QuantBlock rounded;
    roundBlock(rounded, x + k);
    const uint32_t first = n;
    for (size_t i = 0; i < BLOCK; i++) {
      inputs[n] = static_cast<uint32_t>(k + i);
      values[n] = rounded.values[i];
      n += rounded.values[i] != 0;
    }
    nActive += n - first;
    // A block with NaN or infinity has no values, but a scale that must not be lost.
    if (n == first && rounded.scaledSum == 0) continue;
    for (; n % 4 != 0; n++) {
      inputs[n] = inputs[n - 1];
      values[n] = 0;
    }
    const auto k32 = static_cast<uint32_t>(k);
    blocks[nBlocks++] = {k32, first, n - first, rounded.scale, rounded.scaledSum, rounded.minusSum};
  }
  return {{inputs, n}, values, blocks, nBlocks, nIn - nActive};
}

template <typename C>
static void addRounded(const C& columns, const Segments& segments, float* sums, const RoundedInputs& x) {
  using T = typename C::Blocks;
  Prefetcher<C> prefetcher{columns, segments, x.active};
  for (size_t b = 0; b < x.nBlocks; b++) {
    const auto& [firstInput, first, n, scale, scaledSum, minusSum] = x.blocks[b];
    const int8_t* values = x.values + first;
    const uint8_t* rows[BLOCK];
    for (size_t i = 0; i < n; i++) rows[i] = columns.row(x.active.inputs[first + i], segments.first);
    const F16* scales = columns.scales(firstInput) + segments.first * SEGMENT;
    const F16* minimums = columns.minimums(firstInput) + segments.first * SEGMENT;
    for (size_t s = 0; s < segments.n; s++) {
      prefetcher.advance(first + n * (s + 1) / segments.n);
      I16 products[SEGMENT_PANELS];
      UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) products[p] = startProducts<T::ZERO>(minusSum);
      for (size_t i = 0; i < n; i += 4) {
        Bytes weights[SEGMENT_PANELS];
        interleave<C::HAS_NIBBLES>(weights, rows + i, s * C::SEGMENT_BYTES);
        UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) {
          products[p] = addProducts<T::ZERO>(products[p], unpacked<T>(weights[p]), values + i);
        }
      }
      inOrder<C::HAS_NIBBLES>(products);
      UNROLL for (size_t p = 0; p < SEGMENT_PANELS; p++) {
        const size_t o = s * SEGMENT + p * PANEL;
        P acc = panelLoad(sums + o);
        acc = panelFma(panelMul(panelLoad(scales + o), panelSplat(scale)), toF32(products[p]), acc);
        if constexpr (T::HAS_MINIMUM) acc = panelFma(panelLoad(minimums + o), panelSplat(scaledSum), acc);
        panelStore(sums + o, acc);
      }
    }
  }
}
