// The entry of a kernel set: one record, and the room that the records of a step need.

INLINE bool isMatmul(uint32_t op) { return op == abi::OP_MATMUL || op == abi::OP_MATMUL_BIAS; }

INLINE bool isPlain(uint32_t dtype) {
  return dtype == abi::DTYPE_F32 || dtype == abi::DTYPE_F16 || dtype == abi::DTYPE_BF16;
}

static void matmul(const Command& command, const Thread& thread) {
  const Tensor out = command.operand(0);
  const Tensor w = command.operand(1);
  const Tensor x = command.operand(2);
  const Product product{
      command.bytes(w),
      command.matrixRowBytes(),
      x.width,
      command.nRows(),
      command.row(x, 0),
      x.rowBytes / 4,
      command.row(out, 0),
      out.rowBytes / 4,
      rangeOf(out.width, command.granule(), thread),
      command.op() == abi::OP_MATMUL_BIAS ? command.row(command.operand(3), 0) : nullptr,
      command.activation(),
  };
  if (w.layout == abi::LAYOUT_COLUMNS) return multiplyColumnsOf(w.dtype, product, out.width, command, thread);
  switch (w.dtype) {
    case abi::DTYPE_F32:
      return multiplyPlain<float>(product);
    case abi::DTYPE_F16:
      return multiplyPlain<F16>(product);
    case abi::DTYPE_BF16:
      return multiplyPlain<Bf16>(product);
    default:
      withBlocks(w.dtype, [&]<typename T>(T) {
        if (command.hasInt8Activations()) {
          multiplyInt8<T>(product, thread);
        } else {
          multiplyBlocks<T>(product, thread);
        }
      });
  }
}

static void run(char* base, uint32_t context, uint32_t record, const Thread& thread) {
  const Command command(base, context, record);
  switch (command.op()) {
    case abi::OP_LAYER_NORM:
      return layerNorm(command, thread);
    case abi::OP_GROUP_NORM:
      return groupNorm(command, thread);
    case abi::OP_TOKEN_SHIFT:
      return tokenShift(command, thread);
    case abi::OP_SHIFT_DELTA:
      return shiftDelta(command, thread);
    case abi::OP_MATMUL:
    case abi::OP_MATMUL_BIAS:
      return matmul(command, thread);
    case abi::OP_ACTIVATE:
      return activate(command, thread);
    case abi::OP_SELECT_ROWS:
      return selectRows(command, thread);
    case abi::OP_L2_NORM_HEADS:
      return l2NormHeads(command, thread);
    case abi::OP_ADD_BONUS:
      return addBonus(command, thread);
    case abi::OP_WKV4:
      return wkv4(command, thread);
    case abi::OP_WKV6:
      return wkv6(command, thread);
    case abi::OP_WKV7:
      return wkv7(command, thread);
    default:
      return elementwise(command, thread);
  }
}

static ScratchBytes scratchBytes(const char* base, uint32_t context, uint32_t nRecords) {
  ScratchBytes needed{0, 0};
  const auto atLeast = [](size_t& bytes, size_t other) { bytes = bytes > other ? bytes : other; };
  const uint32_t records = wordAt(base + context, abi::CONTEXT_RECORDS);
  for (uint32_t i = 0; i < nRecords; i++) {
    const Command command(const_cast<char*>(base), context, records + i * abi::RECORD_BYTES);
    if (command.op() == abi::OP_WKV7) atLeast(needed.own, command.operand(0).width * sizeof(float));
    if (!isMatmul(command.op())) continue;
    const Tensor w = command.operand(1);
    const size_t nRows = command.nRows();
    const size_t nIn = command.operand(2).width;
    size_t own = 0;
    if (!isPlain(w.dtype)) {
      own = command.hasInt8Activations() ? ownQuantsBytes(nRows, nIn) : PANEL * nIn * sizeof(float);
      if (command.hasInt8Activations()) atLeast(needed.shared, sharedQuantsBytes(nRows, nIn));
    }
    if (w.layout == abi::LAYOUT_COLUMNS) {
      own = columnsBytes(nRows, nIn, command.operand(0).width, command.matrixRowBytes(), own);
    }
    atLeast(needed.own, own);
  }
  return needed;
}
