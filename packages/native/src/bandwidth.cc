#include "bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "memory.h"

namespace rwkv {

/** A cache line; the compiler splits it into the vectors that every processor of the architecture has. */
typedef uint64_t Line __attribute__((vector_size(64)));

/** Several sums, so that no load waits for the addition before it. */
static uint64_t sumLines(const Line* lines, size_t nLines) {
  Line sums[4] = {};
  for (size_t i = 0; i + 4 <= nLines; i += 4) {
    for (size_t j = 0; j < 4; j++) sums[j] += lines[i + j];
  }
  const Line sum = sums[0] + sums[1] + sums[2] + sums[3];
  uint64_t total = 0;
  for (int i = 0; i < 8; i++) total += sum[i];
  return total;
}

double readBandwidth(uint32_t nThreads, size_t byteLength, uint32_t nReads) {
  const std::unique_ptr<Memory> memory(Memory::reserve());
  if (memory == nullptr) return 0;
  const size_t offset = memory->placeWeight(byteLength);
  if (offset == 0) return 0;
  char* bytes = memory->base() + offset;
  // Pages that were never written are all the same page of zeros, which stays in the cache.
  std::memset(bytes, 1, byteLength);

  const auto* lines = reinterpret_cast<const Line*>(bytes);
  const size_t nLines = byteLength / sizeof(Line) / nThreads;
  std::atomic<uint64_t> total{0};
  double best = 0;
  for (uint32_t read = 0; read < nReads; read++) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < nThreads; i++) {
      threads.emplace_back([&, i] { total += sumLines(lines + i * nLines, nLines); });
    }
    for (auto& thread : threads) thread.join();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(nThreads * nLines * sizeof(Line)) / elapsed.count());
  }
  return best;
}

}  // namespace rwkv
