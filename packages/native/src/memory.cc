#include "memory.h"

#include <sys/mman.h>
#include <unistd.h>

namespace rwkv {

/** Weights beyond what the machine holds would only swap; addresses themselves cost nothing. */
static size_t weightBytes() {
#ifdef RWKV_EMULATED
  return FIRST_WEIGHT;
#else
  return static_cast<size_t>(sysconf(_SC_PHYS_PAGES)) * static_cast<size_t>(sysconf(_SC_PAGESIZE)) * 2;
#endif
}

/** Cache lines. Not huge pages: weights stand close together, so that no part of a huge page is wasted. */
static constexpr size_t ALIGNMENT = 64;

Memory* Memory::reserve() {
  const size_t byteLength = FIRST_WEIGHT + weightBytes();
  void* base = mmap(nullptr, byteLength, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (base == MAP_FAILED) return nullptr;
#ifdef MADV_HUGEPAGE
  // A step touches many more pages than a processor keeps translations of.
  madvise(base, byteLength, MADV_HUGEPAGE);
#endif
  return new Memory(static_cast<char*>(base), byteLength);
}

Memory::~Memory() { release(); }

void Memory::release() {
  if (base_ != nullptr) munmap(base_, byteLength_);
  base_ = nullptr;
}

size_t Memory::placeWeight(size_t byteLength) {
  const size_t start = (end_ + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (start > byteLength_ || byteLength > byteLength_ - start) return 0;
  end_ = start + byteLength;
  return start;
}

}  // namespace rwkv
