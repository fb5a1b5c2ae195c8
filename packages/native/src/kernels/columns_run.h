// Which kernels a product with a matrix in columns takes: a few rows of x skip their zeros one after the other, more read
// the matrix once for all of them.

/** From so many rows on the matrix is read densely, which takes as long as skipping half of the inputs of each. */
constexpr size_t DENSE_ROWS = 16;

/** Room for the sums of a row and its lists, or for the panels of a segment and what the kernels of panels need. */
INLINE size_t columnsBytes(size_t nRows, size_t nIn, size_t nOut, size_t rowBytes, size_t panelsBytes) {
  if (nRows >= DENSE_ROWS) return SEGMENT * rowBytes + panelsBytes;
  return paddedOutputs(nOut) * sizeof(float) + listBytes(nIn);
}

/** Stores finished sums. Zeros come out positive, whatever the skipped terms of a sum would have made of them. */
static void storeSums(const Product& product, size_t row, const float* sums) {
  const auto& [first, end] = product.outputs;
  float* out = product.out + row * product.outStride + first;
  forVectors(end - first, [=](size_t i, size_t n) { storeUpTo(out + i, add(loadUpTo(sums + i, n), splat(0)), n); });
}

/** Calls addRow(sums, room for lists, x), which returns how many inputs were skipped, for each row. */
template <typename F>
static void multiplyActive(const Product& product, const Command& command, const Thread& thread, F addRow) {
  const size_t nSums = segmentsOf(product.outputs).n * SEGMENT;
  auto* sums = reinterpret_cast<float*>(thread.own);
  size_t nSkipped = 0;
  for (size_t row = 0; row < product.nRows; row++) {
    __builtin_memset(sums, 0, nSums * sizeof(float));
    nSkipped += addRow(sums, thread.own + nSums * sizeof(float), product.xRow(row));
    storeSums(product, row, sums);
  }
  finish(product, product.outputs.first, product.outputs.end);
  if (thread.part == 0) command.countInputs(product.nRows * product.nIn, nSkipped);
}

/** f32 activations. */
template <typename C>
static void multiplyColumns(const C& columns, const Product& product, const Command& command, const Thread& thread) {
  multiplyActive(product, command, thread, [&](float* sums, char* room, const float* x) {
    const ActiveInputs active = listActive(reinterpret_cast<uint32_t*>(room), x, product.nIn);
    addActive(columns, segmentsOf(product.outputs), sums, active, x);
    return product.nIn - active.n;
  });
}

template <typename C>
static void multiplyColumnsInt8(const C& columns, const Product& product, const Command& command,
                                const Thread& thread) {
  multiplyActive(product, command, thread, [&](float* sums, char* room, const float* x) {
    const RoundedInputs rounded = roundActive(room, x, product.nIn);
    addRounded(columns, segmentsOf(product.outputs), sums, rounded);
    return rounded.nZeros;
  });
}

template <typename T>
static void multiplyPlainColumns(const Product& product, size_t nOut, const Command& command, const Thread& thread) {
  const PlainColumns<T> columns{product.w, paddedOutputs(nOut)};
  if (product.nRows < DENSE_ROWS) return multiplyColumns(columns, product, command, thread);
  multiplyGathered(product, columns, thread, [](const Product& part, const Thread&) { multiplyPlain<T>(part); });
}

template <typename T>
static void multiplyBlockColumns(const Product& product, size_t nOut, const Command& command, const Thread& thread) {
  const BlockColumns<T> columns{product.w, paddedOutputs(nOut)};
  const bool isInt8 = command.hasInt8Activations();
  if (product.nRows < DENSE_ROWS) {
    return isInt8 ? multiplyColumnsInt8(columns, product, command, thread)
                  : multiplyColumns(columns, product, command, thread);
  }
  if (isInt8) {
    const Thread behind = behindPanels(product, thread);
    const QuantBlock* x = roundRows(product.x, product.xStride, product.nRows, product.nIn, behind);
    multiplyGathered(product, columns, thread, [=](const Product& part, const Thread&) { multiplyRounded<T>(part, x); });
  } else {
    multiplyGathered(product, columns, thread, multiplyBlocks<T>);
  }
}

static void multiplyColumnsOf(uint32_t dtype, const Product& product, size_t nOut, const Command& command,
                              const Thread& thread) {
  switch (dtype) {
    case abi::DTYPE_F32:
      return multiplyPlainColumns<float>(product, nOut, command, thread);
    case abi::DTYPE_F16:
      return multiplyPlainColumns<F16>(product, nOut, command, thread);
    case abi::DTYPE_BF16:
      return multiplyPlainColumns<Bf16>(product, nOut, command, thread);
    default:
      withBlocks(dtype, [&]<typename T>(T) {
        if constexpr (HAS_COLUMNS<T>) multiplyBlockColumns<T>(product, nOut, command, thread);
      });
  }
}
