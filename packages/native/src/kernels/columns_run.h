// Which kernels a product with a matrix in columns takes: a few rows of x skip zeros, more read the matrix densely.

/** From so many rows on the matrix is read densely: reading it again for every few rows would fill the way to memory. */
constexpr size_t DENSE_ROWS = 16;

/** Room for the sums of a few rows and their lists, or for the panels of a segment and what the kernels of panels need. */
INLINE size_t columnsBytes(size_t nRows, size_t nIn, size_t nOut, size_t rowBytes, size_t panelsBytes) {
  if (nRows >= DENSE_ROWS) return SEGMENT * rowBytes + panelsBytes;
  return 2 * COLUMN_ROWS * paddedOutputs(nOut) * sizeof(float) + listBytes(nIn);
}

/** Stores finished sums. Zeros come out positive, whatever the skipped terms of a sum would have made of them. */
static void storeOutputs(const Product& product, size_t row, const float* sums) {
  const auto& [first, end] = product.outputs;
  float* out = product.out + row * product.outStride + first;
  forVectors(end - first, [=](size_t i, size_t n) { storeUpTo(out + i, add(loadUpTo(sums + i, n), splat(0)), n); });
}

/** Calls addRows(rows, room as large as the sums, room for lists), which returns how many inputs were zero, for ROWS rows at a time, then for fewer. */
template <size_t ROWS, typename F>
static size_t forRows(const Product& product, const Thread& thread, size_t row, F addRows) {
  const size_t nSums = segmentsOf(product.outputs).n * SEGMENT;
  auto* sums = reinterpret_cast<float*>(thread.own);
  size_t nZeros = 0;
  for (; row + ROWS <= product.nRows; row += ROWS) {
    __builtin_memset(sums, 0, ROWS * nSums * sizeof(float));
    const ColumnRows<ROWS> rows{product.xRow(row), product.xStride, sums, nSums};
    char* room = thread.own + ROWS * nSums * sizeof(float);
    nZeros += addRows(rows, room, room + ROWS * nSums * sizeof(float));
    for (size_t r = 0; r < ROWS; r++) storeOutputs(product, row + r, sums + r * nSums);
  }
  if constexpr (ROWS > 1) nZeros += forRows<ROWS / 2>(product, thread, row, addRows);
  return nZeros;
}

template <typename F>
static void multiplyActive(const Product& product, const Command& command, const Thread& thread, F addRows) {
  if (product.outputs.length() == 0) return;
  const size_t nZeros = forRows<COLUMN_ROWS>(product, thread, 0, addRows);
  finish(product, product.outputs.first, product.outputs.end);
  if (product.outputs.first == 0) command.countInputs(product.nRows * product.nIn, nZeros);
}

/** f32 activations. */
template <typename C>
static void multiplyColumns(const C& columns, const Product& product, const Command& command, const Thread& thread) {
  multiplyActive(product, command, thread, [&]<size_t ROWS>(const ColumnRows<ROWS>& rows, char*, char* room) {
    const ActiveInputs active = listActive(reinterpret_cast<uint32_t*>(room), rows, product.nIn);
    endList(columns, segmentsOf(product.outputs), active.inputs, active.n);
    addActive(columns, segmentsOf(product.outputs), rows, active);
    return active.nZeros;
  });
}

template <typename C>
static void multiplyColumnsInt8(const C& columns, const Product& product, const Command& command,
                                const Thread& thread) {
  multiplyActive(product, command, thread, [&]<size_t ROWS>(const ColumnRows<ROWS>& rows, char* waiting, char* room) {
    const RoundedInputs<ROWS> rounded = roundActive(room, rows, product.nIn);
    endList(columns, segmentsOf(product.outputs), rounded.active.inputs, rounded.active.n);
    addRounded(columns, segmentsOf(product.outputs), rows, waiting, rounded);
    return rounded.active.nZeros;
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
