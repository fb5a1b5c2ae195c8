// Operations on single elements, the token shifts and the choice of rows. A part is a range of columns, in all rows.
// Contracts: ops/ops.ts of rwkv.

/** Calls f(row, column, n) for this thread's columns of all rows; n = W but at the end. */
template <typename F>
INLINE void forColumns(const Command& command, const Thread& thread, F f) {
  const Range columns = rangeOf(command.operand(0).width, command.granule(), thread);
  const size_t nRows = command.nRows();
  for (size_t row = 0; row < nRows; row++) {
    forVectors(columns.length(), [&](size_t i, size_t n) { f(row, columns.first + i, n); });
  }
}

static void elementwise(const Command& command, const Thread& thread) {
  const Tensor out = command.operand(0);
  const Tensor a = command.operand(1);
  const uint32_t nOperands = command.nOperands();
  // A missing operand repeats the one before it.
  const Tensor b = command.operand(nOperands > 2 ? 2 : 1);
  const Tensor c = command.operand(nOperands > 3 ? 3 : 1);
  const V scalar = splat(command.scalar());
  const auto at = [&](const Tensor& tensor, size_t row, size_t i, size_t n) {
    return loadUpTo(command.row(tensor, row) + i, n);
  };
  const auto put = [&](size_t row, size_t i, size_t n, V v) { storeUpTo(command.row(out, row) + i, v, n); };
  switch (command.op()) {
    case abi::OP_ADD:
      return forColumns(command, thread, [&](size_t row, size_t i, size_t n) {
        put(row, i, n, add(at(out, row, i, n), mul(at(a, row, i, n), scalar)));
      });
    case abi::OP_MUL:
      return forColumns(command, thread, [&](size_t row, size_t i, size_t n) {
        put(row, i, n, mul(at(out, row, i, n), at(a, row, i, n)));
      });
    case abi::OP_LERP:
      return forColumns(command, thread, [&](size_t row, size_t i, size_t n) {
        const V x = at(out, row, i, n);
        put(row, i, n, fma(sub(at(a, row, i, n), x), at(b, row, i, n), x));
      });
    case abi::OP_COPY:
      return forColumns(command, thread,
                        [&](size_t row, size_t i, size_t n) { put(row, i, n, at(a, row, i, n)); });
    case abi::OP_ADD_MUL:
      return forColumns(command, thread, [&](size_t row, size_t i, size_t n) {
        put(row, i, n, fma(at(b, row, i, n), at(c, row, i, n), at(a, row, i, n)));
      });
    default:  // scaleKey
      return forColumns(command, thread, [&](size_t row, size_t i, size_t n) {
        const V factor = fma(sub(at(a, row, i, n), splat(1)), at(b, row, i, n), splat(1));
        put(row, i, n, mul(at(out, row, i, n), factor));
      });
  }
}

static void activate(const Command& command, const Thread& thread) {
  const Tensor out = command.operand(0);
  const Tensor x = command.operand(1);
  const Range columns = rangeOf(out.width, command.granule(), thread);
  for (size_t row = 0; row < command.nRows(); row++) {
    activateSpan(command.activation(), command.row(out, row) + columns.first, command.row(x, row) + columns.first,
                 columns.length());
  }
}

static void selectRows(const Command& command, const Thread& thread) {
  const Tensor out = command.operand(0);
  const Tensor x = command.operand(1);
  forColumns(command, thread, [&](size_t row, size_t i, size_t n) {
    storeUpTo(command.row(out, row) + i, loadUpTo(command.row(x, command.logitRow(row)) + i, n), n);
  });
}

/** Calls f(row, previous) for the rows of each run, `previous` being the row before or the state; then keeps the last. */
template <typename F>
INLINE void forShiftedRows(const Command& command, const Tensor& x, const Tensor& shift, const Range& columns, F f) {
  for (size_t r = 0; r < command.nRuns(); r++) {
    const Run run = command.run(r);
    float* state = command.state(run, shift);
    const float* previous = state;
    for (size_t row = run.firstRow; row < run.endRow; row++) {
      f(row, previous);
      previous = command.row(x, row);
    }
    __builtin_memcpy(state + columns.first, previous + columns.first, 4 * columns.length());
  }
}

static void tokenShift(const Command& command, const Thread& thread) {
  const Tensor x = command.operand(0);
  const Range columns = rangeOf(x.width, command.granule(), thread);
  const uint32_t nOperands = command.nOperands();
  forShiftedRows(command, x, command.operand(1), columns, [&](size_t row, const float* previous) {
    const float* from = command.row(x, row);
    for (uint32_t o = 2; o < nOperands; o += 2) {
      float* out = command.row(command.operand(o), row);
      const float* mix = command.row(command.operand(o + 1), 0);
      forVectors(columns.length(), [=](size_t i, size_t n) {
        const size_t at = columns.first + i;
        const V now = loadUpTo(from + at, n);
        storeUpTo(out + at, fma(sub(loadUpTo(previous + at, n), now), loadUpTo(mix + at, n), now), n);
      });
    }
  });
}

static void shiftDelta(const Command& command, const Thread& thread) {
  const Tensor out = command.operand(0);
  const Tensor x = command.operand(1);
  const Range columns = rangeOf(x.width, command.granule(), thread);
  forShiftedRows(command, x, command.operand(2), columns, [&](size_t row, const float* previous) {
    const float* from = command.row(x, row);
    float* to = command.row(out, row);
    forVectors(columns.length(), [=](size_t i, size_t n) {
      const size_t at = columns.first + i;
      storeUpTo(to + at, sub(loadUpTo(previous + at, n), loadUpTo(from + at, n)), n);
    });
  });
}
