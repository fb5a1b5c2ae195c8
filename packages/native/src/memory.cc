#include "memory.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
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

/** Where huge pages begin. Pages of a file are huge as well, where the system keeps it in huge pieces. */
static constexpr size_t HUGE_PAGE = size_t{2} << 20;

static timespec modifiedAt(const struct stat& status) {
#ifdef __APPLE__
  return status.st_mtimespec;
#else
  return status.st_mtim;
#endif
}

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
  for (const MappedFile& mapped : files_) close(mapped.file);
  files_.clear();
}

size_t Memory::placeWeight(size_t byteLength) {
  const size_t start = (end_ + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  if (start > byteLength_ || byteLength > byteLength_ - start) return 0;
  end_ = start + byteLength;
  return start;
}

size_t Memory::mapFile(int file, size_t byteLength) {
  struct stat status;
  if (fstat(file, &status) != 0 || static_cast<size_t>(status.st_size) < byteLength || byteLength == 0) return 0;
  // Huge pages count from address 0, not from the base.
  const size_t address = (reinterpret_cast<size_t>(base_) + end_ + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;
  const size_t start = address - reinterpret_cast<size_t>(base_);
  if (start > byteLength_ || byteLength > byteLength_ - start) return 0;
  const int kept = fcntl(file, F_DUPFD_CLOEXEC, 0);
  if (kept < 0) return 0;
  if (mmap(base_ + start, byteLength, PROT_READ, MAP_PRIVATE | MAP_FIXED, kept, 0) == MAP_FAILED) {
    close(kept);
    return 0;
  }
#ifdef MADV_HUGEPAGE
  madvise(base_ + start, byteLength, MADV_HUGEPAGE);
#endif
  files_.push_back({kept, status.st_size, modifiedAt(status)});
  end_ = start + (byteLength + HUGE_PAGE - 1) / HUGE_PAGE * HUGE_PAGE;  // the last page belongs to the file
  return start;
}

bool Memory::areFilesUnchanged() const {
  for (const MappedFile& mapped : files_) {
    struct stat status;
    if (fstat(mapped.file, &status) != 0 || status.st_size != mapped.byteLength) return false;
    const timespec modified = modifiedAt(status);
    if (modified.tv_sec != mapped.modified.tv_sec || modified.tv_nsec != mapped.modified.tv_nsec) return false;
  }
  return true;
}

}  // namespace rwkv
