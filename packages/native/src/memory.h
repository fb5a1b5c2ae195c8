// The memory of one program: one range of addresses, reserved at once and backed by pages when touched. Its first part
// grows like a WebAssembly memory and holds tables, rows and states, found by 32-bit offsets; weights lie behind it,
// found by 64-bit offsets from the same base. Files that hold weights as the kernels read them are mapped there instead of
// being copied, so that loading costs nothing and processes share the pages.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <vector>

namespace rwkv {

/** Where weights begin: the part before it can be addressed with 32 bits. */
#ifdef RWKV_EMULATED
// An emulator keeps a note of every page that is reserved (scripts/test-neon.sh).
constexpr size_t FIRST_WEIGHT = size_t{1} << 27;
#else
constexpr size_t FIRST_WEIGHT = size_t{1} << 32;
#endif

class Memory {
 public:
  /** Null if the system gives no range of addresses. */
  static Memory* reserve();
  ~Memory();
  Memory(const Memory&) = delete;
  Memory& operator=(const Memory&) = delete;

  char* base() const { return base_; }
  /** Gives all pages and addresses back now; nothing may use them afterwards. */
  void release();
  /** Offset of a new place for a weight, on a cache line; 0 if the range is used up. */
  size_t placeWeight(size_t byteLength);
  /** Offset of the first bytes of a file, to be read only; 0 if it is shorter than that, or cannot be mapped here. */
  size_t mapFile(int file, size_t byteLength);
  /** Whether the mapped files still are what they were: to read what was cut off one would end the process. */
  bool areFilesUnchanged() const;

 private:
  Memory(char* base, size_t byteLength) : base_(base), byteLength_(byteLength) {}
  char* base_;
  const size_t byteLength_;
  size_t end_ = FIRST_WEIGHT;

  struct MappedFile {
    /** Kept open, to look at. */
    int file;
    off_t byteLength;
    timespec modified;
  };
  std::vector<MappedFile> files_;
};

}  // namespace rwkv
