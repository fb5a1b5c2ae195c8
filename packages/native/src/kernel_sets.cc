// Which kernel sets were built, and which of them this processor can run.

#include "kernel_set.h"
#include "train_kernels.h"

#include <cstring>

#if defined(RWKV_ARM64) && defined(__APPLE__)
#include <sys/sysctl.h>
#elif defined(RWKV_ARM64)
#include <sys/auxv.h>
#endif

namespace rwkv {

#ifdef RWKV_X64

namespace avx2 {
extern const KernelSet KERNELS;
}
namespace avx512 {
extern const KernelSet KERNELS;
}
namespace avx2_train {
extern const TrainKernels KERNELS;
}
namespace avx512_train {
extern const TrainKernels KERNELS;
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

const TrainKernels* trainKernels(const char* name) {
  if (hasAvx512() && std::strcmp(name, avx512_train::KERNELS.name) == 0) return &avx512_train::KERNELS;
  if (hasAvx2() && std::strcmp(name, avx2_train::KERNELS.name) == 0) return &avx2_train::KERNELS;
  return nullptr;
}

#elif defined(RWKV_ARM64)

// One set for JavaScript: which of the two runs changes no bit.
namespace neon {
extern const KernelSet KERNELS;
}
namespace neon_dot {
extern const KernelSet KERNELS;
}
namespace neon_train {
extern const TrainKernels KERNELS;
}

/** Whether the processor multiplies and adds four pairs of 8-bit numbers at once (FEAT_DotProd). */
static bool hasDotProducts() {
#ifdef __APPLE__
  int value = 0;
  size_t byteLength = sizeof value;
  return sysctlbyname("hw.optional.arm.FEAT_DotProd", &value, &byteLength, nullptr, 0) == 0 && value != 0;
#else
  return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
#endif
}

size_t usableKernelSets(const char* names[2]) {
  names[0] = neon::KERNELS.name;
  return 1;
}

const KernelSet* kernelSet(const char* name) {
  if (std::strcmp(name, neon::KERNELS.name) != 0) return nullptr;
  return hasDotProducts() ? &neon_dot::KERNELS : &neon::KERNELS;
}

const TrainKernels* trainKernels(const char* name) {
  return std::strcmp(name, neon_train::KERNELS.name) == 0 ? &neon_train::KERNELS : nullptr;
}

#else

size_t usableKernelSets(const char*[2]) { return 0; }

const KernelSet* kernelSet(const char*) { return nullptr; }

const TrainKernels* trainKernels(const char*) { return nullptr; }

#endif

}  // namespace rwkv
