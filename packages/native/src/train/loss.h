// Softmax cross-entropy, forward and backward in one pass over a row.

static void crossEntropy(float* losses, float* dLogits, const float* logits, const int32_t* targets,
                         const float* weights, size_t nRows, size_t vocab, float pull) {
  for (size_t row = 0; row < nRows; row++) {
    const float* x = logits + row * vocab;
    float* dx = dLogits == nullptr ? nullptr : dLogits + row * vocab;
    const int32_t target = targets[row];
    if (target < 0) {
      losses[row] = 0;
      if (dx != nullptr) __builtin_memset(dx, 0, vocab * sizeof(float));
      continue;
    }
    V greatest = splat(x[0]);
    // Lanes behind the last element repeat the first.
    forVectors(vocab, [&](size_t i, size_t n) {
      if (n == W) {
        greatest = max(load(x + i), greatest);
      } else {
        for (; i < vocab; i++) greatest = max(splat(x[i]), greatest);
      }
    });
    const float most = greatestOf(greatest);
    size_t argmax = 0;
    if (dx != nullptr && pull != 0) {
      while (argmax + 1 < vocab && x[argmax] != most) argmax++;
    }
    const float targetLogit = x[target];
    const V shift = splat(most);
    V sums = splat(0);
    // dLogits may be logits: each vector is read before its place is written.
    forVectors(vocab, [&](size_t i, size_t n) {
      V e = exp(sub(loadUpTo(x + i, n), shift));
      if (n < W) e = firstOf(e, n);
      if (dx != nullptr) storeUpTo(dx + i, e, n);
      sums = add(sums, e);
    });
    const float total = sum(sums);
    losses[row] = static_cast<float>(__builtin_log(static_cast<double>(total)) +
                                     (static_cast<double>(most) - static_cast<double>(targetLogit)));
    if (dx == nullptr) continue;
    const V scale = splat(weights[row] / total);
    forVectors(vocab, [=](size_t i, size_t n) { storeUpTo(dx + i, mul(loadUpTo(dx + i, n), scale), n); });
    dx[target] -= weights[row];
    if (pull != 0) dx[argmax] += weights[row] * pull * most;
  }
}
