// Which kernel sets were built, and which of them this processor can run.

#include "kernel_set.h"

#include <cstring>

namespace rwkv {

#ifdef RWKV_X64

namespace avx2 {
extern const KernelSet KERNELS;
}
namespace avx512 {
extern const KernelSet KERNELS;
}

static bool hasAvx2() {
  return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") && __builtin_cpu_supports("f16c");
}

static bool hasAvx512() {
  return hasAvx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
         __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
         __builtin_cpu_supports("avx512vnni");
}

size_t usableKernelSets(const char* names[2]) {
  size_t n = 0;
  if (hasAvx512()) names[n++] = avx512::KERNELS.name;
  if (hasAvx2()) names[n++] = avx2::KERNELS.name;
  return n;
}

const KernelSet* kernelSet(const char* name) {
  if (hasAvx512() && std::strcmp(name, avx512::KERNELS.name) == 0) return &avx512::KERNELS;
  if (hasAvx2() && std::strcmp(name, avx2::KERNELS.name) == 0) return &avx2::KERNELS;
  return nullptr;
}

#else

size_t usableKernelSets(const char*[2]) { return 0; }

const KernelSet* kernelSet(const char*) { return nullptr; }

#endif

}  // namespace rwkv
