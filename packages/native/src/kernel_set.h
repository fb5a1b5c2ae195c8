// What a kernel set offers: the replay of one record by one thread, and the layout that matrices are kept in. The sets
// are compiled from the same sources (kernels/) for different instructions.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rwkv {

/** The threads of a step, seen from one of them. */
class Team {
 public:
  virtual ~Team() = default;
  /** Returns when all threads have called it; what they wrote before is visible afterwards. */
  virtual void meet() = 0;
  /** How often the threads have met, here and at barriers between records: the same for all until they meet again. */
  virtual uint32_t meetings() const = 0;
};

/** What one thread works with. */
struct Thread {
  Team* team;
  uint32_t part;
  uint32_t nParts;
  /** For this thread alone; `scratchBytes` of the step. */
  char* own;
  /** For all threads together, likewise. */
  char* shared;
};

struct ScratchBytes {
  size_t own;
  size_t shared;
};

struct KernelSet {
  const char* name;
  /** Brings the rows of a matrix into the order `layout` (LAYOUT_...), in place; there is room for it. */
  void (*pack)(char* bytes, uint32_t layout, uint32_t dtype, size_t nOut, size_t nIn, size_t rowBytes);
  /** Room that the records of this step need. */
  ScratchBytes (*scratchBytes)(const char* base, uint32_t context, uint32_t nRecords);
  /** Runs this thread's part of a record; all parts must be done before a record that asks for it (RECORD_BARRIER). */
  void (*run)(char* base, uint32_t context, uint32_t record, const Thread& thread);
  /** The sum of numbers of 64 bits, whole cache lines of them: nothing but a read of memory. */
  uint64_t (*sumLines)(const char* bytes, size_t byteLength);
};

constexpr size_t CACHE_LINE = 64;

/** Outputs that lie together in a packed matrix; the last panel is filled up with zeros. */
constexpr size_t PANEL = 16;

/** The set of that name, or null if there is none or this processor lacks its instructions. */
const KernelSet* kernelSet(const char* name);

/** Names of the sets that this processor can run, best first; returns how many. */
size_t usableKernelSets(const char* names[2]);

}  // namespace rwkv
