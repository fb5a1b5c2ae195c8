#include "pool.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "abi.h"

namespace rwkv {

/** About 0.1 ms: longer than any record of a decoded token should keep a thread waiting. */
static constexpr int SPINS = 2000;

static void pauseBriefly() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

void Barrier::sleepUntilNot(uint32_t phase) {
  for (int i = 0; i < SPINS; i++) {
    if (phase_.load(std::memory_order_acquire) != phase) return;
    pauseBriefly();
  }
  while (phase_.load(std::memory_order_acquire) == phase) phase_.wait(phase, std::memory_order_acquire);
}

Pool::Pool(const KernelSet* kernels, uint32_t nThreads)
    : kernels_(kernels), nThreads_(nThreads), barrier_(nThreads), own_(nThreads) {
  for (uint32_t part = 0; part < nThreads; part++) threads_.emplace_back([this, part] { work(part); });
}

Pool::~Pool() {
  {
    std::lock_guard lock(mutex_);
    isEnding_ = true;
  }
  wake_.notify_all();
  for (auto& thread : threads_) thread.join();
  delete current_;
  for (Step* step : line_) delete step;
}

void Pool::submit(Step* step) {
  {
    std::lock_guard lock(mutex_);
    if (current_ != nullptr) {
      line_.push_back(step);
      return;
    }
    current_ = step;
    nStarted_++;
  }
  wake_.notify_all();
}

void Pool::work(uint32_t part) {
  uint64_t nSeen = 0;
  for (;;) {
    const Step* step;
    {
      std::unique_lock lock(mutex_);
      wake_.wait(lock, [&] { return isEnding_ || nStarted_ != nSeen; });
      if (nStarted_ == nSeen) return;
      nSeen = nStarted_;
      step = current_;
    }
    if (part == 0) reserveScratch(*step);
    barrier_.wait([this] { isStopped_ = false; });
    runStep({this, part, nThreads_, own_[part].get(), shared_.get()}, *step);
    Step* finished = nullptr;
    barrier_.wait([&] {
      if (isEnding_) return;
      std::lock_guard lock(mutex_);
      finished = current_;
      current_ = nullptr;
      if (line_.empty()) return;
      current_ = line_.front();
      line_.pop_front();
      nStarted_++;
    });
    if (finished != nullptr) {
      wake_.notify_all();
      finished->done(finished);
    }
  }
}

void Pool::runStep(const Thread& thread, const Step& step) {
  char* base = step.memory->base();
  const auto* abortWord = reinterpret_cast<const uint32_t*>(base + step.context + abi::CONTEXT_ABORT);
  uint32_t record;
  __builtin_memcpy(&record, base + step.context + abi::CONTEXT_RECORDS, sizeof record);
  for (uint32_t i = 0; i < step.nRecords; i++, record += abi::RECORD_BYTES) {
    uint32_t needsBarrier;
    __builtin_memcpy(&needsBarrier, base + record + abi::RECORD_BARRIER, sizeof needsBarrier);
    if (needsBarrier != 0) {
      // JavaScript may set the word at any time, so it is read once for all threads.
      barrier_.wait([&] { isStopped_ = isEnding_ || __atomic_load_n(abortWord, __ATOMIC_RELAXED) != 0; });
      if (isStopped_) return;
    }
    kernels_->run(base, step.context, record, thread);
  }
}

void Pool::meet() {
  barrier_.wait([] {});
}

uint32_t Pool::meetings() const { return barrier_.phase(); }

void Pool::reserveScratch(const Step& step) {
  const ScratchBytes needed = kernels_->scratchBytes(step.memory->base(), step.context, step.nRecords);
  if (needed.shared > scratch_.shared) {
    shared_.reset(new char[needed.shared]);
    scratch_.shared = needed.shared;
  }
  if (needed.own > scratch_.own) {
    for (auto& own : own_) own.reset(new char[needed.own]);
    scratch_.own = needed.own;
  }
}

}  // namespace rwkv
