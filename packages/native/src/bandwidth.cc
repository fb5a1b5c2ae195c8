#include "bandwidth.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstring>
#include <memory>
#include <thread>
#include <vector>

#include "kernel_set.h"
#include "memory.h"

namespace rwkv {

double readBandwidth(uint32_t nThreads, size_t byteLength, uint32_t nReads) {
  const char* names[2];
  if (usableKernelSets(names) == 0) return 0;
  const KernelSet& kernels = *kernelSet(names[0]);
  const std::unique_ptr<Memory> memory(Memory::reserve());
  if (memory == nullptr) return 0;
  const size_t offset = memory->placeWeight(byteLength);
  if (offset == 0) return 0;
  char* bytes = memory->base() + offset;
  // Pages that were never written are all the same page of zeros, which stays in the cache.
  std::memset(bytes, 1, byteLength);

  const size_t partBytes = byteLength / nThreads / CACHE_LINE * CACHE_LINE;
  std::atomic<uint64_t> total{0};
  double best = 0;
  for (uint32_t read = 0; read < nReads; read++) {
    const auto start = std::chrono::steady_clock::now();
    std::vector<std::thread> threads;
    for (uint32_t i = 0; i < nThreads; i++) {
      threads.emplace_back([&, i] { total += kernels.sumLines(bytes + i * partBytes, partBytes); });
    }
    for (auto& thread : threads) thread.join();
    const std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
    best = std::max(best, static_cast<double>(nThreads * partBytes) / elapsed.count());
  }
  return best;
}

}  // namespace rwkv
