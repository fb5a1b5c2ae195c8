// How a kernel finds its tensors, rows and attributes through the context and its record (abi.ts of the cpu backend),
// and how an operation is cut into parts.

struct Tensor {
  /** Of a state its offset in a slot, of a weight behind the first 4 GB its offset from the base. */
  uint64_t address;
  size_t width;
  /** 0 for a vector that stands for every row. */
  size_t rowBytes;
  uint32_t dtype;
  /** LAYOUT_... of a weight. */
  uint32_t layout;
};

struct Run {
  size_t firstRow;
  size_t endRow;
  char* slot;
};

INLINE void addTo(char* count, uint64_t n) {
  uint64_t sum;
  __builtin_memcpy(&sum, count, sizeof sum);
  sum += n;
  __builtin_memcpy(count, &sum, sizeof sum);
}

/** A record with the memory it works on. */
struct Command {
  char* base;
  const char* context;
  const char* record;

  Command(char* memory, uint32_t contextAt, uint32_t recordAt)
      : base(memory), context(memory + contextAt), record(memory + recordAt) {}

  uint32_t op() const { return wordAt(record, abi::RECORD_OP); }
  uint32_t nOperands() const { return wordAt(record, abi::RECORD_N_OPERANDS); }
  size_t heads() const { return wordAt(record, abi::RECORD_HEADS); }
  uint32_t activation() const { return wordAt(record, abi::RECORD_ACTIVATION); }
  /** Columns that are handed to threads as one. */
  size_t granule() const { return wordAt(record, abi::RECORD_GRANULE); }
  size_t matrixRowBytes() const { return wordAt(record, abi::RECORD_MATRIX_ROW_BYTES); }
  float scalar() const {
    float value;
    __builtin_memcpy(&value, record + abi::RECORD_SCALAR, sizeof value);
    return value;
  }
  size_t nRows() const {
    const bool isLogit = wordAt(record, abi::RECORD_IS_LOGIT) != 0;
    return wordAt(context, isLogit ? abi::CONTEXT_N_LOGIT_ROWS : abi::CONTEXT_N_TOKEN_ROWS);
  }
  bool hasInt8Activations() const { return wordAt(context, abi::CONTEXT_INT8_ACTIVATIONS) != 0; }

  Tensor operand(uint32_t i) const {
    const size_t at = wordAt(record, abi::RECORD_FIRST_OPERAND) + i;
    const size_t number = wordAt(base + wordAt(context, abi::CONTEXT_OPERANDS), 4 * at);
    const char* entry = base + wordAt(context, abi::CONTEXT_TENSORS) + number * abi::TENSOR_BYTES;
    const uint64_t high = wordAt(entry, abi::TENSOR_ADDRESS_HIGH);
    return {high << 32 | wordAt(entry, abi::TENSOR_ADDRESS), wordAt(entry, abi::TENSOR_WIDTH),
            wordAt(entry, abi::TENSOR_ROW_BYTES), wordAt(entry, abi::TENSOR_DTYPE), wordAt(entry, abi::TENSOR_LAYOUT)};
  }
  char* bytes(const Tensor& tensor) const { return base + tensor.address; }
  /** A row, or the vector that stands for it. */
  float* row(const Tensor& tensor, size_t row) const {
    return reinterpret_cast<float*>(base + tensor.address + row * tensor.rowBytes);
  }

  /** Adds to what CONTEXT_INPUTS and CONTEXT_ZERO_INPUTS count; for one thread of each record. */
  void countInputs(uint64_t nInputs, uint64_t nZeros) const {
    char* counts = base + (context - base);
    addTo(counts + abi::CONTEXT_INPUTS, nInputs);
    addTo(counts + abi::CONTEXT_ZERO_INPUTS, nZeros);
  }

  size_t nRuns() const { return wordAt(context, abi::CONTEXT_N_RUNS); }
  Run run(size_t i) const {
    const char* entry = base + wordAt(context, abi::CONTEXT_RUNS) + i * abi::RUN_BYTES;
    const size_t firstRow = wordAt(entry, abi::RUN_FIRST_ROW);
    return {firstRow, firstRow + wordAt(entry, abi::RUN_N_ROWS), base + wordAt(entry, abi::RUN_SLOT)};
  }
  float* state(const Run& run, const Tensor& tensor) const {
    return reinterpret_cast<float*>(run.slot + tensor.address);
  }
  size_t logitRow(size_t i) const { return wordAt(base + wordAt(context, abi::CONTEXT_LOGIT_ROWS), 4 * i); }
};

/** A thread's share of n things that are handed out `unit` at a time. */
struct Range {
  size_t first;
  size_t end;
  size_t length() const { return end - first; }
};

INLINE size_t partStart(size_t n, size_t unit, size_t part, size_t nParts) {
  const size_t start = (n + unit - 1) / unit * part / nParts * unit;
  return start < n ? start : n;
}

INLINE Range rangeOf(size_t n, size_t unit, const Thread& thread) {
  return {partStart(n, unit, thread.part, thread.nParts), partStart(n, unit, thread.part + 1, thread.nParts)};
}

/** Calls f(offset, n) for n elements, n = W for all but the last. */
template <typename F>
INLINE void forVectors(size_t n, F f) {
  size_t i = 0;
  for (; i + W <= n; i += W) f(i, W);
  if (i < n) f(i, n - i);
}
INLINE V loadUpTo(const float* p, size_t n) { return n == W ? load(p) : loadFirst(p, n); }
INLINE void storeUpTo(float* p, V v, size_t n) {
  if (n == W) {
    store(p, v);
  } else {
    storeFirst(p, v, n);
  }
}
