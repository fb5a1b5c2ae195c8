// What a kernel set offers to training: plain functions over rows of f32, called from JavaScript one at a time, on the
// calling thread. They check nothing: bounds are the caller's, who checks them once, in TypeScript.
#pragma once

#include <cstddef>
#include <cstdint>

namespace rwkv {

/**
 * An argument of a call: the first element of a typed array, or null where JavaScript passes null; the table of those of
 * a list of them; or a number.
 */
union TrainArgument {
  void* data;
  double number;
};

constexpr size_t MAX_TRAIN_ARGUMENTS = 32;
/** Typed arrays in a list. */
constexpr size_t MAX_TRAIN_LIST = 8;

struct TrainKernel {
  const char* name;
  /** One character for each argument: 'p' typed array or null, 'l' list, 'n' number. At most MAX_TRAIN_ARGUMENTS. */
  const char* signature;
  /** The result, for kernels that give a number; 0 of the others. */
  double (*call)(const TrainArgument* arguments);
};

struct TrainKernels {
  const char* name;
  const TrainKernel* kernels;
  size_t nKernels;
  /** Elements of the f32 array that is the last argument of kernels which need room. */
  size_t roomElements;
  /** Elements that wkv4Backward needs for each row of the longest run. */
  size_t wkv4RoomElements;
};

/** The kernels of that set (`kernelSet`), or null if there is none or this processor lacks its instructions. */
const TrainKernels* trainKernels(const char* name);

}  // namespace rwkv
