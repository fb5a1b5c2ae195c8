// Activations with a bias before them, forward and backward; the functions themselves are those of inference.

template <uint32_t F>
static void activateRows(float* out, const float* x, const float* bias, size_t nRows, size_t width) {
  for (size_t row = 0; row < nRows * width; row += width) {
    forVectors(width, [=](size_t i, size_t n) {
      storeUpTo(out + row + i, apply<F>(add(loadUpTo(x + row + i, n), loadUpTo(bias + i, n))), n);
    });
  }
}

/** f'(x), of which out is f(x). */
template <uint32_t F>
INLINE V slope(V x, V out) {
  if constexpr (F == abi::ACTIVATION_SIGMOID) return fnma(out, out, out);
  if constexpr (F == abi::ACTIVATION_SILU) {
    const V s = sigmoid(x);
    return mul(s, fma(x, sub(splat(1), s), splat(1)));
  }
  if constexpr (F == abi::ACTIVATION_TANH) return fnma(out, out, splat(1));
  if constexpr (F == abi::ACTIVATION_RELU_SQUARED) {
    const V positive = max(splat(0), x);
    return add(positive, positive);
  }
  // Beyond 88 exp is infinite where out is zero: the bound keeps their product from being no number.
  if constexpr (F == abi::ACTIVATION_DECAY6) return mul(sub(splat(0), out), exp(min(splat(88), x)));
  if constexpr (F == abi::ACTIVATION_DECAY7) {
    const V s = sigmoid(x);
    return mul(mul(out, splat(-0.6065306597126334f)), fnma(s, s, s));
  }
  return splat(1);
}

template <uint32_t F>
static void activateRowsBackward(float* dx, float* dBias, const float* dOut, const float* x, const float* out,
                                 const float* bias, size_t nRows, size_t width) {
  for (size_t row = 0; row < nRows * width; row += width) {
    forVectors(width, [=](size_t i, size_t n) {
      const size_t at = row + i;
      V value = loadUpTo(x + at, n);
      if (bias != nullptr) value = add(value, loadUpTo(bias + i, n));
      const V d = mul(loadUpTo(dOut + at, n), slope<F>(value, loadUpTo(out + at, n)));
      storeUpTo(dx + at, d, n);
      if (dBias != nullptr) setOrAdd(dBias + i, d, n, true);
    });
  }
}

template <uint32_t F>
struct Function {
  static constexpr uint32_t VALUE = F;
};

/** Calls f(Function<activation>). */
template <typename F>
INLINE void withActivation(uint32_t activation, F f) {
  switch (activation) {
    case abi::ACTIVATION_SIGMOID:
      return f(Function<abi::ACTIVATION_SIGMOID>{});
    case abi::ACTIVATION_SILU:
      return f(Function<abi::ACTIVATION_SILU>{});
    case abi::ACTIVATION_TANH:
      return f(Function<abi::ACTIVATION_TANH>{});
    case abi::ACTIVATION_RELU_SQUARED:
      return f(Function<abi::ACTIVATION_RELU_SQUARED>{});
    case abi::ACTIVATION_DECAY6:
      return f(Function<abi::ACTIVATION_DECAY6>{});
    case abi::ACTIVATION_DECAY7:
      return f(Function<abi::ACTIVATION_DECAY7>{});
    default:
      return f(Function<abi::ACTIVATION_NONE>{});
  }
}

static void activate(float* out, const float* x, const float* bias, size_t nRows, size_t width, uint32_t activation) {
  if (bias == nullptr) return activateSpan(activation, out, x, nRows * width);
  withActivation(activation, [=]<typename F>(F) { activateRows<F::VALUE>(out, x, bias, nRows, width); });
}

static void activateBackward(float* dx, float* dBias, const float* dOut, const float* x, const float* out,
                             const float* bias, size_t nRows, size_t width, uint32_t activation) {
  withActivation(activation, [=]<typename F>(F) {
    activateRowsBackward<F::VALUE>(dx, dBias, dOut, x, out, bias, nRows, width);
  });
}
