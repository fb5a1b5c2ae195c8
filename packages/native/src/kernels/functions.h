// exp and the functions built on it: one polynomial for every lane, so that no result depends on where in a row a value
// stands.
//
//   exp(x) = 2^n (1 + q),  n = round(x / ln 2),  r = x - n ln 2, |r| <= 0.347,
//   q = exp(r) - 1 by its Taylor series to r^7; the first term left out is below 2^-27 of the result.

INLINE V exponentOf(V x) { return nearest(mul(x, splat(1.4426950408889634f))); }

/** exp(x - n ln 2) - 1. */
INLINE V fraction(V x, V n) {
  // ln 2 in two parts; the first has 9 significant bits, so that its product with n is exact.
  V r = fnma(n, splat(0.693359375f), x);
  r = fnma(n, splat(-0.00021219444005469057f), r);
  V q = fma(r, splat(1.0f / 5040), splat(1.0f / 720));
  q = fma(q, r, splat(1.0f / 120));
  q = fma(q, r, splat(1.0f / 24));
  q = fma(q, r, splat(1.0f / 6));
  q = fma(q, r, splat(0.5f));
  return fma(mul(r, r), q, r);
}

/** 0 from -104 down, infinity from 88.8 up, NaN for NaN. */
INLINE V exp(V x) {
  // With the value second, min and max keep a NaN.
  const V bounded = max(splat(-105), min(splat(89), x));
  const V n = exponentOf(bounded);
  return scaled(add(splat(1), fraction(bounded, n)), n);
}

INLINE V sigmoid(V x) { return div(splat(1), add(splat(1), exp(sub(splat(0), x)))); }

/** -e / (e + 2) with e = exp(-2 |x|) - 1, which keeps its relative accuracy near zero; then the sign of x. */
INLINE V tanh(V x) {
  const V y = max(splat(-60), mul(abs(x), splat(-2)));
  const V n = exponentOf(y);
  const V power = scaled(splat(1), n);
  const V e = fma(power, fraction(y, n), sub(power, splat(1)));
  return withSign(div(e, add(e, splat(2))), x);
}

template <uint32_t ACTIVATION>
INLINE V apply(V x) {
  if constexpr (ACTIVATION == abi::ACTIVATION_SIGMOID) return sigmoid(x);
  if constexpr (ACTIVATION == abi::ACTIVATION_SILU) return mul(x, sigmoid(x));
  if constexpr (ACTIVATION == abi::ACTIVATION_TANH) return tanh(x);
  if constexpr (ACTIVATION == abi::ACTIVATION_DECAY6) return exp(sub(splat(0), exp(x)));
  // exp(-0.5) is the steepest decay that RWKV-7 allows: exp(-exp(-0.5) * sigmoid(x)).
  if constexpr (ACTIVATION == abi::ACTIVATION_DECAY7) return exp(mul(sigmoid(x), splat(-0.6065306597126334f)));
  if constexpr (ACTIVATION == abi::ACTIVATION_RELU_SQUARED) {
    const V positive = max(splat(0), x);
    return mul(positive, positive);
  }
  return x;
}

template <uint32_t ACTIVATION>
static void applyTo(float* out, const float* x, size_t n) {
  forVectors(n, [=](size_t i, size_t m) { storeUpTo(out + i, apply<ACTIVATION>(loadUpTo(x + i, m)), m); });
}

/** out[i] = f(x[i]); out may be x. */
static void activateSpan(uint32_t activation, float* out, const float* x, size_t n) {
  switch (activation) {
    case abi::ACTIVATION_SIGMOID:
      return applyTo<abi::ACTIVATION_SIGMOID>(out, x, n);
    case abi::ACTIVATION_SILU:
      return applyTo<abi::ACTIVATION_SILU>(out, x, n);
    case abi::ACTIVATION_TANH:
      return applyTo<abi::ACTIVATION_TANH>(out, x, n);
    case abi::ACTIVATION_RELU_SQUARED:
      return applyTo<abi::ACTIVATION_RELU_SQUARED>(out, x, n);
    case abi::ACTIVATION_DECAY6:
      return applyTo<abi::ACTIVATION_DECAY6>(out, x, n);
    case abi::ACTIVATION_DECAY7:
      return applyTo<abi::ACTIVATION_DECAY7>(out, x, n);
    default:
      if (out != x) applyTo<abi::ACTIVATION_NONE>(out, x, n);
  }
}
