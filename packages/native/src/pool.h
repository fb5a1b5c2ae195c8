// The threads that run steps. They sleep between steps; within one they meet at barriers, where they spin for a moment
// and then sleep. Steps of all programs wait in one line.
#pragma once

#include <atomic>
#include <condition_variable>
#include <deque>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "kernel_set.h"
#include "memory.h"

namespace rwkv {

/** One run of a command list. */
struct Step {
  std::shared_ptr<Memory> memory;
  uint32_t context;
  uint32_t nRecords;
  /** Called by the thread that finishes last, which then forgets the step. */
  void (*done)(Step*);
  /** For `done`. */
  void* data;
};

class Barrier {
 public:
  explicit Barrier(uint32_t nThreads) : nThreads_(nThreads) {}
  /** @param last runs `f` while all others wait, if this thread is the last to arrive */
  template <typename F>
  void wait(F f) {
    const uint32_t phase = phase_.load(std::memory_order_relaxed);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == nThreads_) {
      f();
      arrived_.store(0, std::memory_order_relaxed);
      phase_.store(phase + 1, std::memory_order_release);
      phase_.notify_all();
      return;
    }
    sleepUntilNot(phase);
  }
  /** How often all have waited; a thread on its way between two waits sees one number. */
  uint32_t phase() const { return phase_.load(std::memory_order_relaxed); }

 private:
  void sleepUntilNot(uint32_t phase);
  const uint32_t nThreads_;
  alignas(64) std::atomic<uint32_t> arrived_{0};
  alignas(64) std::atomic<uint32_t> phase_{0};
};

class Pool : private Team {
 public:
  Pool(const KernelSet* kernels, uint32_t nThreads);
  /** Stops the step in progress at its next record and drops those in line; `done` is not called for them. */
  ~Pool() override;

  const KernelSet* kernels() const { return kernels_; }
  /** Puts a step in line; takes it over. */
  void submit(Step* step);

 private:
  void work(uint32_t part);
  void runStep(const Thread& thread, const Step& step);
  void meet() override;
  uint32_t meetings() const override;
  void reserveScratch(const Step& step);

  const KernelSet* kernels_;
  const uint32_t nThreads_;
  Barrier barrier_;
  /** Decided by the last to arrive at a barrier, so that all threads leave at the same record. */
  bool isStopped_ = false;
  std::atomic<bool> isEnding_{false};
  std::vector<std::unique_ptr<char[]>> own_;
  std::unique_ptr<char[]> shared_;
  ScratchBytes scratch_{0, 0};

  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<Step*> line_;
  Step* current_ = nullptr;
  uint64_t nStarted_ = 0;
  std::vector<std::thread> threads_;
};

}  // namespace rwkv
