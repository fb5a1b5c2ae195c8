// What the optimiser does to one tensor.

/** In f64: lane l takes the i with i mod 8 = l, then the lanes in order. */
static double sumOfSquares(const float* x, size_t nElements) {
  double lanes[8] = {};
  size_t i = 0;
  for (; i + 8 <= nElements; i += 8) {
    UNROLL for (size_t l = 0; l < 8; l++) {
      const double value = static_cast<double>(x[i + l]);
      lanes[l] += value * value;
    }
  }
  for (size_t l = 0; i < nElements; i++, l++) lanes[l] += static_cast<double>(x[i]) * static_cast<double>(x[i]);
  double total = 0;
  for (const double lane : lanes) total += lane;
  return total;
}

static void adamw(float* weight, float* m, float* v, const float* gradient, size_t nElements, double rate,
                  double beta1, double beta2, double eps, double decay, double correction1, double correction2,
                  double gradientScale) {
  const auto splatOf = [](double value) { return splat(static_cast<float>(value)); };
  const V keepM = splatOf(beta1);
  const V addM = splatOf(1 - beta1);
  const V keepV = splatOf(beta2);
  const V addV = splatOf(1 - beta2);
  // rate / correction1 and 1 / correction2 in f64, so that each costs one rounding.
  const V step = splatOf(rate / correction1);
  const V scaleV = splatOf(1 / correction2);
  const V epsilon = splatOf(eps);
  const V shrink = splatOf(rate * decay);
  const V scale = splatOf(gradientScale);
  forVectors(nElements, [=](size_t i, size_t n) {
    const V g = mul(loadUpTo(gradient + i, n), scale);
    const V mi = fma(loadUpTo(m + i, n), keepM, mul(g, addM));
    const V vi = fma(loadUpTo(v + i, n), keepV, mul(mul(g, g), addV));
    const V w = loadUpTo(weight + i, n);
    const V towards = div(mul(mi, step), add(root(mul(vi, scaleV)), epsilon));
    storeUpTo(m + i, mi, n);
    storeUpTo(v + i, vi, n);
    storeUpTo(weight + i, sub(fnma(w, shrink, w), towards), n);
  });
}
